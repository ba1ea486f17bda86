"""Touches: the visits of each user, in the order of offsets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from truepixel_dagster.audit.oracle.events import Event
from truepixel_dagster.audit.oracle.records import Doc, Origin, present
from truepixel_dagster.audit.oracle.times import iso


@dataclass(frozen=True)
class Touch:
    """A visit. `at` is in milliseconds since the epoch; the touch of an order's landing page has no origin."""

    event_id: str
    at: int
    ad: Doc
    referrer: str | None
    origin: Origin | None = None


def touches_of_users(events: Iterable[Event], repeat_ms: float) -> dict[str, list[Touch]]:
    """Return all touches of each user. An ad repeated soon after the user's previous touch is the same touch."""
    touches: dict[str, list[Touch]] = {}
    for event in sorted(events, key=lambda event: event.origin):
        if not event.is_visit:
            continue
        touch = Touch(
            event.event_id, event.occurred_at, event.content.ad or {}, event.content.referrer_host, event.origin
        )
        own = touches.setdefault(event.user, [])
        if not own or not _is_repeat(own[-1], touch, repeat_ms):
            own.append(touch)
    return touches


def _is_repeat(previous: Touch, touch: Touch, repeat_ms: float) -> bool:
    return _same_ad(previous.ad, touch.ad) and abs(touch.at - previous.at) <= repeat_ms


def _same_ad(one: Doc, other: Doc) -> bool:
    if "click_id" in one or "click_id" in other:
        return all(one.get(name) == other.get(name) for name in ("click_id", "click_id_type"))
    return all(one.get(name) == other.get(name) for name in ("source", "medium", "campaign", "platform"))


def lead_doc(touches: list[Touch]) -> Doc:
    """Return the document of a user's touches. Only their ads have a channel."""
    docs = []
    for touch in touches:
        partition, offset = touch.origin or (None, None)
        docs.append(present(**{**touch_doc(touch), "channel": None}, partition=partition, offset=offset))
    return {"touches": docs}


def touch_doc(touch: Touch) -> Doc:
    """Return a touch as part of a document."""
    return present(
        event_id=touch.event_id,
        at=iso(touch.at),
        ad=touch.ad,
        channel=touch.ad["channel"],
        referrer=touch.referrer,
    )
