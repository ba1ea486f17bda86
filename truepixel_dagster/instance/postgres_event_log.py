"""Keep the connections of Dagster's PostgreSQL event log open.

Dagster's own storage opens a connection for every event, and each connection is a process of the server. This storage
keeps open one connection to write events and two for all else, and opens a few more for concurrent threads. In
dagster.yaml:

    event_log_storage:
      module: truepixel_dagster.instance.postgres_event_log
      class: PooledPostgresEventLogStorage
      config:
        postgres_url: {env: TRUEPIXEL_POSTGRES_URL}

A restart of the server loses no event: connecting is retried for some seconds as in Dagster's own storage, an event
whose connection broke is written again unless it has arrived, and other connections are tested before they are used.

Private: the columns of an event, and which events are of assets. The public base class has options for the server's
address, and none for its pool.

If the installed version of Dagster was not tested, Dagster's own storage does all the work.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from weakref import WeakSet

import sqlalchemy as sa
from dagster._core.events import ASSET_CHECK_EVENTS, ASSET_EVENTS
from dagster._core.events.log import EventLogEntry
from dagster._core.storage.event_log.schema import SqlEventLogStorageTable
from dagster._serdes import ConfigurableClassData
from dagster_postgres import PostgresEventLogStorage
from dagster_postgres.utils import (
    create_pg_connection,
    create_pg_engine,
    get_token_provider_from_config,
    pg_url_from_config,
)
from sqlalchemy.engine import Engine
from sqlalchemy.exc import DBAPIError

from truepixel_dagster.instance.event_log import is_tested

KEPT_OPEN = 2
# Dagster's own methods ask for a second connection while they hold a first one: threads must not wait for each other.
MORE_AT_ONCE = 6
# Older connections may have been dropped by firewalls and proxies.
RECYCLE_SECONDS = 300
TRIES = 5
INSERT = SqlEventLogStorageTable.insert().returning(SqlEventLogStorageTable.c.id)
EVENTS = SqlEventLogStorageTable.c

Written = TypeVar("Written")


class PooledPostgresEventLogStorage(PostgresEventLogStorage):
    """Keep connections open, at most nine per process.

    The arguments are those of Dagster's storage.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._writing = self._engine
        if is_tested():
            self._engine = self._pool(pool_size=KEPT_OPEN, max_overflow=MORE_AT_ONCE, pool_pre_ping=True)
            # Testing the connection first would be a second round trip for each event.
            self._writing = self._pool(pool_size=1, max_overflow=0)
        _storages.add(self)

    def _pool(self, **options: Any) -> Engine:
        return create_pg_engine(
            self.postgres_url,
            self._token_provider,
            isolation_level="AUTOCOMMIT",
            pool_recycle=RECYCLE_SECONDS,
            **options,
        )

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> PooledPostgresEventLogStorage:
        """Create the storage from the `config` of dagster.yaml."""
        return cls(
            postgres_url=pg_url_from_config(config_value),
            should_autocreate_tables=config_value.get("should_autocreate_tables", True),
            inst_data=inst_data,
            token_provider=get_token_provider_from_config(config_value),
        )

    def store_event(self, event: EventLogEntry) -> None:
        """Write an event, with its effects on assets and their checks.

        Omit the notification that Dagster's own storage sends for very old versions: each one waits for a lock of the
        whole server.
        """
        if not is_tested():
            super().store_event(event)
            return
        event_id = self._insert(self._event_to_row(event))
        kind = event.dagster_event_type if event.is_dagster_event else None
        if kind in ASSET_EVENTS and event.get_dagster_event().asset_key:
            self._again_if_it_breaks(lambda: self._store_of_asset(event, event_id))
        if kind in ASSET_CHECK_EVENTS:
            self._again_if_it_breaks(lambda: self.store_asset_check_event(event, event_id))

    def _insert(self, row: dict[str, Any]) -> int:
        """Insert an event by one statement that commits by itself, so that ids become visible in their order."""
        tried = False

        def insert() -> int:
            nonlocal tried
            with create_pg_connection(self._writing) as connection:
                # The server may have committed the row without being able to acknowledge it.
                arrived = connection.scalar(_same(row)) if tried else None
                tried = True
                return int(arrived or connection.execute(INSERT, row).scalar_one())

        return self._again_if_it_breaks(insert)

    def _store_of_asset(self, event: EventLogEntry, event_id: int) -> None:
        with self.index_transaction() as connection:
            self._store_asset_event_tags(connection, [event], [event_id])
            self._store_asset_event(connection, event, event_id)

    def _again_if_it_breaks(self, write: Callable[[], Written]) -> Written:
        for _ in range(TRIES - 1):
            try:
                return write()
            except DBAPIError as error:
                if not error.connection_invalidated:
                    raise
        return write()

    def optimize_for_webserver(self, statement_timeout: int, pool_recycle: int, max_overflow: int) -> None:
        """Replace this pool by the webserver's, and close this pool's connections."""
        before = self._engine
        super().optimize_for_webserver(statement_timeout, pool_recycle, max_overflow)
        before.dispose()

    def dispose(self) -> None:
        """Close the connections."""
        super().dispose()
        for engine in (self._engine, self._writing):
            engine.dispose()


def _same(row: dict[str, Any]) -> sa.Select[Any]:
    return sa.select(EVENTS.id).where(EVENTS.run_id == row["run_id"], EVENTS.event == row["event"])


_storages: WeakSet[PooledPostgresEventLogStorage] = WeakSet()


def _leave_connections_to_parent() -> None:
    """Open new connections after a fork: two processes on one connection would corrupt it."""
    for storage in _storages:
        for engine in (storage._engine, storage._writing):
            engine.dispose(close=False)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_connections_to_parent)
