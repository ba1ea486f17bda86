"""An event that a store would not take: a dead letter of one stage."""

from __future__ import annotations

import msgspec

from truepixel_dagster.events.event import Event


class Refused(msgspec.Struct, frozen=True):
    """An event, and why a store refused what a stage made of it."""

    event: Event
    reason: str
