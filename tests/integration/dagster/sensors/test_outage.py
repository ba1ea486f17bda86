"""When a sensor that cannot work is red."""

from __future__ import annotations

import dagster as dg
import pytest

from truepixel_dagster.sensors.outage import RED_AFTER, SensorHeldUp, held_up
from truepixel_dagster.supervisor.memory import Memory

WHY = "Redis at 127.0.0.1:1: ConnectionError"


@pytest.mark.parametrize("seconds", [0.0, 5.0, RED_AFTER - 1, -3600.0])
def test_for_a_minute_a_tick_is_skipped_with_the_reason(seconds: float) -> None:
    assert held_up(WHY, 1000.0, 1000.0 + seconds).skip_message == WHY


@pytest.mark.parametrize("seconds", [RED_AFTER, 3600.0])
def test_after_a_minute_the_tick_fails_with_the_reason_in_its_first_line(seconds: float) -> None:
    with pytest.raises(SensorHeldUp) as failed:
        held_up(WHY, 1000.0, 1000.0 + seconds)
    assert str(failed.value).splitlines()[0].startswith(WHY)
    # Dagster shows such an error as it is, and puts a line of its own above any other.
    assert isinstance(failed.value, dg.DagsterError)


def test_a_sensor_without_an_outage_does_not_fail() -> None:
    assert held_up(WHY, 0.0, 1e9).skip_message == WHY


def test_the_cursor_remembers_since_when_and_forgets_it_once_all_servers_answer() -> None:
    memory = Memory().held_up(100.0)
    assert Memory.from_cursor(memory.to_cursor()).held_up(200.0).held_up_since == 100.0
    assert memory.held_up(200.0).let_in().held_up_since == 0.0
    # A clock that was ahead and has been set back.
    assert memory.held_up(50.0).held_up_since == 50.0
