"""The commits of a killed or terminated run are reported once, by the run that takes its lane next."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from tests.dagster_events import number_of
from tests.integration.driving import audited, one_batch, send, set_environment
from truepixel_dagster.asset_keys import EVENTS, LANE_TAG, LANES_TAG, STREAM
from truepixel_dagster.instance.process import dagster_home, execute, make_history
from truepixel_dagster.instance.run_events import as_event
from truepixel_dagster.jobs import unreported
from truepixel_dagster.jobs.drain import drain
from truepixel_dagster.jobs.process_events import process_events
from truepixel_dagster.jobs.unreported import are_unreported, report_for_others
from truepixel_dagster.local.traffic import FIRST, traffic
from truepixel_dagster.pipeline.lane_claim import open_lane
from truepixel_dagster.resources import Stores
from truepixel_dagster.sensors.kafka_lag import kafka_lag
from truepixel_dagster.settings import Settings
from truepixel_dagster.stream.topics import lag, reset_offsets

FAILURE, CANCELED, STARTED = dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED, dg.DagsterRunStatus.STARTED


@pytest.fixture
def instance(settings: Settings) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.from_config(str(dagster_home(settings))) as opened:
        yield opened


def begun(instance: dg.DagsterInstance) -> str:
    """Create a run that Dagster shows as started."""
    run = instance.create_run_for_job(process_events, status=STARTED, tags={LANE_TAG: "0", LANES_TAG: "1"})
    return run.run_id


def ended(instance: dg.DagsterInstance, run_id: str, status: dg.DagsterRunStatus) -> None:
    run = instance.get_run_by_id(run_id)
    assert run is not None
    (instance.report_run_failed if status == FAILURE else instance.report_run_canceled)(run)


def work(settings: Settings, run_id: str, batches: int) -> None:
    """Commit some micro-batches as a run, and end without a report."""
    with contextlib.suppress(KeyboardInterrupt), open_lane(settings, lane=0, lanes=1, owner=run_id) as lane:
        for _ in range(batches):
            assert one_batch(lane)
        lane._pool.drain()
        lane._commits.drain()
        lane._commits.commit()
        raise KeyboardInterrupt


def next_run(settings: Settings, instance: dg.DagsterInstance) -> list[str]:
    """Return the lines in which the next run reports for earlier ones."""
    with open_lane(settings, lane=0, lanes=1, owner=begun(instance)) as lane:
        said = list(report_for_others(instance, lane))
        while one_batch(lane):
            pass
        lane.finish()
    return said


def reported(instance: dg.DagsterInstance, run_id: str) -> list[tuple[str, str | None]]:
    records = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION).records
    found = [record.asset_materialization for record in records]
    return [(each.asset_key.to_user_string(), each.partition) for each in found if each]


def days_of(stores: Stores, before: dict[int, int]) -> Counter[str]:
    stores.elasticsearch.refresh()
    sources = (hit["_source"] for hit in stores.elasticsearch.scan("events-"))
    mine = (s for s in sources if s["kafka"]["offset"] < before.get(s["kafka"]["partition"], 0))
    return Counter(source["occurred_at"][:10] for source in mine)


def backlog(settings: Settings, count: int = 900) -> Settings:
    send(settings, [(r.key, r.value, r.headers) for r in traffic(count, seed=2, shops=2, profile=FIRST)])
    return settings.model_copy(update={"batch_messages": 100})


@pytest.mark.parametrize("status", [FAILURE, CANCELED, STARTED], ids=["failed", "terminated", "not noticed yet"])
def test_the_next_run_reports_the_commits_of_a_run_that_ended_early(
    settings: Settings, stores: Stores, instance: dg.DagsterInstance, status: dg.DagsterRunStatus
) -> None:
    small = backlog(settings)
    killed = begun(instance)
    work(small, killed, 4)
    committed = {entry.partition: entry.committed or 0 for entry in lag(settings.kafka())}
    if status != STARTED:
        ended(instance, killed, status)
    (line,) = next_run(small, instance)
    assert killed[:8] in line
    found = reported(instance, killed)
    assert len(found) == len(set(found))
    assert {asset for asset, _ in found} == set(STREAM)
    counts = {
        record.asset_materialization.partition: number_of(record.asset_materialization.metadata["events"])
        for record in instance.fetch_materializations(dg.AssetKey(EVENTS), limit=100).records
        if record.run_id == killed and record.asset_materialization
    }
    assert counts == days_of(stores, committed)
    assert sum(counts.values()) > 300
    assert next_run(small, instance) == []
    assert reported(instance, killed) == found
    audited(settings, stores)


def test_the_reports_of_a_run_itself_are_not_repeated(
    settings: Settings, stores: Stores, instance: dg.DagsterInstance
) -> None:
    small = backlog(settings)
    killed = begun(instance)
    work(small, killed, 4)
    ended(instance, killed, FAILURE)
    with open_lane(small, lane=0, lanes=1, owner=begun(instance)) as lane:
        # A run killed in the middle of this report, before its own first commit.
        run = instance.get_run_by_id(killed)
        assert run is not None
        spans = unreported._by_run(lane.unreported)[killed]
        place = unreported.place_of(spans)
        events = list(unreported._materializations(stores.elasticsearch, run, spans, place))
        for each in events[:3]:
            instance.report_dagster_event(as_event(run, each), killed)
    assert len(reported(instance, killed)) == 3
    next_run(small, instance)
    found = reported(instance, killed)
    assert len(found) == len(set(found)) == len(events)


def test_a_run_that_handed_its_lane_over_reports_by_itself(settings: Settings, instance: dg.DagsterInstance) -> None:
    small = backlog(settings)
    before = begun(instance)
    with open_lane(small, lane=0, lanes=1, owner=before) as lane:
        while one_batch(lane):
            pass
        lane.finish()
    assert next_run(small, instance) == []
    assert reported(instance, before) == []
    # It was killed before its report: that is certain once Dagster shows that it has ended.
    ended(instance, before, FAILURE)
    (line,) = next_run(small, instance)
    assert before[:8] in line
    assert {asset for asset, _ in reported(instance, before)} == set(STREAM)


def test_a_lane_without_lag_is_started_for_what_was_not_reported(
    settings: Settings, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_environment(monkeypatch, settings)
    killed = begun(instance)
    work(backlog(settings, 100), killed, 1)
    assert sum(entry.lag for entry in lag(settings.kafka())) == 0
    assert are_unreported(instance, lag(settings.kafka())) == frozenset()
    ended(instance, killed, CANCELED)
    assert are_unreported(instance, lag(settings.kafka())) == {
        entry.partition for entry in lag(settings.kafka()) if entry.committed
    }
    context = dg.build_sensor_context(instance=instance)
    found: Any = kafka_lag(context)
    assert [request.tags[LANE_TAG] for request in found.run_requests] == ["0"]
    assert len(next_run(settings, instance)) == 1
    assert are_unreported(instance, lag(settings.kafka())) == frozenset()
    assert not kafka_lag(dg.build_sensor_context(instance=instance)).run_requests  # type: ignore[union-attr]


def days_shown(instance: dg.DagsterInstance) -> set[str]:
    return instance.get_materialized_partitions(dg.AssetKey(EVENTS))


@pytest.mark.parametrize("back", [0, 20], ids=["where they were", "back"])
def test_days_are_shown_although_another_program_set_the_offsets_of_a_killed_run(
    settings: Settings, stores: Stores, instance: dg.DagsterInstance, back: int
) -> None:
    """Setting a group's offsets removes the note beside them, which names the run that committed them."""
    small = backlog(settings)
    killed = begun(instance)
    work(small, killed, 9)
    ended(instance, killed, CANCELED)
    committed = {entry.partition: entry.committed or 0 for entry in lag(settings.kafka())}
    reset_offsets(settings.kafka(), {partition: max(0, offset - back) for partition, offset in committed.items()})
    assert are_unreported(instance, lag(settings.kafka())) == set(committed)
    next_run(small, instance)
    assert days_shown(instance) == set(days_of(stores, committed))
    assert are_unreported(instance, lag(settings.kafka())) == frozenset()
    assert next_run(small, instance) == []
    audited(settings, stores)


def test_days_are_shown_of_runs_that_dagster_does_not_know(
    settings: Settings, stores: Stores, instance: dg.DagsterInstance
) -> None:
    work(backlog(settings, 100), "no run of Dagster's", 1)
    assert len(next_run(settings, instance)) == 1
    assert days_shown(instance) == set(
        days_of(stores, {entry.partition: entry.high for entry in lag(settings.kafka())})
    )
    assert next_run(settings, instance) == []


def test_the_next_drain_reports_for_a_killed_worker(settings: Settings, stores: Stores, tmp_path: Path) -> None:
    small = backlog(settings, 6000).model_copy(update={"batch_messages": 50, "lease": 3.0})
    make_history(small)
    worker = execute(small, "process_events", {LANE_TAG: "0", LANES_TAG: "1"}, tmp_path / "log")
    until = time.monotonic() + 120
    while not (committed := {e.partition: e.committed for e in lag(small.kafka()) if e.committed}):
        assert time.monotonic() < until, (tmp_path / "log").read_text()
        time.sleep(0.05)
    worker.kill()
    worker.wait()
    assert committed
    committed = {entry.partition: entry.committed for entry in lag(small.kafka()) if entry.committed}
    drain(small, lambda _: None)
    with dg.DagsterInstance.from_config(str(dagster_home(small))) as opened:
        runs = opened.get_runs()
        killed = runs[-1].run_id
        found = reported(opened, killed)
        everything: Counter[str] = Counter()
        for record in opened.fetch_materializations(dg.AssetKey(EVENTS), limit=500).records:
            each = record.asset_materialization
            if each and each.partition:
                everything[each.partition] += int(str(each.metadata["events"].value))
    assert len(found) == len(set(found)) > 0
    assert everything == days_of(stores, {entry.partition: entry.high for entry in lag(small.kafka())})
    audited(small, stores)
