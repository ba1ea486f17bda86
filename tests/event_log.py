"""The guarantees of a pooled event log on any storage: Dagster's own events, in its order, at once, after a kill.

Each storage has a class of tests with the fixtures `pooled`, an instance on it with an empty history, and `own`, the
same with Dagster's own storage.
"""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg

BATCHES = 4
WRITTEN = dg.AssetKey("written")


@dg.op(out=dg.DynamicOut(int))
def plan() -> Iterator[dg.DynamicOutput[int]]:
    for number in range(BATCHES):
        yield dg.DynamicOutput(number, mapping_key=str(number))


@dg.op(out=dg.Out(int, is_required=False))
def work(context: dg.OpExecutionContext, number: int) -> Iterator[dg.Output[int]]:
    context.log.info("micro-batch %d", number)
    if number != 2:
        yield dg.Output(number)


@dg.op
def end(context: dg.OpExecutionContext, numbers: list[int]) -> None:
    for number in numbers:
        context.log_event(
            dg.AssetMaterialization("written", partition=f"2026-01-0{number + 1}", tags={"dagster/data_version": "1"})
        )
    context.log_event(dg.AssetObservation("topic", metadata={"messages": len(numbers)}))
    context.log_event(dg.AssetCheckEvaluation(asset_key=WRITTEN, check_name="checked", passed=True))  # type: ignore[arg-type]


@dg.job(
    executor_def=dg.in_process_executor,
    config={"loggers": {"console": {"config": {"log_level": "WARNING"}}}},
)
def batches() -> None:
    end(plan().map(work).collect())


def home(folder: Path, settings: str) -> str:
    folder.mkdir()
    (folder / "dagster.yaml").write_text("telemetry: {enabled: false}\n" + settings.format(home=folder))
    return str(folder)


def seen(instance: dg.DagsterInstance, run_id: str) -> list[tuple[str, str | None, str | None]]:
    """The events of a run, as the UI reads them."""
    entries = instance.all_logs(run_id)
    kinds = [(entry.dagster_event_type.value if entry.dagster_event_type else "LOG") for entry in entries]
    return [
        (kind, entry.step_key, entry.user_message if kind == "LOG" else None) for kind, entry in zip(kinds, entries)
    ]


def of_assets(instance: dg.DagsterInstance) -> list[object]:
    """The asset events of a run, as the UI reads them."""
    materializations = instance.fetch_materializations(WRITTEN, limit=100).records
    observations = instance.fetch_observations(dg.AssetKey("topic"), limit=100).records
    check = dg.AssetCheckKey(WRITTEN, "checked")
    checks = instance.event_log_storage.get_asset_check_execution_history(check, limit=100)
    return [
        [record.partition_key for record in materializations],
        [record.asset_observation.metadata for record in observations],  # type: ignore[union-attr]
        [execution.status.value for execution in checks],
        sorted(instance.get_materialized_partitions(WRITTEN)),
        instance.get_event_tags_for_asset(WRITTEN),
        sorted(key.to_string() for key in instance.get_asset_keys()),
    ]


class EventLogPromises:
    def test_every_event_is_there_in_dagsters_order(self, pooled: dg.DagsterInstance, own: dg.DagsterInstance) -> None:
        expected = batches.execute_in_process(instance=own)
        found = batches.execute_in_process(instance=pooled)
        assert expected.success
        assert found.success
        assert seen(pooled, found.run_id) == seen(own, expected.run_id)
        assert of_assets(pooled) == of_assets(own)
        assert len(of_assets(pooled)[0]) == BATCHES - 1  # type: ignore[arg-type]
        assert pooled.get_run_by_id(found.run_id).status == dg.DagsterRunStatus.SUCCESS  # type: ignore[union-attr]

    def test_pages_of_a_run_join_without_a_gap(self, pooled: dg.DagsterInstance) -> None:
        run_id = batches.execute_in_process(instance=pooled).run_id
        cursor, ids = None, []
        while True:
            page = pooled.get_records_for_run(run_id, cursor=cursor, limit=7)
            ids += [record.storage_id for record in page.records]
            cursor = page.cursor
            if not page.has_more:
                break
        assert ids == list(range(1, len(pooled.all_logs(run_id)) + 1))

    def test_records_of_an_asset_join_by_their_cursors(self, pooled: dg.DagsterInstance) -> None:
        run_ids = [batches.execute_in_process(instance=pooled).run_id for _ in range(2)]
        cursor, found = None, []
        while True:
            page = pooled.fetch_materializations(WRITTEN, limit=2, cursor=cursor, ascending=True)
            found += [(record.run_id, record.partition_key) for record in page.records]
            cursor = page.cursor
            if not page.has_more:
                break
        assert found == [(run_id, f"2026-01-0{n + 1}") for run_id in run_ids for n in range(BATCHES) if n != 2]

    def test_another_process_reads_an_event_as_soon_as_it_is_written(self, pooled: dg.DagsterInstance) -> None:
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

    def test_a_kill_loses_no_written_event(self, pooled: dg.DagsterInstance) -> None:
        code = (
            "import dagster as dg, os, sys\n"
            "from tests.event_log import batches\n"
            "instance = dg.DagsterInstance.from_config(sys.argv[1])\n"
            "storage = type(instance.event_log_storage)\n"
            "store, count = storage.store_event, 0\n"
            "def counting(self, event):\n"
            "    global count\n"
            "    store(self, event); count += 1\n"
            "    if count == 25: print(count, flush=True); os.kill(os.getpid(), 9)\n"
            "storage.store_event = counting\n"
            "batches.execute_in_process(instance=instance)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, pooled.root_directory], capture_output=True, text=True, check=False
        )
        assert done.returncode == -signal.SIGKILL, done.stderr
        (run,) = pooled.get_runs()
        assert len(pooled.all_logs(run.run_id)) == int(done.stdout)
