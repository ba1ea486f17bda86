"""Read values of Dagster's events, in the types that tests compare."""

from __future__ import annotations

import dagster as dg


def number_of(value: dg.MetadataValue) -> float:
    """Return a number in an event's metadata."""
    found = value.value
    assert isinstance(found, (int, float))
    return found


def failure_of(event: dg.DagsterEvent) -> str:
    """Return the description of the failure that a step raised."""
    data = event.step_failure_data.user_failure_data
    assert data is not None
    return str(data.description)
