"""The pooled event log holds what Dagster's own holds, in its order, at once, and after a kill."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

POOLED = """
event_log_storage:
  module: truepixel_dagster.instance.event_log
  class: PooledSqliteEventLogStorage
  config:
    base_dir: {home}
"""
SLOTS = 4


@dg.op(out=dg.DynamicOut(int))
def plan() -> Iterator[dg.DynamicOutput[int]]:
    for number in range(SLOTS):
        yield dg.DynamicOutput(number, mapping_key=f"s{number}")


@dg.op(out=dg.Out(int, is_required=False))
def work(context: dg.OpExecutionContext, number: int) -> Iterator[dg.Output[int]]:
    context.log.info("slot %d", number)
    if number != 2:
        yield dg.Output(number)


@dg.op
def end(context: dg.OpExecutionContext, numbers: list[int]) -> None:
    for number in numbers:
        context.log_event(dg.AssetMaterialization("written", partition=f"2026-01-0{number + 1}"))
    context.log_event(dg.AssetObservation("topic", metadata={"messages": len(numbers)}))


@dg.job(
    executor_def=dg.in_process_executor,
    config={"loggers": {"console": {"config": {"log_level": "WARNING"}}}},
)
def slots() -> None:
    end(plan().map(work).collect())


def home(folder: Path, settings: str) -> str:
    folder.mkdir()
    (folder / "dagster.yaml").write_text("telemetry: {enabled: false}\n" + settings.format(home=folder))
    return str(folder)


@pytest.fixture
def pooled(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.from_config(home(tmp_path / "pooled", POOLED)) as instance:
        yield instance


def seen(instance: dg.DagsterInstance, run_id: str) -> list[tuple[str, str | None, str | None]]:
    """What happened in a run, as the UI reads it."""
    entries = instance.all_logs(run_id)
    kinds = [(entry.dagster_event_type.value if entry.dagster_event_type else "LOG") for entry in entries]
    return [
        (kind, entry.step_key, entry.user_message if kind == "LOG" else None) for kind, entry in zip(kinds, entries)
    ]


def written(instance: dg.DagsterInstance) -> list[tuple[str | None, str]]:
    records = instance.fetch_materializations(dg.AssetKey("written"), limit=100).records
    return [(record.partition_key, record.run_id) for record in records]


def test_every_event_is_there_in_dagsters_order(pooled: dg.DagsterInstance, tmp_path: Path) -> None:
    with dg.DagsterInstance.from_config(home(tmp_path / "own", "")) as own:
        expected = slots.execute_in_process(instance=own)
        found = slots.execute_in_process(instance=pooled)
        assert expected.success
        assert found.success
        assert seen(pooled, found.run_id) == seen(own, expected.run_id)
        assert [partition for partition, _ in written(pooled)] == [partition for partition, _ in written(own)]
        observed = pooled.fetch_observations(dg.AssetKey("topic"), limit=1).records
        assert observed[0].run_id == found.run_id
    assert pooled.get_run_by_id(found.run_id).status == dg.DagsterRunStatus.SUCCESS  # type: ignore[union-attr]


def test_pages_of_a_run_join_without_a_gap(pooled: dg.DagsterInstance) -> None:
    run_id = slots.execute_in_process(instance=pooled).run_id
    cursor, ids = None, []
    while True:
        page = pooled.get_records_for_run(run_id, cursor=cursor, limit=7)
        ids += [record.storage_id for record in page.records]
        cursor = page.cursor
        if not page.has_more:
            break
    assert ids == list(range(1, len(pooled.all_logs(run_id)) + 1))


def test_another_process_reads_an_event_as_soon_as_it_is_written(pooled: dg.DagsterInstance) -> None:
    counts = []

    @dg.op
    def look(context: dg.OpExecutionContext) -> None:
        context.log.info("look")
        with dg.DagsterInstance.from_config(pooled.root_directory) as other:
            counts.append((len(other.all_logs(context.run_id)), len(pooled.all_logs(context.run_id))))

    @dg.job(executor_def=dg.in_process_executor)
    def looking() -> None:
        look()

    assert looking.execute_in_process(instance=pooled).success
    assert counts[0][0] == counts[0][1] > 3


def test_a_kill_takes_no_event_that_was_written(pooled: dg.DagsterInstance) -> None:
    code = (
        "import dagster as dg, os, sys\n"
        "from tests.unit.test_event_log import slots\n"
        "from truepixel_dagster.instance.event_log import PooledSqliteEventLogStorage as S\n"
        "store, count = S.store_event, 0\n"
        "def counting(self, event):\n"
        "    global count\n"
        "    store(self, event); count += 1\n"
        "    if count == 25: print(count, flush=True); os.kill(os.getpid(), 9)\n"
        "S.store_event = counting\n"
        "slots.execute_in_process(instance=dg.DagsterInstance.from_config(sys.argv[1]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, pooled.root_directory], capture_output=True, text=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    (run,) = pooled.get_runs()
    assert len(pooled.all_logs(run.run_id)) == int(done.stdout)


def test_with_a_version_that_was_not_tried_dagsters_own_storage_writes(
    pooled: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dg, "__version__", "9.0.0")
    run_id = slots.execute_in_process(instance=pooled).run_id
    assert len(seen(pooled, run_id)) > 30
    assert set(pooled.event_log_storage._engines) <= {"index"}


def test_a_file_that_was_pruned_is_made_anew(pooled: dg.DagsterInstance) -> None:
    run_id = slots.execute_in_process(instance=pooled).run_id
    for file in Path(pooled.root_directory, "history", "runs").glob(f"{run_id}.db*"):
        file.unlink()
    assert pooled.all_logs(run_id) == []
