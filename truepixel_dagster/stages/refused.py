"""An event that a stage rejects, so that it becomes a dead letter."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from truepixel_dagster.events.event import Event


class Refused(msgspec.Struct, frozen=True):
    """An event, and why a store rejected the document that a stage made of it."""

    event: Event
    reason: str


def without(events: tuple[Event, ...], refused: Sequence[Refused]) -> tuple[Event, ...]:
    """Return the events that were not refused."""
    if not refused:
        return events
    gone = {item.event.origin for item in refused}
    return tuple(event for event in events if event.origin not in gone)
