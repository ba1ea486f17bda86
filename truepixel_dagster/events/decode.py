"""Decode a Kafka message into an event, or into the reason why it is not one.

    >>> from truepixel_dagster.events.decode import Undecodable, decode
    >>> from truepixel_dagster.events.event import Message
    >>> from truepixel_dagster.events.origin import Origin
    >>> value = b'{"id": "e1", "name": "page_viewed", "clientId": "c1", "timestamp": "2026-01-05T10:00:00Z"}'
    >>> event = decode(Message(Origin("events", 0, 7), b"shop:c1", value, timestamp=1_767_607_201_000))
    >>> event.shop_id, event.client_id, event.name, event.source
    ('shop', 'c1', 'page_viewed', 'pixel')
    >>> isinstance(decode(Message(Origin("events", 0, 8), b"shop:c1", b"no JSON")), Undecodable)
    True

Errors are values: a message that cannot be decoded becomes an `Undecodable`.
"""

from __future__ import annotations

import re

import msgspec

from truepixel_dagster.events import pixel, webhook
from truepixel_dagster.events.bots import is_bot
from truepixel_dagster.events.event import Event, Message
from truepixel_dagster.events.headers import (
    EVENT_ID,
    RECEIVED_AT,
    SHOP_DOMAIN,
    SOURCE,
    TOPIC,
    Headers,
    topic_name,
)
from truepixel_dagster.events.hosts import MAX_HOST, normal
from truepixel_dagster.events.shape import Facts, longer_than
from truepixel_dagster.events.sites import NOTHING_KNOWN, Site, Sites
from truepixel_dagster.events.times import when
from truepixel_dagster.events.user_key import is_no_client, parse_user_key
from truepixel_dagster.events.written_times import Arrival

MAX_VALUE_BYTES = 40 * 1024 * 1024
MAX_DEPTH = 128
# For a webhook, the topic in front of the id is not counted.
MAX_EVENT_ID_BYTES = 256
# Elasticsearch's limit for the id of a document.
MAX_DOCUMENT_ID_BYTES = 512
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_BOM = b"\xef\xbb\xbf"
# An escape sequence of JSON; a surrogate pair is one. The group is half of a pair, or NUL.
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2}|u0000)|.)",
    re.DOTALL,
)
_BRACKETS = re.compile(rb'"(?:[^"\\]|\\.)*"|([\[{])|[\]}]', re.DOTALL)


class Undecodable(msgspec.Struct, frozen=True):
    """Hold a message that cannot be decoded, and the reason in one line."""

    message: Message
    reason: str


def decode(message: Message, sites: Sites = NOTHING_KNOWN) -> Event | Undecodable:
    """Decode a message by its headers or, without headers, by its payload's shape (docs/architecture.md, wire format).

    Arguments:
        message: The record.
        sites: The known sites of shops, in addition to the headers.
    """
    try:
        return _decode(message, sites)
    except RecursionError:
        return Undecodable(message, f"nested deeper than {MAX_DEPTH}")
    except UnicodeDecodeError as error:
        return Undecodable(message, f"not UTF-8: {error.reason} at byte {error.start}")
    except (ValueError, OverflowError) as error:
        return Undecodable(message, str(error)[:500])


def _decode(message: Message, sites: Sites) -> Event:
    shop, client = parse_user_key(message.key)
    payload = _checked(message.value)
    headers = Headers(message.headers)
    written = headers.text(SHOP_DOMAIN)
    domain = normal(written[: MAX_HOST + 1]) if written else None
    facts = _facts(payload, headers, sites.of(shop, domain))
    event_id = _event_id(headers, facts)
    if longer_than(MAX_DOCUMENT_ID_BYTES, f"{shop}:{event_id}"):
        raise ValueError(f"the event id with its shop and topic is longer than {MAX_DOCUMENT_ID_BYTES} bytes")
    times = when(
        facts.occurred_at,
        # An unreadable header must not cost the event.
        received=headers.raw(RECEIVED_AT).decode(errors="replace"),
        timestamp=message.timestamp,
        pixel=facts.source == "pixel",
    )
    bot = not sites.count_bots and is_bot(facts.user_agent)
    anonymous = is_no_client(client)
    order = facts.order(Arrival(times.occurred_at, times.received_at, event_id)) if facts.order else None
    # By position: msgspec takes ten times as long for keywords.
    return Event(
        shop,
        client,
        event_id,
        facts.name,
        facts.source,
        times.occurred_at,
        times.received_at,
        message.origin,
        payload,
        facts.url,
        facts.referrer,
        facts.came_from,
        None if bot or anonymous else facts.ad,
        facts.ad or facts.landing,
        facts.product_ids,
        facts.items,
        order,
        facts.order_id,
        facts.value,
        facts.customer_id,
        facts.email_hash,
        times.client_at,
        bot,
        anonymous,
        facts.utc_offset,
        domain,
    )


def _event_id(headers: Headers, facts: Facts) -> str:
    """Return the event id. A webhook's begins with its topic, because Shopify may use one id under several topics."""
    written = headers.text(EVENT_ID) or facts.event_id or ""
    topic = f"{facts.name}:" if facts.source == "webhook" else ""
    own = written.removeprefix(topic) if topic else written
    if not own:
        raise ValueError("no event id: neither in the header event_id nor in the field id")
    if longer_than(MAX_EVENT_ID_BYTES, own):
        raise ValueError(f"the event id is longer than {MAX_EVENT_ID_BYTES} bytes")
    return f"{topic}{own}" if topic else own


def _checked(value: bytes | None) -> bytes:
    """Return the payload after checking UTF-8, size and depth, without characters that no store accepts as text."""
    if not value:
        raise ValueError("the value is empty")
    if len(value) > MAX_VALUE_BYTES:
        raise ValueError(f"the value is larger than {MAX_VALUE_BYTES} bytes")
    # A decoded copy costs several times what the test for ASCII does.
    if not value.isascii():
        value.decode("utf-8")
    if value.startswith(_BOM):
        value = value[len(_BOM) :]
    value = storable(value)
    # Only a message with many brackets can be deep, so most are not measured.
    if value.count(b"{") + value.count(b"[") > MAX_DEPTH and _depth(value) > MAX_DEPTH:
        raise ValueError(f"nested deeper than {MAX_DEPTH}")
    return value


def storable(value: bytes) -> bytes:
    """Return JSON with U+FFFD instead of what no store takes as text: half of a surrogate pair, and NUL."""
    # Few values have an escape, and the search for a single byte is fast.
    if b"\\" in value and (b"\\ud" in value or b"\\uD" in value or b"\\u0000" in value):
        return _ESCAPE.sub(_mended, value)
    return value


def _mended(escape: re.Match[bytes]) -> bytes:
    """Return U+FFFD instead of NUL, or of half a surrogate pair, which JavaScript's `substring` leaves of an emoji."""
    return b"\\ufffd" if escape[1] else escape[0]


def _depth(value: bytes) -> int:
    try:
        level: list[object] = [msgspec.json.decode(value)]
    except (msgspec.MsgspecError, ValueError):
        # Not JSON, which is reported later, or an unused number that is too large to read.
        return _depth_of_brackets(value)
    depth = 0
    while level:
        depth += 1
        containers = [item for item in level if isinstance(item, (dict, list))]
        level = [child for item in containers for child in (item.values() if isinstance(item, dict) else item)]
    return depth - 1


def _depth_of_brackets(value: bytes) -> int:
    depth = deepest = 0
    for match in _BRACKETS.finditer(value):
        if match[1]:
            depth += 1
            deepest = max(depth, deepest)
        elif not match[0].startswith(b'"'):
            depth -= 1
    return deepest


def _facts(payload: bytes, headers: Headers, site: Site) -> Facts:
    source = headers.text(SOURCE)
    if source and source not in ("pixel", "webhook"):
        raise ValueError(f"header source {source[:40]!r} is neither pixel nor webhook")
    if source == "pixel":
        return pixel.facts(payload, site)
    written = headers.text(TOPIC)
    if not source and not written:
        fields = _OBJECT.decode(payload)
        if "clientId" in fields or ("name" in fields and "context" in fields):
            return pixel.facts(payload, site)
    return webhook.facts(payload, topic_name(written), site)
