"""The pooled event log in SQLite files."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import dagster as dg
import pytest

from tests.event_log import EventLogPromises, batches, home, seen

POOLED = """
event_log_storage:
  module: truepixel_dagster.instance.event_log
  class: PooledSqliteEventLogStorage
  config:
    base_dir: {home}
"""


@pytest.fixture
def pooled(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.from_config(home(tmp_path / "pooled", POOLED)) as instance:
        yield instance


@pytest.fixture
def own(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.from_config(home(tmp_path / "own", "")) as instance:
        yield instance


class TestSqlite(EventLogPromises):
    """The guarantees of every pooled event log."""


def test_with_an_untested_version_dagsters_own_storage_writes(
    pooled: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dg, "__version__", "9.0.0")
    run_id = batches.execute_in_process(instance=pooled).run_id
    assert len(seen(pooled, run_id)) > 30
    assert set(pooled.event_log_storage._files) <= {"index"}  # type: ignore[attr-defined]


def test_the_rows_are_what_dagsters_own_storage_writes(pooled: dg.DagsterInstance, own: dg.DagsterInstance) -> None:
    run_id = batches.execute_in_process(instance=pooled).run_id
    for entry in pooled.all_logs(run_id):
        own.event_log_storage.store_event(entry)
    assert rows(pooled, run_id) == rows(own, run_id)
    assert len(rows(own, run_id)) > 30


def rows(instance: dg.DagsterInstance, run_id: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(Path(instance.root_directory, "history", "runs", f"{run_id}.db"))) as file:
        return file.execute("SELECT * FROM event_logs ORDER BY id").fetchall()


def test_a_pruned_file_is_recreated(pooled: dg.DagsterInstance) -> None:
    run_id = batches.execute_in_process(instance=pooled).run_id
    for file in Path(pooled.root_directory, "history", "runs").glob(f"{run_id}.db*"):
        file.unlink()
    assert pooled.all_logs(run_id) == []
