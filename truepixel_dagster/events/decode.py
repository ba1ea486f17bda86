"""From a Kafka message to an event, or to the reason why it is none.

Errors are values: a message that cannot be understood becomes `Undecodable` and goes its own way.
"""

from __future__ import annotations

from datetime import datetime, timezone

import msgspec

from truepixel_dagster.events import pixel, webhook
from truepixel_dagster.events.event import DAY, EPOCH, Event, Message
from truepixel_dagster.events.shape import Facts, longer_than
from truepixel_dagster.events.user_key import parse_user_key

MAX_VALUE_BYTES = 40 * 1024 * 1024
MAX_DEPTH = 128
MAX_EVENT_ID_BYTES = 256
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Undecodable(msgspec.Struct, frozen=True):
    """A message that cannot be understood, and why, in one line."""

    message: Message
    reason: str


def decode(message: Message) -> Event | Undecodable:
    """Understand a message by its headers, or where it has none by its payload's shape (docs/architecture.md, wire)."""
    try:
        return _decode(message)
    except RecursionError:
        return Undecodable(message, f"nested deeper than {MAX_DEPTH}")
    except UnicodeDecodeError as error:
        return Undecodable(message, f"not UTF-8: {error.reason} at byte {error.start}")
    except (ValueError, OverflowError) as error:
        return Undecodable(message, str(error)[:500])


def _decode(message: Message) -> Event:
    shop, client = parse_user_key(message.key)
    payload = _checked(message.value)
    headers = {name: value.decode() if value else "" for name, value in message.headers}
    received_at = _received_at(headers.get("received_at"), message.timestamp)
    facts = _facts(payload, headers)
    event_id = headers.get("event_id") or facts.event_id
    if not event_id:
        raise ValueError("no event id")
    if longer_than(MAX_EVENT_ID_BYTES, event_id):
        raise ValueError(f"the event id is longer than {MAX_EVENT_ID_BYTES} bytes")
    occurred_at = received_at if facts.occurred_at is None else to_millis(facts.occurred_at)
    return Event(
        shop_id=shop,
        client_id=client,
        event_id=event_id,
        name=facts.name,
        source=facts.source,
        occurred_at=occurred_at,
        received_at=received_at,
        origin=message.origin,
        payload=payload,
        url=facts.url,
        referrer=facts.referrer,
        ad=facts.ad,
        product_ids=facts.product_ids,
        items=facts.items,
        order=facts.order,
        value=facts.value,
        customer_id=facts.customer_id,
        email_hash=facts.email_hash,
    )


def _checked(value: bytes | None) -> bytes:
    """The payload, known to be UTF-8 and within the bounds of size and depth."""
    if not value:
        raise ValueError("the value is empty")
    if len(value) > MAX_VALUE_BYTES:
        raise ValueError(f"the value is larger than {MAX_VALUE_BYTES} bytes")
    value.decode("utf-8")
    # Only a message with many brackets can be deep: most never pay for the measuring.
    if value.count(b"{") + value.count(b"[") > MAX_DEPTH and _depth(msgspec.json.decode(value)) > MAX_DEPTH:
        raise ValueError(f"nested deeper than {MAX_DEPTH}")
    return value


def _depth(value: object) -> int:
    depth, level = 0, [value]
    while level:
        depth += 1
        containers = [item for item in level if isinstance(item, (dict, list))]
        level = [child for item in containers for child in (item.values() if isinstance(item, dict) else item)]
    return depth - 1


def _facts(payload: bytes, headers: dict[str, str]) -> Facts:
    source, topic = headers.get("source"), headers.get("topic")
    if source and source not in ("pixel", "webhook"):
        raise ValueError(f"header source {source[:40]!r} is neither pixel nor webhook")
    if source == "pixel":
        return pixel.facts(payload)
    if not source and not topic:
        fields = _OBJECT.decode(payload)
        if "clientId" in fields or ("name" in fields and "context" in fields):
            return pixel.facts(payload)
    return webhook.facts(payload, topic)


def _received_at(header: str | None, timestamp: int) -> int:
    """The header's time; a header that is no time is not worth losing the event for."""
    try:
        if header:
            return _within_bounds(int(header)) if header.isdigit() else to_millis(header)
    except (ValueError, OverflowError):
        pass
    return timestamp


def to_millis(text: str) -> int:
    """An ISO 8601 time as milliseconds since the epoch; without an offset it is UTC.

    Raises:
        ValueError: Not a time, or not in the years 2000 to 2100.
    """
    try:
        moment = msgspec.convert(text, datetime, strict=False) if not text.isdigit() else None
    except msgspec.ValidationError:
        moment = None
    if moment is None:
        raise ValueError(f"time {text[:40]!r} is not ISO 8601")
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    since = moment - EPOCH
    # Dividing a timedelta takes as long as all the rest.
    return _within_bounds(since.days * DAY + since.seconds * 1000 + since.microseconds // 1000)


_FIRST, _LAST = 946_684_800_000, 4_133_980_800_000  # the years 2000 to 2100


def _within_bounds(millis: int) -> int:
    if not _FIRST <= millis < _LAST:
        raise ValueError("the time is not in the years 2000 to 2100")
    return millis
