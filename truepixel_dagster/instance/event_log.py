"""Keep the connections of Dagster's SQLite event log open.

Dagster's own storage creates an engine and a connection for every event, which takes four fifths of a short step. This
storage keeps one connection for each file in use and lets SQLite sync at checkpoints only (`synchronous=NORMAL`, safe
with the write-ahead log: a crash of the process loses nothing). In dagster.yaml:

    event_log_storage:
      module: truepixel_dagster.instance.event_log
      class: PooledSqliteEventLogStorage
      config:
        base_dir: /the/absolute/DAGSTER_HOME

Private: the base class of the storage, and the columns of an event. There is no public way: Dagster's own storage has
an option for its folder, and none for its connections.

If the installed version of Dagster was not tested, Dagster's own storage does all the work.
"""

from __future__ import annotations

import os
import sqlite3
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, cast

import dagster
import sqlalchemy
from dagster._core.events import ASSET_CHECK_EVENTS, ASSET_EVENTS, EVENT_TYPE_TO_PIPELINE_RUN_STATUS
from dagster._core.events.log import EventLogEntry
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.storage.event_log.schema import SqlEventLogStorageTable
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from dagster._serdes import ConfigurableClassData
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.pool import StaticPool

TESTED = "1.13."
MAX_OPEN = 16
# The statement for the driver, compiled once: SQLAlchemy would compile it for each event.
COLUMNS = ["run_id", "event", "dagster_event_type", "timestamp", "step_key", "asset_key", "partition"]
INSERT = str(SqlEventLogStorageTable.insert().compile(dialect=sqlite.dialect(), column_keys=COLUMNS))
# SQLAlchemy's format of a time in SQLite.
MOMENT = "%Y-%m-%d %H:%M:%S.%f"
# The events that Dagster's own storage also writes to its index.
MIRRORED = ASSET_EVENTS | ASSET_CHECK_EVENTS | EVENT_TYPE_TO_PIPELINE_RUN_STATUS.keys()


def is_tested() -> bool:
    """Return whether the pooled event logs were tested with the installed version of Dagster."""
    return dagster.__version__.startswith(TESTED)


class _File(NamedTuple):
    """Hold a file in use: SQLAlchemy's engine with its one connection, and the driver's connection itself."""

    engine: Engine
    driver: sqlite3.Connection


class PooledSqliteEventLogStorage(SqliteEventLogStorage):
    """Keep one connection for each of the 16 files used last.

    One connection is enough: the base class holds its lock while a connection is in use.
    """

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        self._files: OrderedDict[str, _File] = OrderedDict()
        super().__init__(str(Path(base_dir) / "history" / "runs"), inst_data)

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Any
    ) -> PooledSqliteEventLogStorage:
        """Create the storage from the `config` of dagster.yaml."""
        return cls(inst_data=inst_data, **config_value)

    def store_event(self, event: EventLogEntry) -> None:
        """Write an event. Events that concern only their step use a statement that is compiled once."""
        kind = event.dagster_event_type if event.is_dagster_event else None
        if not is_tested() or kind is None or kind in MIRRORED:
            super().store_event(event)
            return
        row = self._event_to_row(event)
        row["timestamp"] = row["timestamp"].strftime(MOMENT)
        with self._db_lock, self._file(event.run_id).driver as transaction:
            transaction.execute(INSERT, tuple(row[column] for column in COLUMNS))

    @contextmanager
    def _connect(self, shard: str) -> Iterator[Connection]:
        if not is_tested():
            with super()._connect(shard) as connection:
                yield connection
            return
        with self._db_lock, self._file(shard).engine.connect() as connection, connection.begin():
            yield connection

    def _file(self, shard: str) -> _File:
        file = self._files.get(shard)
        # Nobody would read an event in a file that was deleted meanwhile (of a pruned run).
        if file is not None and os.path.exists(self.path_for_shard(shard)):  # noqa: PTH110 (for each event)
            self._files.move_to_end(shard)
            return file
        if file is not None:
            file.engine.dispose()
            self._initialized_dbs.discard(shard)
        engine = sqlalchemy.create_engine(
            self.conn_string_for_shard(shard),
            poolclass=StaticPool,
            connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS, "check_same_thread": False},
        )
        if shard not in self._initialized_dbs:
            self._initdb(engine)
            self._initialized_dbs.add(shard)
        with engine.connect() as connection:
            connection.execute(sqlalchemy.text("PRAGMA synchronous=NORMAL"))
        driver = cast("sqlite3.Connection", engine.raw_connection().driver_connection)
        self._files[shard] = file = _File(engine, driver)
        while len(self._files) > MAX_OPEN:
            _, oldest = self._files.popitem(last=False)
            oldest.engine.dispose()
        return file

    def dispose(self) -> None:
        """Close the connections."""
        super().dispose()
        with self._db_lock:
            while self._files:
                self._files.popitem()[1].engine.dispose()
