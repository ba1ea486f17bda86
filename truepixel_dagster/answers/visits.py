"""Cut a client's pixel events of a shop's day into visits.

A visit ends after 30 minutes without an event, at the shop's midnight, and when a touch of another source begins, as
sessions in Google's Universal Analytics did (support.google.com/analytics/answer/2731565). Its source is that of the
touch that it begins with, else `direct`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import groupby

import msgspec

from truepixel_dagster.events.pixel_payload import ADDED_TO_CART, CHECKOUT_STARTED, PRODUCT_VIEWED
from truepixel_dagster.orders.credit import DIRECT

PAUSE = timedelta(minutes=30)


class Source(msgspec.Struct, frozen=True, order=True):
    """Describe where a visit or a credit came from. `campaign` and `campaign_id` are empty if there is none."""

    channel: str
    platform: str
    campaign: str = ""
    campaign_id: str = ""


class SeenEvent(msgspec.Struct, frozen=True):
    """Hold the fields of an event that cutting visits needs."""

    event_id: str
    client_id: str
    name: str
    occurred_at: datetime
    channel: str | None = None
    platform: str | None = None
    campaign: str | None = None
    campaign_id: str | None = None

    @property
    def source(self) -> Source | None:
        """Return the source of a touch; None for any other event."""
        if self.channel is None:
            return None
        return Source(self.channel, self.platform or "unknown", self.campaign or "", self.campaign_id or "")


class Visit(msgspec.Struct, frozen=True):
    """Hold one visit and the steps that it reached."""

    source: Source
    viewed: bool
    put_into_cart: bool
    started_checkout: bool


class SourceVisits(msgspec.Struct, frozen=True):
    """Count the visits of one source, and those of them that reached each step."""

    source: Source
    visits: int
    product_views: int
    carts: int
    checkouts: int


def by_source(visits: Iterable[Visit]) -> list[SourceVisits]:
    """Return the visits of each source, in the order of the sources."""
    found: dict[Source, list[Visit]] = {}
    for visit in visits:
        found.setdefault(visit.source, []).append(visit)
    return [
        SourceVisits(
            source,
            len(own),
            sum(visit.viewed for visit in own),
            sum(visit.put_into_cart for visit in own),
            sum(visit.started_checkout for visit in own),
        )
        for source, own in sorted(found.items())
    ]


def visits_of(events: Iterable[SeenEvent]) -> list[Visit]:
    """Return the visits of a shop's day.

    Arguments:
        events: The pixel events of the day, of people only, in any order.
    """
    ordered = sorted(events, key=lambda event: (event.client_id, event.occurred_at, event.event_id))
    return [_visit(part) for _, own in groupby(ordered, key=lambda event: event.client_id) for part in _cut(own)]


def _cut(events: Iterable[SeenEvent]) -> Iterator[Sequence[SeenEvent]]:
    part: list[SeenEvent] = []
    source: Source | None = None
    for event in events:
        came = event.source
        if part and (event.occurred_at - part[-1].occurred_at >= PAUSE or (came is not None and came != source)):
            yield part
            part, source = [], None
        if not part:
            source = came
        part.append(event)
    if part:
        yield part


def _visit(events: Sequence[SeenEvent]) -> Visit:
    names = {event.name for event in events}
    return Visit(
        events[0].source or Source(DIRECT, DIRECT),
        PRODUCT_VIEWED in names,
        ADDED_TO_CART in names,
        CHECKOUT_STARTED in names,
    )
