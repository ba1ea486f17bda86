"""Weekly visitors: distinct clients with a pixel event in the shop's ISO week."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from truepixel_dagster.audit.oracle.events import Event
from truepixel_dagster.audit.oracle.records import Shop
from truepixel_dagster.audit.oracle.times import week


def weekly_visitors(events: Iterable[Event], shops: Mapping[str, Shop]) -> dict[str, int]:
    """Return the visitors by shop and week; bots and anonymous clients are not counted."""
    clients: dict[str, set[str]] = defaultdict(set)
    for event in events:
        if event.source == "pixel" and not event.bot and not event.nobody:
            clients[f"{event.shop}:{week(event.occurred_at, shops.get(event.shop))}"].add(event.client)
    return {id_: len(distinct) for id_, distinct in clients.items()}
