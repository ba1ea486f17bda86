"""Read the times that webhooks name, and decide which of them are plausible."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from truepixel_dagster.events.event import DAY
from truepixel_dagster.events.times import FIRST, instant

# An order may be planned: its time is plausible up to this long after its arrival.
_AHEAD = 30 * DAY
_OFFSET = re.compile(r"[0-9]([+-])([0-9]{2}):?([0-9]{2})$")


class Arrival(msgspec.Struct, frozen=True):
    """Hold the times of an event and of its arrival (milliseconds since the epoch), and its id."""

    occurred_at: int
    received_at: int
    event_id: str


def moment_of(text: Any) -> int | None:
    """Return a time in milliseconds since the epoch; None if it is not a time."""
    try:
        return instant(text) if isinstance(text, str) else None
    except (ValueError, OverflowError):
        return None


def first_time(arrival: Arrival, *texts: Any) -> tuple[int, int] | None:
    """Return the first plausible time, and the UTC offset in minutes that it was written with."""
    for text in texts:
        moment = moment_of(text)
        if moment is not None and _is_believed(moment, arrival):
            return moment, offset_of(text)
    return None


def bounded_time(moment: int, arrival: Arrival) -> int:
    """Return a time if it is plausible, else the arrival."""
    return moment if _is_believed(moment, arrival) else arrival.received_at


def _is_believed(moment: int, arrival: Arrival) -> bool:
    return FIRST <= moment <= arrival.received_at + _AHEAD


def offset_of(text: Any) -> int:
    """Return the UTC offset of a written time in minutes; 0 for UTC and for an invalid time."""
    # Shopify writes most times with an offset: 2026-01-31T09:30:00-05:00.
    found = _OFFSET.search(text) if isinstance(text, str) else None
    if found is None or moment_of(text) is None:
        return 0
    minutes = 60 * int(found[2]) + int(found[3])
    return -minutes if found[1] == "-" else minutes


def time_or_none(text: Any) -> Any:
    """Return a written time as it is; None if it is not a time."""
    return text if moment_of(text) is not None else None
