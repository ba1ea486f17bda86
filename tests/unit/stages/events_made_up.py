"""Events for stage tests: only what a test speaks of is given."""

from __future__ import annotations

from typing import Any

from truepixel_dagster.events.ad import Ad
from truepixel_dagster.events.event import Event, Order
from truepixel_dagster.events.money import Money
from truepixel_dagster.events.origin import Origin

NOON = 1_767_268_800_000
MINUTE = 60_000
DAY = 86_400_000


def event(offset: int = 0, *, at: int = NOON, partition: int = 0, **fields: Any) -> Event:
    base: dict[str, Any] = {"shop_id": "s", "client_id": "c", "event_id": f"e{offset}", "name": "page_viewed"}
    base |= {"source": "pixel", "payload": b"{}", "received_at": at}
    return Event(**(base | fields), occurred_at=at, origin=Origin("t", partition, offset))


def ad(campaign: str = "jan", platform: str = "google") -> Ad:
    return Ad(platform=platform, source=platform, campaign=campaign)


def sighting(offset: int, *, token: str | None = "tok", order_id: str | None = None, **fields: Any) -> Event:
    value = fields.pop("value", Money(10_00, "USD"))
    status = fields.pop("status", "open")
    order = Order(order_id, token, status, sighting=True)
    return event(offset, name="checkout_completed", order=order, value=value, **fields)
