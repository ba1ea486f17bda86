"""When a lane is started: the decision alone, and the records of a real instance."""

from __future__ import annotations

import sqlite3
import time
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest
from dagster import DagsterInstance, DagsterRunStatus

from truepixel_dagster.asset_keys import AFTER_TAG, LANE_TAG, LANES_TAG
from truepixel_dagster.jobs.process_events import process_events
from truepixel_dagster.sensors.kafka_lag import (
    END_GRACE,
    FIRST_PAUSE,
    LONGEST_PAUSE,
    START_GRACE,
    LaneState,
    Memory,
    Start,
    decide,
    give_up,
    lane_states,
    read_runs,
    requests,
)
from truepixel_dagster.sensors.run_failure import run_failure
from truepixel_dagster.stream.topics import PartitionLag

NOW = 1_000_000.0


def test_a_lane_with_lag_and_no_live_run_is_started() -> None:
    assert decide([LaneState(0, lag=5)], NOW).start == (Start(0),)


def test_a_lane_without_lag_is_not_started() -> None:
    decision = decide([LaneState(0, lag=0)], NOW)
    assert decision.start == ()
    assert "no lag" in decision.reasons[0]


def test_a_lane_with_a_live_run_is_left_alone() -> None:
    decision = decide([LaneState(0, lag=5, live_run="0123456789")], NOW)
    assert decision.start == ()
    assert "01234567" in decision.reasons[0]


def test_a_run_is_asked_for_behind_one_that_nobody_follows() -> None:
    at_work = LaneState(0, lag=5, live_run="0123456789", followed=False)
    assert decide([at_work], NOW).start == (Start(0, "0123456789"),)
    for not_now in (replace(at_work, followed=True), replace(at_work, lag=0), replace(at_work, failures=1)):
        assert decide([not_now], NOW).start == ()


@pytest.mark.parametrize(
    ("failures", "pause"), [(1, FIRST_PAUSE), (2, 2 * FIRST_PAUSE), (4, 8 * FIRST_PAUSE), (30, LONGEST_PAUSE)]
)
def test_a_failing_lane_pauses_longer_each_time(failures: int, pause: float) -> None:
    state = LaneState(0, lag=5, failures=failures, failed_at=NOW - pause)
    assert decide([state], NOW + 0.1).start == (Start(0),)
    waiting = decide([state], NOW - 1)
    assert waiting.start == ()
    assert f"failed {failures} times" in waiting.reasons[0]


def test_requests_carry_tags_and_no_run_key_that_would_swallow_a_retry() -> None:
    (request,) = requests([Start(2)], lanes=3)
    assert request.run_key is None
    assert (request.tags[LANE_TAG], request.tags[LANES_TAG]) == ("2", "3")
    assert AFTER_TAG not in request.tags
    (behind,) = requests([Start(2, "0123456789")], lanes=3)
    assert (behind.tags[AFTER_TAG], behind.run_key) == ("0123456789", None)


def partitions(committed: int = 0) -> list[PartitionLag]:
    return [PartitionLag(number, low=0, high=9, committed=committed, lag=9 - committed) for number in range(3)]


def state(
    instance: DagsterInstance,
    holding: dict[int, str] | None = None,
    lanes: int = 1,
    memory: Memory | None = None,
    following: dict[int, str] | None = None,
) -> LaneState:
    return lane_states(
        instance, read_runs(instance, holding or {}, following or {}), partitions(), lanes, memory or Memory()
    )[-1]


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


def test_failures_from_before_the_lane_got_on_no_longer_count() -> None:
    with DagsterInstance.ephemeral() as instance:
        record_run(instance, DagsterRunStatus.FAILURE)
        failed_at = instance.get_run_records()[0].end_time or 0
        stuck = Memory().seen(partitions(), failed_at - 5).seen(partitions(), failed_at + 5)
        assert state(instance, memory=stuck).failures == 1
        got_on = stuck.seen(partitions(committed=2), failed_at + 10)
        assert state(instance, memory=got_on).failures == 0


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


def test_a_run_at_work_is_followed_by_one_run_at_a_time() -> None:
    with DagsterInstance.ephemeral() as instance:
        run_id = record_run(instance, DagsterRunStatus.STARTED)
        holding = dict.fromkeys(range(3), run_id)
        assert not state(instance, holding).followed
        assert state(instance, {}).followed, "it has not begun, or it just ends"
        assert state(instance, holding, following={2: "next"}).followed
        record_run(instance, DagsterRunStatus.STARTING)
        assert state(instance, holding).followed, "one is being started"


def test_nobody_follows_a_lane_that_has_just_failed() -> None:
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


def test_a_run_that_was_given_up_frees_its_lane_and_counts_as_a_failure(tmp_path: Path) -> None:
    with DagsterInstance.local_temp(str(tmp_path)) as instance:
        run_id = record_run(instance, DagsterRunStatus.STARTED)
        give_up(instance, read_runs(instance, {}, {}), frozenset({run_id}))
        assert state(instance).live_run is None
        assert state(instance).failures == 1


def test_a_lane_is_free_even_where_the_frozen_worker_keeps_dagster_from_being_told(tmp_path: Path) -> None:
    with DagsterInstance.local_temp(str(tmp_path)) as instance:
        run_id = record_run(instance, DagsterRunStatus.STARTED)
        frozen = sqlite3.connect(next(tmp_path.rglob(f"{run_id}.db")), isolation_level=None)
        frozen.execute("BEGIN IMMEDIATE")
        runs = give_up(instance, read_runs(instance, {}, {}), frozenset({run_id}))
        assert runs.live == {}
        frozen.close()


def test_what_a_tick_remembers_comes_back() -> None:
    memory = (
        Memory(12.5, frozenset({"a", "b"}), {"b": 9.5}).seen(partitions(), 13.0).seen(partitions(committed=2), 18.0)
    )
    assert Memory.from_cursor(memory.to_cursor()) == memory
    assert Memory.from_cursor(None).held == frozenset()


def test_a_server_that_lets_nobody_in_is_asked_less_and_less_often_until_it_does() -> None:
    memory, now, pauses = Memory(), 1000.0, []
    assert memory.denied_for(now) <= 0
    for _ in range(9):
        memory = Memory.from_cursor(memory.denied("no", now).to_cursor())
        pauses.append(memory.denied_for(now))
        now += pauses[-1]
        assert memory.denied_for(now) <= 0
    assert pauses == [2.5, 5, 10, 20, 40, 80, 160, 300, 300]
    assert memory.let_in().denied_for(now) <= 0


def test_a_run_whose_lease_ran_out_is_given_up_at_once_and_its_lane_started_without_a_pause(tmp_path: Path) -> None:
    with DagsterInstance.local_temp(str(tmp_path)) as instance:
        run_id = record_run(instance, DagsterRunStatus.STARTED)
        runs = read_runs(instance, {}, {}, frozenset({run_id}))
        assert Memory().heard(runs, NOW).gone(NOW) == frozenset()  # by its silence it might just be ending
        runs = give_up(instance, runs, runs.lapsed)
        now = time.time()
        (lane,) = lane_states(instance, runs, partitions(), 1, Memory())
        assert lane.failures == 1
        assert decide([lane], now).start == (Start(0),)


def test_a_lane_that_falls_silent_again_and_again_pauses(tmp_path: Path) -> None:
    with DagsterInstance.local_temp(str(tmp_path)) as instance:
        record_run(instance, DagsterRunStatus.FAILURE)
        run_id = record_run(instance, DagsterRunStatus.STARTED)
        runs = read_runs(instance, {}, {}, frozenset({run_id}))
        runs = give_up(instance, runs, runs.lapsed)
        (lane,) = lane_states(instance, runs, partitions(), 1, Memory())
        assert lane.failures == 2
        assert decide([lane], time.time()).start == ()


def test_a_clock_that_was_set_back_keeps_no_lane_waiting() -> None:
    ahead = NOW + 3600
    assert decide([LaneState(0, lag=5, failures=3, failed_at=ahead)], NOW).start == (Start(0),)
    memory = Memory(committed={0: (5, ahead)}, silent_since={"run": ahead})
    assert memory.seen(partitions(committed=5), NOW).advanced_at([0]) == NOW
    with DagsterInstance.ephemeral() as instance:
        run_id = record_run(instance, DagsterRunStatus.STARTED)
        silent = read_runs(instance, {}, {})
        memory = Memory(held=frozenset({run_id}), silent_since={run_id: ahead}).heard(silent, NOW)
        assert memory.gone(NOW + END_GRACE + 0.1) == {run_id}


CURSORS = [
    "garbage",
    "",
    "5",
    "null",
    "[]",
    '"text"',
    "{",
    "{}",
    '{"observed_at": "yesterday"}',
    '{"observed_at": NaN}',
    '{"observed_at": 1e400}',
    '{"held": 5, "committed": []}',
    '{"committed": {"zero": [1, 2]}}',
    '{"committed": {"0": 7}}',
    '{"committed": {"0": [7, 1, 2]}}',
    '{"denials": 99999999999, "denied_at": 1}',
    '{"denials": -1}',
    '{"silent_since": null}',
    "[" * 5000,
    '{"held": ["a"], "from": "a newer version"}',
]


@pytest.mark.parametrize("cursor", CURSORS, ids=range(len(CURSORS)))
def test_a_cursor_of_another_version_fails_no_tick(cursor: str) -> None:
    memory = Memory.from_cursor(cursor)
    assert memory.denied_for(NOW) <= 0
    after = memory.seen(partitions(committed=3), NOW).heard(read_runs(DagsterInstance.ephemeral(), {}, {}), NOW)
    assert Memory.from_cursor(after.to_cursor()) == after


def test_of_a_cursor_of_another_version_what_is_understood_is_remembered() -> None:
    said: list[str] = []
    memory = Memory.recalled('{"observed_at": 5.5, "held": "x", "denials": 2, "leases": []}', said.append)
    assert (memory.observed_at, memory.denials, memory.held) == (5.5, 2, frozenset())
    assert said == ["the cursor is of another version; these begin afresh: leases, held"]
    Memory.recalled(Memory(1.5).to_cursor(), said.append)
    assert len(said) == 1


def test_a_clock_that_was_set_back_keeps_no_server_unasked() -> None:
    assert Memory().denied("no", NOW + 86_400).denied_for(NOW) == 0.0


# Dagster's own reader of cursors gives up at one that is nested without end.
@pytest.mark.parametrize("cursor", [cursor for cursor in CURSORS if len(cursor) < 1000])
def test_the_sensor_of_failed_runs_begins_afresh_with_a_cursor_of_another_version(cursor: str) -> None:
    context = dg.build_sensor_context(instance=DagsterInstance.ephemeral(), cursor=cursor, definitions=dg.Definitions())
    found = run_failure.evaluate_tick(context)
    assert not found.run_requests
    assert found.cursor != cursor
