"""Pruning on a real instance: runs, logs and files go, what they wrote of the assets stays."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from tests.dagster_events import number_of
from tests.integration.driving import drain, record, send, set_environment
from tests.integration.test_pipeline import pixel
from truepixel_dagster.asset_keys import AUDIT, EVENTS, HEALTH, KAFKA_TOPIC
from truepixel_dagster.definitions import definitions
from truepixel_dagster.instance.process import ROOT, dagster_home, environment
from truepixel_dagster.instance.pruning import disk_use, prune
from truepixel_dagster.resources import Stores
from truepixel_dagster.retention import drop_outdated
from truepixel_dagster.sensors.kafka_lag import kafka_lag
from truepixel_dagster.settings import Settings

NEVER = timedelta(days=1000)
DAY = "2026-01-01"


OWN_EVENT_LOG = "Dagster's own event log"


@pytest.fixture
def instance(settings: Settings, request: pytest.FixtureRequest) -> Iterator[dg.DagsterInstance]:
    """Dagster's home as the project writes it, or with Dagster's own event log."""
    home = dagster_home(settings)
    if getattr(request, "param", None) == OWN_EVENT_LOG:
        (home / "dagster.yaml").write_text((ROOT / "dagster.yaml").read_text())
    with dg.DagsterInstance.from_config(str(home)) as opened:
        yield opened


def execute(settings: Settings, instance: dg.DagsterInstance, job: str) -> None:
    """A run in a process of its own, as a launcher has it."""
    command = [sys.executable, "-m", "dagster", "job", "execute", "-m", "truepixel_dagster.definitions", "-j", job]
    env = environment(settings) | {"DAGSTER_HOME": instance.root_directory, "TRUEPIXEL_IDLE": "0.5"}
    env |= {"TRUEPIXEL_KEEP_SUCCESSFUL_RUNS_HOURS": "0"}
    subprocess.run(command, env=env, cwd=ROOT, check=True, capture_output=True)


def fill(settings: Settings, instance: dg.DagsterInstance, runs: int = 2) -> None:
    for number in range(runs):
        send(settings, [record(f"s:c{n}", pixel(f"e{number}-{n}", at=f"{DAY}T12:00:00.000Z")) for n in range(20)])
        execute(settings, instance, "process_events")
    execute(settings, instance, "audit")


def history(instance: dg.DagsterInstance) -> dict[str, Any]:
    """The contents of the UI's pages of assets: events with their metadata, the state of partitions, the check."""
    events, topic = dg.AssetKey(EVENTS), dg.AssetKey(KAFKA_TOPIC)
    written = instance.fetch_materializations(events, limit=100).records
    observed = instance.fetch_observations(topic, limit=100).records
    check = dg.AssetCheckKey(dg.AssetKey(HEALTH), AUDIT)
    latest = instance.get_latest_materialization_event(events)
    return {
        "written": [(r.partition_key, dict(r.asset_materialization.metadata)) for r in written],  # type: ignore[union-attr]
        "plots": [dict(r.asset_observation.metadata) for r in observed],  # type: ignore[union-attr]
        "partitions": instance.get_materialized_partitions(events),
        "latest": latest and latest.asset_materialization,
        "checks": [r.run_id for r in instance.event_log_storage.get_asset_check_execution_history(check, limit=10)],
    }


def now() -> datetime:
    return datetime.now(timezone.utc)


@pytest.mark.parametrize("instance", ["pooled event log", OWN_EVENT_LOG], indirect=True)
def test_runs_go_with_their_logs_and_files_and_the_assets_keep_their_history(
    settings: Settings, instance: dg.DagsterInstance
) -> None:
    fill(settings, instance)
    home = Path(instance.root_directory)
    runs = [run.run_id for run in instance.get_runs()]
    before = history(instance)
    assert len(before["plots"]) == 2
    assert before["partitions"] == {DAY}
    assert before["checks"]
    size = disk_use(home)
    pruned = prune(instance, now(), successful=timedelta(0), failed=timedelta(0), assets=NEVER)
    assert pruned.runs == len(runs) == 3
    assert instance.get_runs() == []
    assert history(instance) == before
    assert pruned.bytes_before == size
    assert pruned.bytes_after == disk_use(home)
    assert pruned.freed > size / 2
    assert not [path for path in home.rglob("*") if any(run in path.name for run in runs)]
    # The next runs work as before.
    fill(settings, instance, runs=1)
    assert len(history(instance)["plots"]) == 3


def test_the_job_keeps_its_own_run_young_runs_and_failures(settings: Settings, instance: dg.DagsterInstance) -> None:
    fill(settings, instance, runs=1)
    failed = definitions.resolve_job_def("replay_dead_letters").execute_in_process(
        instance=instance,
        run_config={"ops": {"replay_letters": {"config": {"stage": "nonsense"}}}},
        raise_on_error=False,
    )
    assert not failed.success
    live = instance.create_run_for_job(definitions.resolve_job_def("flush"), status=dg.DagsterRunStatus.STARTED)
    assert prune(instance, now(), successful=timedelta(hours=1), failed=NEVER, assets=NEVER).runs == 0
    execute(settings, instance, "prune_history")
    left = {run.run_id: run.job_name for run in instance.get_runs()}
    assert left.pop(live.run_id) == "flush"
    assert left.pop(failed.run_id) == "replay_dead_letters"
    (own,) = left
    assert left[own] == "prune_history"
    said = [event.step_output_data.metadata for event in _outputs(instance, own)]
    assert said[0]["runs removed"].value == 2
    assert number_of(said[0]["freed (MiB)"]) > 0


def _outputs(instance: dg.DagsterInstance, run_id: str) -> list[dg.DagsterEvent]:
    entries = instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_OUTPUT)
    return [entry.get_dagster_event() for entry in entries]


def test_old_asset_history_is_removed_except_the_newest_of_each_partition(
    settings: Settings, instance: dg.DagsterInstance
) -> None:
    fill(settings, instance)
    before = history(instance)
    pruned = prune(instance, now() + timedelta(days=2), successful=NEVER, failed=NEVER, assets=timedelta(days=1))
    after = history(instance)
    assert pruned.asset_events > 0
    assert after["written"] == before["written"][:1]
    assert after["plots"] == before["plots"][:1]
    assert {**after, "written": None, "plots": None} == {**before, "written": None, "plots": None}


def test_months_that_are_outdated_are_dropped_and_no_others(settings: Settings, stores: Stores) -> None:
    months = ("2023-11-05", "2024-01-31", "2026-01-01")
    send(settings, [record(f"s:c{n}", pixel(f"e{n}", at=f"{at}T12:00:00.000Z")) for n, at in enumerate(months)])
    drain(settings)
    today = date(2026, 1, 20)
    kept = settings.model_copy(update={"event_retention_months": 24})
    assert drop_outdated(kept, stores, today) == [stores.elasticsearch.index("events-2023.11")]
    assert drop_outdated(kept, stores, today) == []
    assert stores.elasticsearch.indices("events-") == [
        stores.elasticsearch.index(f"events-{month}") for month in ("2024.01", "2026.01")
    ]


def test_the_sensor_continues_after_a_pruning(
    settings: Settings, instance: dg.DagsterInstance, monkeypatch: Any
) -> None:
    set_environment(monkeypatch, settings)
    fill(settings, instance, runs=1)
    prune(instance, now(), successful=timedelta(0), failed=timedelta(0), assets=NEVER)
    send(settings, [record("s:c", pixel("late"))])
    result = kafka_lag(dg.build_sensor_context(instance=instance, definitions=definitions))
    assert isinstance(result, dg.SensorResult)
    assert len(result.run_requests or []) == 1
