"""Limit Dagster's history: remove old runs with their logs and files, and keep what they reported about assets.

Dagster's own `delete_run` also removes a run's materializations, observations and check results, and with them plots
and the state of partitions. Here they stay until they are old themselves; the newest of each partition always stays.

Private: the tables of the event log. The public ways, `delete_run` and `wipe_assets`, delete all of a run or all of
an asset.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from datetime import datetime, timedelta
from pathlib import Path

import dagster as dg
import msgspec
import sqlalchemy as sa
from dagster._core.storage.event_log import SqlEventLogStorage, SqliteEventLogStorage
from dagster._core.storage.event_log.schema import (
    AssetCheckExecutionsTable,
    AssetEventTagsTable,
    SqlEventLogStorageTable,
)

EVENTS = SqlEventLogStorageTable.c
CHECKS = AssetCheckExecutionsTable.c
OF_ASSETS = (
    dg.DagsterEventType.ASSET_MATERIALIZATION.value,
    dg.DagsterEventType.ASSET_OBSERVATION.value,
    dg.DagsterEventType.ASSET_CHECK_EVALUATION.value,
)
SUCCEEDED = (dg.DagsterRunStatus.SUCCESS,)
FAILED = (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
PAGE = 100
# A file is rewritten only if a quarter of it is empty; until then Dagster fills the gaps.
EMPTY_SHARE = 0.25


class Pruned(msgspec.Struct, frozen=True):
    """The numbers of removed runs and asset events, and the bytes of Dagster's home before and after.

    The bytes are 0 if the history is not on this machine.
    """

    runs: int
    asset_events: int
    bytes_before: int
    bytes_after: int

    @property
    def freed(self) -> int:
        """Return the freed bytes."""
        return max(0, self.bytes_before - self.bytes_after)


def prune(
    instance: dg.DagsterInstance, now: datetime, *, successful: timedelta, failed: timedelta, assets: timedelta
) -> Pruned:
    """Remove runs and asset events that are older than the given limits.

    Arguments:
        instance: Dagster's instance, on SQLite or on a server.
        now: The time, with a time zone.
        successful: How long a successful run is kept, from its end.
        failed: How long a failed or cancelled run is kept.
        assets: How long the materializations, observations and check results of assets are kept.
    """
    home = _home(instance)
    before = disk_use(home)
    runs = 0
    for statuses, kept in ((SUCCEEDED, successful), (FAILED, failed)):
        for run_ids in _older(instance, statuses, now - kept):
            for run_id in run_ids:
                remove_run(instance, run_id)
            runs += len(run_ids)
    events = _remove_asset_events(_event_log(instance), now - assets)
    if home is not None:
        _shrink(home)
    return Pruned(runs, events, before, disk_use(home))


def remove_run(instance: dg.DagsterInstance, run_id: str) -> None:
    """Remove a run with its log, its output and its files, but not its events of assets."""
    storage = _event_log(instance)
    with storage.index_connection() as connection:
        kept = EVENTS.dagster_event_type.in_(OF_ASSETS)
        rest = sa.or_(EVENTS.dagster_event_type.is_(None), sa.not_(kept))
        connection.execute(sa.delete(SqlEventLogStorageTable).where(EVENTS.run_id == run_id, rest))
    if isinstance(storage, SqliteEventLogStorage):
        shard = Path(storage.path_for_shard(run_id))
        for path in shard.parent.glob(f"{shard.name}*"):
            path.unlink(missing_ok=True)
    with suppress(NotImplementedError):
        instance.compute_log_manager.delete_logs(prefix=[run_id])
    home = _home(instance)
    if home is not None:
        shutil.rmtree(Path(instance.storage_directory()) / run_id, ignore_errors=True)
    # Last: a run that is still listed is removed again by the next pruning.
    instance.run_storage.delete_run(run_id)


def disk_use(folder: Path | None) -> int:
    """Return the bytes of the files in a folder; 0 without a folder."""
    if folder is None:
        return 0
    total = 0
    for path in folder.rglob("*"):
        # Other processes write and remove files there meanwhile.
        with suppress(OSError):
            total += path.lstat().st_size if path.is_file() else 0
    return total


def _older(
    instance: dg.DagsterInstance, statuses: Sequence[dg.DagsterRunStatus], moment: datetime
) -> Iterator[list[str]]:
    """Yield the ended runs that were last updated before a moment, page by page; the caller must remove each page."""
    wanted = dg.RunsFilter(statuses=list(statuses), updated_before=moment)
    while records := instance.get_run_records(wanted, limit=PAGE):
        yield [record.dagster_run.run_id for record in records]


def _remove_asset_events(storage: SqlEventLogStorage, moment: datetime) -> int:
    old = datetime.fromtimestamp(moment.timestamp(), tz=moment.tzinfo).replace(tzinfo=None)
    newest = (
        sa.select(sa.func.max(EVENTS.id))
        .where(EVENTS.dagster_event_type.in_(OF_ASSETS))
        .group_by(EVENTS.asset_key, EVENTS.partition, EVENTS.dagster_event_type)
    )
    gone = sa.and_(EVENTS.dagster_event_type.in_(OF_ASSETS), EVENTS.timestamp < old, EVENTS.id.not_in(newest))
    newest_checks = sa.select(sa.func.max(CHECKS.id)).group_by(CHECKS.asset_key, CHECKS.check_name)
    old_checks = sa.and_(CHECKS.create_timestamp < old, CHECKS.id.not_in(newest_checks))
    with storage.index_connection() as connection:
        of_gone = sa.select(EVENTS.id).where(gone)
        connection.execute(sa.delete(AssetEventTagsTable).where(AssetEventTagsTable.c.event_id.in_(of_gone)))
        removed = connection.execute(sa.delete(SqlEventLogStorageTable).where(gone)).rowcount
        connection.execute(sa.delete(AssetCheckExecutionsTable).where(old_checks))
    return int(removed)


def _shrink(home: Path) -> None:
    """Release the empty space that deletions have left in SQLite's files."""
    for path in home.rglob("*.db"):
        # The next pruning handles a busy file.
        with suppress(sqlite3.OperationalError), closing(_open(path)) as file:
            (pages,) = file.execute("PRAGMA page_count").fetchone()
            (empty,) = file.execute("PRAGMA freelist_count").fetchone()
            if empty > pages * EMPTY_SHARE:
                file.execute("VACUUM")
            file.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _open(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=5, isolation_level=None)


def _event_log(instance: dg.DagsterInstance) -> SqlEventLogStorage:
    storage = instance.event_log_storage
    if not isinstance(storage, SqlEventLogStorage):
        raise dg.DagsterInvariantViolationError(f"history in a {type(storage).__name__} cannot be pruned")
    return storage


def _home(instance: dg.DagsterInstance) -> Path | None:
    return Path(instance.root_directory) if isinstance(instance.event_log_storage, SqliteEventLogStorage) else None
