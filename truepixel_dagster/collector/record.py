"""A record for the topic."""

from __future__ import annotations

from typing import NamedTuple

from truepixel_dagster.events.event import iso
from truepixel_dagster.events.headers import EVENT_ID, RECEIVED_AT, SHOP_DOMAIN, SOURCE, TOPIC

Headers = tuple[tuple[str, bytes], ...]
# About what a record takes in memory and on disk in addition to its bytes.
OVERHEAD = 200


class Record(NamedTuple):
    """Hold key, value and headers as the topic stores them."""

    key: bytes
    value: bytes
    headers: Headers

    @property
    def size(self) -> int:
        """Return the record's approximate size in bytes."""
        headers = sum(len(name) + len(value) for name, value in self.headers)
        return OVERHEAD + len(self.key) + len(self.value) + headers


def pixel_record(key: bytes, value: bytes, domain: str, now: int) -> Record:
    """Build the record of a pixel event.

    Arguments:
        key: `shop:client`.
        value: The event's JSON.
        domain: The shop's `….myshopify.com`.
        now: The arrival time in milliseconds since the epoch.
    """
    headers: Headers = (
        (SOURCE, b"pixel"),
        (SHOP_DOMAIN, domain.encode()),
        (RECEIVED_AT, iso(now).encode()),
    )
    return Record(key, value, headers)


def webhook_record(key: bytes, value: bytes, domain: str, now: int, *, topic: str, event_id: bytes) -> Record:
    """Build the record of a webhook.

    Arguments:
        key: `shop:client`.
        value: The body as received.
        domain: The shop's `….myshopify.com`.
        now: The arrival time in milliseconds since the epoch.
        topic: Such as `orders/create`.
        event_id: Shopify's id of the delivery; empty if there is none.
    """
    headers: Headers = (
        (SOURCE, b"webhook"),
        (TOPIC, topic.encode()),
        (SHOP_DOMAIN, domain.encode()),
        (RECEIVED_AT, iso(now).encode()),
    )
    return Record(key, value, (*headers, (EVENT_ID, event_id)) if event_id else headers)
