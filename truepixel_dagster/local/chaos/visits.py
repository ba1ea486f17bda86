"""Simple events for faults in which the visitors do not matter."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

import msgspec

from truepixel_dagster.local.traffic import Record


def visits(shop: str, count: int, at: datetime | None = None) -> Iterator[Record]:
    """Return one page view of each of `count` clients of a shop.

    Arguments:
        shop: The shop's name, without its domain.
        count: The number of clients.
        at: The time; now by default.
    """
    return (visit(shop, number, at=at) for number in range(count))


def visit(
    shop: str,
    number: int,
    name: str = "page_viewed",
    *,
    at: datetime | None = None,
    timestamp: str | int | None = None,
    client: int | None = None,
    campaign: str | None = None,
) -> Record:
    """Return the record of one event.

    Arguments:
        shop: The shop's name, without its domain.
        number: The event's number within the shop.
        name: The pixel event's name; `product_viewed` has a product.
        at: The time; now by default.
        timestamp: The client's time instead, also an invalid one.
        client: The client's number; the event's number by default.
        campaign: The campaign of the ad that the visit came from, if any.
    """
    time = timestamp if timestamp is not None else _iso(at)
    data = {"productVariant": {"product": {"id": "1"}}} if name == "product_viewed" else {}
    query = f"?utm_source=google&utm_medium=cpc&utm_campaign={campaign}" if campaign else ""
    return _pixel(shop, number, name, time, number if client is None else client, data, query)


def order(shop: str, token: str, number: int, *, client: int) -> Record:
    """Return a sighting of an order that has this checkout token."""
    checkout = {
        "token": token,
        "currencyCode": "USD",
        "totalPrice": {"amount": 25.5, "currencyCode": "USD"},
        "lineItems": [{"quantity": 1, "variant": {"product": {"id": "1"}, "price": {"amount": 25.5}}}],
    }
    return _pixel(shop, number, "checkout_completed", _iso(None), client, {"checkout": checkout}, "")


def _pixel(shop: str, number: int, name: str, said: str | int, client: int, data: Any, query: str) -> Record:
    domain, id_ = f"{shop}.myshopify.com", f"{shop}-{number}"
    payload = {
        "id": id_,
        "name": name,
        "clientId": f"client-{client}",
        "timestamp": said,
        "type": "standard",
        "data": data,
        "context": {"document": {"location": {"href": f"https://{domain}/{query}"}, "referrer": ""}},
    }
    headers = (("source", b"pixel"), ("event_id", id_.encode()))
    return Record(f"{domain}:client-{client}".encode(), msgspec.json.encode(payload), headers, name, 0)


def _iso(at: datetime | None) -> str:
    return (at or datetime.now(timezone.utc)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
