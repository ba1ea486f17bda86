"""The pooled event log in SQLite files."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from tests.event_log import EventLogPromises, home, seen, slots

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
    """What every pooled event log promises."""


def test_with_a_version_that_was_not_tried_dagsters_own_storage_writes(
    pooled: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dg, "__version__", "9.0.0")
    run_id = slots.execute_in_process(instance=pooled).run_id
    assert len(seen(pooled, run_id)) > 30
    assert set(pooled.event_log_storage._engines) <= {"index"}  # type: ignore[attr-defined]


def test_a_file_that_was_pruned_is_made_anew(pooled: dg.DagsterInstance) -> None:
    run_id = slots.execute_in_process(instance=pooled).run_id
    for file in Path(pooled.root_directory, "history", "runs").glob(f"{run_id}.db*"):
        file.unlink()
    assert pooled.all_logs(run_id) == []
