"""When a lane is started, by the records of a real instance."""

from __future__ import annotations

import sqlite3
import time
from functools import partial
from pathlib import Path

import dagster as dg
import pytest
from dagster import DagsterInstance, DagsterRunStatus

from tests.unit.supervisor.cursors import CURSORS
from truepixel_dagster.asset_keys import AFTER_TAG, LANE_TAG, LANES_TAG
from truepixel_dagster.jobs.process_events import process_events
from truepixel_dagster.sensors import kafka_lag
from truepixel_dagster.sensors.kafka_lag import ended_runs, give_up, read_runs, requests
from truepixel_dagster.sensors.run_failure import run_failure
from truepixel_dagster.supervisor.lanes import START_GRACE, LaneState, Runs, Start, decide, lane_states, pause
from truepixel_dagster.supervisor.memory import END_GRACE, Memory

NOW = 1_000_000.0


def test_requests_carry_tags_and_no_run_key_that_would_swallow_a_retry() -> None:
    (request,) = requests([Start(2)], lanes=3)
    assert request.run_key is None
    assert (request.tags[LANE_TAG], request.tags[LANES_TAG]) == ("2", "3")
    assert AFTER_TAG not in request.tags
    (behind,) = requests([Start(2, "0123456789")], lanes=3)
    assert (behind.tags[AFTER_TAG], behind.run_key) == ("0123456789", None)


def offsets(committed: int = 0) -> dict[int, int]:
    return dict.fromkeys(range(3), committed)


def of_lanes(instance: DagsterInstance, runs: Runs, lanes: int = 1, memory: Memory | None = None) -> list[LaneState]:
    waiting = dict.fromkeys(range(3), 9)
    return lane_states(runs, waiting, lanes, (memory or Memory()).advanced_at, partial(ended_runs, instance))


def state(
    instance: DagsterInstance,
    holding: dict[int, str] | None = None,
    lanes: int = 1,
    memory: Memory | None = None,
    following: dict[int, str] | None = None,
) -> LaneState:
    return of_lanes(instance, read_runs(instance, holding or {}, following or {}), lanes, memory)[-1]


def record_run(instance: DagsterInstance, status: DagsterRunStatus, lane: str = "0", lanes: str = "1") -> str:
    run = instance.create_run_for_job(process_events, tags={LANE_TAG: lane, LANES_TAG: lanes})
    event = {
        DagsterRunStatus.FAILURE: dg.DagsterEventType.RUN_FAILURE,
        DagsterRunStatus.SUCCESS: dg.DagsterEventType.RUN_SUCCESS,
        DagsterRunStatus.STARTED: dg.DagsterEventType.RUN_START,
        DagsterRunStatus.STARTING: dg.DagsterEventType.RUN_STARTING,
    }[status]
    instance.report_dagster_event(dg.DagsterEvent(event.value, run.job_name), run.run_id)
    return run.run_id


@pytest.mark.parametrize("status", [DagsterRunStatus.STARTING, DagsterRunStatus.STARTED])
def test_a_starting_or_started_run_holds_its_lane(status: DagsterRunStatus) -> None:
    with DagsterInstance.ephemeral() as instance:
        run_id = record_run(instance, status)
        assert state(instance).live_run == run_id


def test_failures_are_counted_back_to_the_last_success() -> None:
    with DagsterInstance.ephemeral() as instance:
        for status in ("FAILURE", "SUCCESS", "FAILURE", "FAILURE"):
            record_run(instance, DagsterRunStatus(status))
        record_run(instance, DagsterRunStatus.FAILURE, lane="1")
        assert state(instance).failures == 2


def test_failures_before_the_lane_made_progress_no_longer_count() -> None:
    with DagsterInstance.ephemeral() as instance:
        record_run(instance, DagsterRunStatus.FAILURE)
        failed_at = instance.get_run_records()[0].end_time or 0
        stuck = Memory().seen(offsets(), failed_at - 5).seen(offsets(), failed_at + 5)
        assert state(instance, memory=stuck).failures == 1
        progressed = stuck.seen(offsets(committed=2), failed_at + 10)
        assert state(instance, memory=progressed).failures == 0


def test_a_run_from_before_the_number_of_lanes_changed_holds_what_it_has_leased() -> None:
    with DagsterInstance.ephemeral() as instance:
        run_id = record_run(instance, DagsterRunStatus.STARTED, lane="1", lanes="2")
        assert state(instance, {1: run_id}, lanes=1).live_run == run_id
        assert state(instance, {1: run_id}, lanes=3).live_run is None


def test_a_run_from_before_the_number_of_lanes_changed_has_its_lane_before_it_has_a_lease() -> None:
    with DagsterInstance.ephemeral() as instance:
        run_id = record_run(instance, DagsterRunStatus.STARTING, lane="0", lanes="2")
        assert state(instance, lanes=3).live_run == run_id, "it has partitions 0 and 2"
        assert state(instance, lanes=2).live_run is None, "it has not partition 1"


def test_new_lanes_wait_behind_the_one_old_lane_that_has_all_of_theirs() -> None:
    with DagsterInstance.ephemeral() as instance:
        old = record_run(instance, DagsterRunStatus.STARTED)
        part = state(instance, dict.fromkeys(range(3), old), lanes=3)
        assert (part.live_run, part.followed) == (old, False)
        assert decide([part], NOW).start == (Start(2, old),)


def test_a_new_lane_that_several_old_ones_have_parts_of_starts_when_they_have_ended() -> None:
    with DagsterInstance.ephemeral() as instance:
        old = [record_run(instance, DagsterRunStatus.STARTED, lane=str(lane), lanes="3") for lane in range(3)]
        whole = state(instance, dict(enumerate(old)))
        assert whole.live_run in old
        assert whole.followed
        assert state(instance, {1: old[1]}).followed, "one of the others is about to end"


def test_a_run_whose_tags_name_no_lane_has_none() -> None:
    with DagsterInstance.ephemeral() as instance:
        record_run(instance, DagsterRunStatus.STARTED, lane="5", lanes="3")
        record_run(instance, DagsterRunStatus.STARTED, lane="first")
        assert state(instance).live_run is None


def test_a_processing_run_is_followed_by_one_run_at_a_time() -> None:
    with DagsterInstance.ephemeral() as instance:
        run_id = record_run(instance, DagsterRunStatus.STARTED)
        holding = dict.fromkeys(range(3), run_id)
        assert not state(instance, holding).followed
        assert state(instance, {}).followed, "it has not begun, or it is about to end"
        assert state(instance, holding, following={2: "next"}).followed
        record_run(instance, DagsterRunStatus.STARTING)
        assert state(instance, holding).followed, "one is being started"


def test_a_lane_that_has_just_failed_gets_no_standby_run() -> None:
    with DagsterInstance.ephemeral() as instance:
        record_run(instance, DagsterRunStatus.FAILURE)
        run_id = record_run(instance, DagsterRunStatus.STARTED)
        stuck = state(instance, dict.fromkeys(range(3), run_id))
        assert (stuck.followed, stuck.failures) == (False, 1)
        assert decide([stuck], NOW).start == ()


def test_a_run_that_waits_for_its_lane_is_not_silent() -> None:
    with DagsterInstance.ephemeral() as instance:
        run_id = record_run(instance, DagsterRunStatus.STARTED)
        now = (instance.get_run_records()[0].start_time or 0) + START_GRACE + 1
        assert read_runs(instance, {}, {0: run_id}).silent(now, frozenset()) == frozenset()
        assert read_runs(instance, {}, {0: "another"}).silent(now, frozenset()) == {run_id}


def test_a_run_without_a_lease_is_silent_only_when_it_had_one_or_the_time_to_take_one() -> None:
    with DagsterInstance.ephemeral() as instance:
        run_id = record_run(instance, DagsterRunStatus.STARTED)
        now = instance.get_run_records()[0].start_time or 0
        assert read_runs(instance, {}, {}).silent(now + START_GRACE - 1, frozenset()) == frozenset()
        assert read_runs(instance, {}, {}).silent(now + 1, {run_id}) == {run_id}
        assert read_runs(instance, {}, {}).silent(now + START_GRACE + 1, frozenset()) == {run_id}
        assert read_runs(instance, {0: run_id}, {}).silent(now + START_GRACE + 1, {run_id}) == frozenset()


def test_a_run_is_gone_when_it_has_been_silent_for_longer_than_an_ending_one() -> None:
    with DagsterInstance.ephemeral() as instance:
        run_id = record_run(instance, DagsterRunStatus.STARTED)
        at_work, silent = read_runs(instance, {0: run_id}, {}), read_runs(instance, {}, {})
        memory = Memory().heard(at_work, NOW).heard(silent, NOW + 5)
        assert memory.gone(NOW + 5 + END_GRACE) == frozenset()
        assert memory.heard(silent, NOW + 10).gone(NOW + 5.1 + END_GRACE) == {run_id}
        assert memory.heard(at_work, NOW + 10).gone(NOW + 99) == frozenset()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for the report to Dagster for as long as it takes: a busy machine needs more than a tick's two seconds."""
    monkeypatch.setattr(kafka_lag, "REPORT_SECONDS", 60.0)


@pytest.mark.usefixtures("patient")
def test_a_run_that_was_given_up_frees_its_lane_and_counts_as_a_failure(tmp_path: Path) -> None:
    with DagsterInstance.local_temp(str(tmp_path)) as instance:
        run_id = record_run(instance, DagsterRunStatus.STARTED)
        give_up(instance, read_runs(instance, {}, {}), frozenset({run_id}))
        assert state(instance).live_run is None
        assert state(instance).failures == 1


def test_a_lane_is_free_even_if_the_frozen_worker_blocks_the_report_to_dagster(tmp_path: Path) -> None:
    with DagsterInstance.local_temp(str(tmp_path)) as instance:
        run_id = record_run(instance, DagsterRunStatus.STARTED)
        frozen = sqlite3.connect(next(tmp_path.rglob(f"{run_id}.db")), isolation_level=None)
        frozen.execute("BEGIN IMMEDIATE")
        runs = give_up(instance, read_runs(instance, {}, {}), frozenset({run_id}))
        assert runs.live == {}
        frozen.close()


@pytest.mark.usefixtures("patient")
def test_a_run_whose_lease_ran_out_is_given_up_at_once_and_its_lane_started_without_a_pause(tmp_path: Path) -> None:
    with DagsterInstance.local_temp(str(tmp_path)) as instance:
        run_id = record_run(instance, DagsterRunStatus.STARTED)
        runs = read_runs(instance, {}, {}, frozenset({run_id}))
        assert Memory().heard(runs, NOW).gone(NOW) == frozenset()  # a run this silent might be ending
        runs = give_up(instance, runs, runs.lapsed)
        now = time.time()
        (lane,) = of_lanes(instance, runs)
        assert lane.failures == 1
        assert decide([lane], now).start == (Start(0),)


@pytest.mark.usefixtures("patient")
def test_a_lane_that_falls_silent_again_and_again_pauses(tmp_path: Path) -> None:
    with DagsterInstance.local_temp(str(tmp_path)) as instance:
        record_run(instance, DagsterRunStatus.FAILURE)
        run_id = record_run(instance, DagsterRunStatus.STARTED)
        runs = read_runs(instance, {}, {}, frozenset({run_id}))
        runs = give_up(instance, runs, runs.lapsed)
        (lane,) = of_lanes(instance, runs)
        assert lane.failures == 2
        assert decide([lane], lane.failed_at + pause(2) - 0.1).start == ()


def test_a_clock_that_was_set_back_keeps_no_lane_waiting() -> None:
    ahead = NOW + 3600
    assert decide([LaneState(0, lag=5, failures=3, failed_at=ahead)], NOW).start == (Start(0),)
    memory = Memory(committed={0: (5, ahead)}, silent_since={"run": ahead})
    assert memory.seen(offsets(committed=5), NOW).advanced_at([0]) == NOW
    with DagsterInstance.ephemeral() as instance:
        run_id = record_run(instance, DagsterRunStatus.STARTED)
        silent = read_runs(instance, {}, {})
        memory = Memory(held=frozenset({run_id}), silent_since={run_id: ahead}).heard(silent, NOW)
        assert memory.gone(NOW + END_GRACE + 0.1) == {run_id}


# Dagster's own reader of cursors gives up at one that is nested without end.
@pytest.mark.parametrize("cursor", [cursor for cursor in CURSORS if len(cursor) < 1000])
def test_the_sensor_of_failed_runs_restarts_with_a_cursor_of_another_version(cursor: str) -> None:
    context = dg.build_sensor_context(instance=DagsterInstance.ephemeral(), cursor=cursor, definitions=dg.Definitions())
    found = run_failure.evaluate_tick(context)
    assert not found.run_requests
    assert found.cursor != cursor
