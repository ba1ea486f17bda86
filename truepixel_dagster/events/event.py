"""A Kafka message as received, and the event that it decodes to."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from functools import lru_cache

import msgspec

from truepixel_dagster.events.ad import Ad
from truepixel_dagster.events.money import Money
from truepixel_dagster.events.order import OrderNews
from truepixel_dagster.events.origin import Origin

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
DAY = 86_400_000  # milliseconds


class Message(msgspec.Struct, frozen=True):
    """Hold a Kafka record as received. `timestamp` is the record's own, in milliseconds since the epoch."""

    origin: Origin
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    timestamp: int = 0

    @property
    def size(self) -> int:
        """Return the bytes of key, value and headers."""
        size = len(self.key or b"") + len(self.value or b"")
        for name, value in self.headers:
            size += len(name) + len(value or b"")
        return size


class LineItem(msgspec.Struct, frozen=True):
    """Hold one line of a cart, checkout or order. `revenue` is its amount after discounts, if known."""

    product_id: str
    quantity: int
    revenue: Money | None = None


class Event(msgspec.Struct, frozen=True):
    """Hold an event as the stages use it. Times are milliseconds since the epoch, UTC.

    `client_at` is the payload's own time as written, if it was implausible and replaced. `shop_domain` is the domain in
    the record's headers, `came_from` the host outside of the shop that a page view came from.
    """

    shop_id: str
    client_id: str
    event_id: str
    name: str
    source: str
    occurred_at: int
    received_at: int
    origin: Origin
    payload: bytes
    url: str | None = None
    referrer: str | None = None
    came_from: str | None = None
    ad: Ad | None = None
    visit: Ad | None = None
    product_ids: tuple[str, ...] = ()
    items: tuple[LineItem, ...] = ()
    order: OrderNews | None = None
    order_id: str | None = None
    value: Money | None = None
    customer_id: str | None = None
    email_hash: str | None = None
    client_at: str | None = None
    bot: bool = False
    anonymous: bool = False
    utc_offset: int | None = None
    shop_domain: str | None = None

    @property
    def user(self) -> str:
        """Return `shop:client`, the key by which order is kept."""
        return f"{self.shop_id}:{self.client_id}"

    @property
    def document_id(self) -> str:
        """Return `shop:event_id`, which duplicates share. A shop id has no colon, so two shops never share one."""
        return f"{self.shop_id}:{self.event_id}"


def from_millis(millis: int) -> datetime:
    """Return milliseconds since the epoch as a UTC datetime."""
    return EPOCH + timedelta(milliseconds=millis)


def day_of(millis: int) -> str:
    """Return the UTC day of a moment in milliseconds since the epoch: `2026-01-31`."""
    return _day(millis // DAY)


def month_of(millis: int) -> str:
    """Return the month of a moment in milliseconds since the epoch, UTC: `2026.01`."""
    return _month(millis // DAY)


def week_of(millis: int) -> str:
    """Return the ISO week of a moment in milliseconds since the epoch, UTC: `2026-W05`."""
    return _week(millis // DAY)


def iso(millis: int) -> str:
    """Return milliseconds since the epoch as ISO 8601 UTC with milliseconds: `2026-01-31T09:30:00.000Z`."""
    minute, rest = divmod(millis, 60_000)
    return f"{_minute(minute)}{rest // 1000:02d}.{rest % 1000:03d}Z"


# Called twice for every event, and the events of a micro-batch span few minutes.
@lru_cache(maxsize=4096)
def _minute(number: int) -> str:
    return from_millis(number * 60_000).isoformat()[:17]


# Events span few days, and formatting a date costs more than everything else here.
@lru_cache(maxsize=1024)
def _day(number: int) -> str:
    return from_millis(number * DAY).strftime("%Y-%m-%d")


@lru_cache(maxsize=1024)
def _month(number: int) -> str:
    return from_millis(number * DAY).strftime("%Y.%m")


@lru_cache(maxsize=1024)
def _week(number: int) -> str:
    year, week, _ = from_millis(number * DAY).isocalendar()
    return f"{year:04d}-W{week:02d}"
