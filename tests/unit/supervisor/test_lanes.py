"""Which lanes get a run: a decision on plain figures, without Dagster and servers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from truepixel_dagster.supervisor.lanes import (
    FIRST_PAUSE,
    LONGEST_PAUSE,
    START_GRACE,
    EndedRun,
    LaneState,
    LiveRun,
    Runs,
    Start,
    decide,
    failures_since,
    lane_states,
)

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


def test_a_run_is_requested_behind_one_without_a_standby_run() -> None:
    processing = LaneState(0, lag=5, live_run="0123456789", followed=False)
    assert decide([processing], NOW).start == (Start(0, "0123456789"),)
    for not_now in (replace(processing, followed=True), replace(processing, lag=0), replace(processing, failures=1)):
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


def runs(
    live: Mapping[str, LiveRun],
    holders: Mapping[int, str] | None = None,
    following: Mapping[int, str] | None = None,
) -> Runs:
    return Runs(live, holders or {}, following or {})


def states(
    found: Runs, lanes: int = 1, ended: Sequence[EndedRun] = (), advanced_at: float = 0.0, unreported: int | None = None
) -> list[LaneState]:
    owed = frozenset() if unreported is None else frozenset({unreported})
    return lane_states(found, {0: 3, 1: 0, 2: 4}, lanes, lambda _: advanced_at, lambda _: ended, owed)


def test_each_lane_has_the_lag_of_its_partitions() -> None:
    assert [(lane.lane, lane.lag) for lane in states(runs({}), lanes=2)] == [(0, 7), (1, 0)]


def test_a_run_has_the_partitions_that_it_was_started_for_and_those_that_it_holds() -> None:
    one_of_two = {"old": LiveRun((1, 2), NOW)}
    assert [lane.live_run for lane in states(runs(one_of_two), lanes=2)] == [None, "old"]
    assert [lane.live_run for lane in states(runs(one_of_two), lanes=3)] == [None, "old", None]
    assert [lane.live_run for lane in states(runs(one_of_two, {2: "old"}), lanes=3)] == [None, "old", "old"]


@pytest.mark.parametrize("share", [None, (5, 3), (-1, 3), (0, 0)])
def test_a_run_that_names_no_lane_has_none(share: tuple[int, int] | None) -> None:
    assert states(runs({"odd": LiveRun(share, NOW)}))[0].live_run is None


def test_a_lane_has_at_most_one_standby_run() -> None:
    live = {"one": LiveRun((0, 1), NOW)}
    processing = dict.fromkeys(range(3), "one")
    assert not states(runs(live, processing))[0].followed
    assert states(runs(live))[0].followed, "it has not begun, or it just ends"
    assert states(runs(live, processing, {2: "next"}))[0].followed
    assert states(runs({**live, "next": LiveRun((0, 1), 0.0)}, processing))[0].followed, "one is being started"


def test_failures_count_back_to_the_last_success_or_the_last_progress() -> None:
    ended = [
        EndedRun("d", True, 40.0),
        EndedRun("c", True, 30.0),
        EndedRun("b", False, 20.0),
        EndedRun("a", True, 10.0),
    ]
    assert failures_since(0.0, ended, frozenset()) == (2, 40.0)
    assert failures_since(35.0, ended, frozenset()) == (1, 40.0)
    assert failures_since(0.0, ended, frozenset({"d"})) == (2, 30.0), (
        "a run that is given up failed when it fell silent"
    )
    (lane,) = states(runs({}), ended=ended, advanced_at=35.0)
    assert (lane.failures, lane.failed_at) == (1, 40.0)


def test_the_ended_runs_of_a_lane_that_needs_no_start_are_not_read() -> None:
    def unread(lane: int) -> Sequence[EndedRun]:
        raise AssertionError(lane)

    lane_states(runs({}), {0: 0}, 1, lambda _: 0.0, unread)
    lane_states(runs({"one": LiveRun((0, 1), NOW)}), {0: 5}, 1, lambda _: 0.0, unread)


def test_a_lane_without_lag_is_started_for_what_its_last_run_did_not_report() -> None:
    (lane,) = lane_states(runs({}), {0: 0}, 1, lambda _: 0.0, lambda _: (), frozenset({0}))
    assert lane.unreported
    assert decide([lane], NOW).start == (Start(0),)


def test_a_run_is_silent_without_a_lease_that_it_had_or_had_the_time_to_take() -> None:
    live = {"one": LiveRun((0, 1), NOW)}
    assert runs(live).silent(NOW + START_GRACE - 1, frozenset()) == frozenset()
    assert runs(live).silent(NOW + 1, {"one"}) == {"one"}
    assert runs(live).silent(NOW + START_GRACE + 1, frozenset()) == {"one"}
    assert runs(live, {0: "one"}).silent(NOW + START_GRACE + 1, {"one"}) == frozenset()
    assert runs(live, {}, {0: "one"}).silent(NOW + START_GRACE + 1, {"one"}) == frozenset()
    assert runs({"one": LiveRun((0, 1), 0.0)}).silent(NOW, frozenset()) == frozenset(), "it has not started"


def test_a_lane_whose_run_was_given_up_is_free() -> None:
    found = runs({"dead": LiveRun((0, 1), NOW)}).without(frozenset({"dead"}))
    assert found.live == {}
    assert found.given_up == frozenset({"dead"})
    assert states(found)[0].live_run is None
