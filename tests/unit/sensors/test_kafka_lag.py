"""When a lane is started: the decision alone, and the records of a real instance."""

from __future__ import annotations

import dagster as dg
import pytest
from dagster import DagsterInstance, DagsterRunStatus

from sensors.kafka_lag import FIRST_PAUSE, LONGEST_PAUSE, LaneState, decide, lane_states, requests
from truepixel_dagster.asset_keys import LANE_TAG, LANES_TAG
from truepixel_dagster.jobs.process_events import process_events
from truepixel_dagster.stream.topics import PartitionLag

NOW = 1_000_000.0


def test_a_lane_with_lag_and_no_live_run_is_started() -> None:
    assert decide([LaneState(0, lag=5)], NOW).start == (0,)


def test_a_lane_without_lag_is_not_started() -> None:
    decision = decide([LaneState(0, lag=0)], NOW)
    assert decision.start == ()
    assert "no lag" in decision.reasons[0]


def test_a_lane_with_a_live_run_is_left_alone() -> None:
    decision = decide([LaneState(0, lag=5, live_run="0123456789")], NOW)
    assert decision.start == ()
    assert "01234567" in decision.reasons[0]


@pytest.mark.parametrize(
    ("failures", "pause"), [(1, FIRST_PAUSE), (2, 2 * FIRST_PAUSE), (4, 8 * FIRST_PAUSE), (30, LONGEST_PAUSE)]
)
def test_a_failing_lane_pauses_longer_each_time(failures: int, pause: float) -> None:
    state = LaneState(0, lag=5, failures=failures, failed_at=NOW - pause)
    assert decide([state], NOW + 0.1).start == (0,)
    waiting = decide([state], NOW - 1)
    assert waiting.start == ()
    assert f"failed {failures} times" in waiting.reasons[0]


def test_requests_carry_tags_and_no_run_key_that_would_swallow_a_retry() -> None:
    (request,) = requests([2], lanes=3)
    assert request.run_key is None
    assert (request.tags[LANE_TAG], request.tags[LANES_TAG]) == ("2", "3")


def state(instance: DagsterInstance) -> LaneState:
    partition = PartitionLag(partition=0, low=0, high=9, committed=None, lag=9)
    (found,) = lane_states(instance, [partition], lanes=1)
    return found


def record_run(instance: DagsterInstance, status: DagsterRunStatus, lane: str = "0") -> str:
    run = instance.create_run_for_job(process_events, tags={LANE_TAG: lane})
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
