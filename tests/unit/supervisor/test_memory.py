"""The state of the sensor between ticks, and cursors of other versions."""

from __future__ import annotations

import pytest

from tests.unit.supervisor.cursors import CURSORS
from truepixel_dagster.supervisor.lanes import LONGEST_PAUSE, LiveRun, Runs
from truepixel_dagster.supervisor.memory import END_GRACE, Memory

NOW = 1_000_000.0


def offsets(committed: int) -> dict[int, int]:
    return dict.fromkeys(range(3), committed)


OFFSETS = offsets(0)


def test_the_state_of_a_tick_is_read_back() -> None:
    memory = Memory(12.5, frozenset({"a", "b"}), {"b": 9.5}).seen(OFFSETS, 13.0).seen(offsets(2), 18.0)
    assert Memory.from_cursor(memory.to_cursor()) == memory
    assert Memory.from_cursor(None).held == frozenset()


def test_a_server_that_denies_access_is_asked_less_and_less_often_until_it_allows_it() -> None:
    memory, now, pauses = Memory(), 1000.0, []
    assert memory.denied_for(now) <= 0
    for _ in range(9):
        memory = Memory.from_cursor(memory.denied("no", now).to_cursor())
        pauses.append(memory.denied_for(now))
        now += pauses[-1]
        assert memory.denied_for(now) <= 0
    assert pauses == [2.5, 5, 10, 20, 40, 80, 160, 300, 300]
    assert memory.let_in().denied_for(now) <= 0


def test_a_run_is_gone_when_it_has_been_silent_for_longer_than_an_ending_one() -> None:
    live = {"one": LiveRun((0, 1), NOW)}
    at_work, silent = Runs(live, {0: "one"}, {}), Runs(live, {}, {})
    memory = Memory().heard(at_work, NOW).heard(silent, NOW + 5)
    assert memory.gone(NOW + 5 + END_GRACE) == frozenset()
    assert memory.heard(silent, NOW + 10).gone(NOW + 5.1 + END_GRACE) == {"one"}
    assert memory.heard(at_work, NOW + 10).gone(NOW + 99) == frozenset()


def test_a_run_that_has_ended_is_remembered_no_longer() -> None:
    memory = Memory().heard(Runs({"one": LiveRun((0, 1), NOW)}, {0: "one"}, {}), NOW)
    assert memory.held == {"one"}
    assert memory.heard(Runs({}, {}, {}), NOW).held == frozenset()


def test_partitions_advance_when_a_tick_sees_another_committed_offset() -> None:
    memory = Memory().seen(OFFSETS, 10.0)
    assert memory.advanced_at([0, 1]) == 0.0, "the first tick does not know since when"
    assert memory.seen(OFFSETS, 20.0).advanced_at([0]) == 0.0
    assert memory.seen({0: 5, 1: 0}, 20.0).advanced_at([0, 1]) == 20.0


@pytest.mark.parametrize("cursor", CURSORS, ids=range(len(CURSORS)))
def test_a_cursor_of_another_version_fails_no_tick(cursor: str) -> None:
    memory = Memory.from_cursor(cursor)
    assert memory.denied_for(NOW) <= 0
    after = memory.seen(offsets(3), NOW).heard(Runs({}, {}, {}), NOW)
    assert Memory.from_cursor(after.to_cursor()) == after


def test_the_readable_parts_of_another_versions_cursor_are_kept() -> None:
    said: list[str] = []
    memory = Memory.recalled('{"observed_at": 5.5, "held": "x", "denials": 2, "leases": []}', said.append)
    assert (memory.observed_at, memory.denials, memory.held) == (5.5, 2, frozenset())
    assert said == ["the cursor is from another version; these fields were reset: leases, held"]
    Memory.recalled(Memory(1.5).to_cursor(), said.append)
    assert len(said) == 1


def test_a_clock_that_was_set_back_stops_no_query_of_a_server() -> None:
    assert Memory().denied("no", NOW + 86_400).denied_for(NOW) == 0.0


def test_denials_are_counted_as_far_as_the_cursor_holds_them() -> None:
    memory = Memory()
    for _ in range(1001):
        memory = memory.denied("no", NOW)
    assert Memory.from_cursor(memory.to_cursor()) == memory
    assert memory.denied_for(NOW) == LONGEST_PAUSE
