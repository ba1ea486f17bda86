"""An event that a stage rejects, so that it becomes a dead letter."""

from __future__ import annotations

import msgspec

from truepixel_dagster.events.event import Event


class Refused(msgspec.Struct, frozen=True):
    """An event, and why a store rejected the document that a stage made of it."""

    event: Event
    reason: str
