"""A record on its way to the topic."""

from __future__ import annotations

from typing import NamedTuple

from truepixel_dagster.events.event import iso
from truepixel_dagster.events.headers import EVENT_ID, RECEIVED_AT, SHOP_DOMAIN, SOURCE, TOPIC

Headers = tuple[tuple[str, bytes], ...]
# What a record takes in memory and on disk beside its bytes.
OVERHEAD = 200


class Record(NamedTuple):
    """Key, value and headers as they come to stand on the topic."""

    key: bytes
    value: bytes
    headers: Headers

    @property
    def size(self) -> int:
        """Bytes that it takes, about."""
        headers = sum(len(name) + len(value) for name, value in self.headers)
        return OVERHEAD + len(self.key) + len(self.value) + headers


def pixel_record(key: bytes, value: bytes, domain: str, now: int) -> Record:
    """The record of a pixel event.

    Arguments:
        key: `shop:client`.
        value: The event's JSON.
        domain: The shop's `….myshopify.com`.
        now: When it arrived, in milliseconds since the epoch.
    """
    headers: Headers = (
        (SOURCE, b"pixel"),
        (SHOP_DOMAIN, domain.encode()),
        (RECEIVED_AT, iso(now).encode()),
    )
    return Record(key, value, headers)


def webhook_record(key: bytes, value: bytes, domain: str, now: int, *, topic: str, event_id: bytes) -> Record:
    """The record of a webhook.

    Arguments:
        key: `shop:client`.
        value: The body as it came.
        domain: The shop's `….myshopify.com`.
        now: When it arrived, in milliseconds since the epoch.
        topic: Such as `orders/create`.
        event_id: What Shopify calls the delivery; none if empty.
    """
    headers: Headers = (
        (SOURCE, b"webhook"),
        (TOPIC, topic.encode()),
        (SHOP_DOMAIN, domain.encode()),
        (RECEIVED_AT, iso(now).encode()),
    )
    return Record(key, value, (*headers, (EVENT_ID, event_id)) if event_id else headers)
