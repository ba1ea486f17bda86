"""Decode a Kafka record into an event: key, headers, payload, source, name, id, times."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from truepixel_dagster.audit.oracle.bots import is_bot
from truepixel_dagster.audit.oracle.channels import Channels
from truepixel_dagster.audit.oracle.events import Event
from truepixel_dagster.audit.oracle.lines import check_lines
from truepixel_dagster.audit.oracle.pixels import pixel_content
from truepixel_dagster.audit.oracle.records import DeadLetter, Doc, Origin, Record, Shop
from truepixel_dagster.audit.oracle.shapes import PIXEL, check_types, webhook_types
from truepixel_dagster.audit.oracle.times import event_times
from truepixel_dagster.audit.oracle.topics import topic_of
from truepixel_dagster.audit.oracle.values import id_, id_as_it_is, inside, is_nobody, maybe_text, text
from truepixel_dagster.audit.oracle.webhooks import webhook_content

LARGEST_VALUE = 40 * 1024 * 1024
DEEPEST = 128
LONGEST_NUMBER = 1_000
LONGEST_NAME = LONGEST_EVENT_ID = LONGEST_CLIENT = 256
LONGEST_SHOP = 128
LINES_PER_EVENT = 2_000
LONGEST_DOCUMENT_ID = 512
_CONTROL = re.compile("[\x00-\x1f\x7f]")

# Our header, then Shopify's names of the same (https://shopify.dev/docs/apps/build/webhooks: "Webhook headers").
HEADERS = {
    "source": ["source"],
    "topic": ["topic", "x-shopify-topic", "shopify-topic"],
    "event_id": ["event_id", "x-shopify-webhook-id", "shopify-webhook-id"],
    "shop_domain": ["shop_domain", "x-shopify-shop-domain", "shopify-shop-domain"],
    "received_at": ["received_at", "x-shopify-triggered-at", "shopify-triggered-at"],
}


def decoded(
    records: Iterable[Record], dead: dict[Origin, str], shops: Mapping[str, Shop], channels: Channels, lines: int
) -> Iterator[Event]:
    """Yield the events of the records; `dead` gets the reasons of the others. A repeated record counts once."""
    seen: set[Origin] = set()
    for record in records:
        origin = (record.partition, record.offset)
        if origin in seen:
            continue
        seen.add(origin)
        try:
            yield decode(record, shops, channels, lines)
        except DeadLetter as reason:
            dead[origin] = str(reason)


def decode(
    record: Record,
    shops: Mapping[str, Shop] | None = None,
    channels: Channels | None = None,
    lines: int = LINES_PER_EVENT,
) -> Event:
    """Return the event of a record with at most `lines` lines.

    Raises:
        DeadLetter: The record cannot be decoded.
    """
    shop, client = _shop_and_client(record.key)
    known = (shops or {}).get(shop, Shop())
    rules = channels or Channels()
    headers = {name.lower(): value for name, value in record.headers}
    payload = _payload(record.value)
    source = _source(headers, payload)
    if source == "pixel":
        check_types(payload, PIXEL)
        name = text(payload.get("name"), "name")
        said = payload.get("timestamp")
    else:
        name = topic_of(_header(headers, "topic")) or _topic_by_shape(payload)
        check_types(payload, webhook_types(name))
        said = _webhook_time(name, payload)
    if not name:
        raise DeadLetter("name: missing")
    if len(name.encode("utf-8")) > LONGEST_NAME:
        raise DeadLetter("name: too long")
    occurred_at, received_at, client_at = event_times(said, source, _arrival(headers), record.timestamp_ms)
    event_id = _event_id(headers, source, name, payload)
    if len(f"{shop}:{event_id}".encode()) > LONGEST_DOCUMENT_ID:
        raise DeadLetter("the event id with its shop and topic is longer than 512 bytes")
    domain = _header(headers, "shop_domain")
    check_lines(source, name, payload, lines)
    if source == "pixel":
        content = pixel_content(name, payload, known, domain, rules)
    else:
        content = webhook_content(name, payload, known, domain, rules, occurred_at, received_at)
    return Event(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        shop=shop,
        client=client,
        event_id=event_id,
        name=name,
        source=source,
        occurred_at=occurred_at,
        received_at=received_at,
        content=content,
        client_at=client_at,
        bot=source == "pixel" and is_bot(maybe_text(inside(payload, "context", "navigator").get("userAgent"))),
        nobody=is_nobody(client),
    )


def _shop_and_client(key: bytes | None) -> tuple[str, str]:
    try:
        whole = (key or b"").decode("utf-8")
    except UnicodeDecodeError:
        raise DeadLetter("key: not UTF-8") from None
    shop, colon, client = whole.partition(":")
    if not shop or not colon:
        raise DeadLetter("key: not shop:client")
    if len(shop.encode()) > LONGEST_SHOP or len(client.encode()) > LONGEST_CLIENT:
        raise DeadLetter("key: too long")
    if _CONTROL.search(whole):
        raise DeadLetter("key: control character")
    return shop, client


# --- The payload ---


def _payload(value: bytes | None) -> Doc:
    if not value:
        raise DeadLetter("value: empty")
    if len(value) > LARGEST_VALUE:
        raise DeadLetter("value: too large")
    try:
        payload = json.loads(
            value.decode("utf-8-sig"),
            parse_float=_json_number,
            parse_int=_json_integer,
            parse_constant=_no_constant,
            object_pairs_hook=_json_object,
        )
    except UnicodeDecodeError:
        raise DeadLetter("value: not UTF-8") from None
    except RecursionError:
        raise DeadLetter("value: nested too deep") from None
    except ValueError:
        raise DeadLetter("value: not JSON") from None
    if not isinstance(payload, dict):
        raise DeadLetter("value: not an object")
    # Most payloads have too few objects and lists to be that deep.
    if value.count(b"{") + value.count(b"[") > DEEPEST and _deeper_than(payload, DEEPEST):
        raise DeadLetter("value: nested too deep")
    return payload


def _json_integer(written: str) -> int:
    _check_length(written)
    return int(written)


def _json_number(written: str) -> Decimal:
    _check_length(written)
    try:
        return Decimal(written)
    except InvalidOperation:  # an exponent beyond what Decimal can hold
        return Decimal("Infinity")


def _check_length(number: str) -> None:
    # Neither the event history nor Python reads longer numbers.
    if len(number) > LONGEST_NUMBER and sum(character.isdigit() for character in number) > LONGEST_NUMBER:
        raise DeadLetter("value: a number of more than 1,000 digits")


def _json_object(pairs: list[tuple[str, Any]]) -> Doc:
    # The event history refuses an object that names something twice.
    found = dict(pairs)
    if len(found) != len(pairs):
        raise DeadLetter("value: an object has a name twice")
    return found


def _no_constant(written: str) -> None:
    raise ValueError(f"{written} is not JSON")


def _deeper_than(payload: Doc, limit: int) -> bool:
    level: list[Any] = [payload]
    for _ in range(limit):
        level = [child for parent in level for child in _children(parent)]
        if not level:
            return False
    return True


def _children(parent: Any) -> list[Any]:
    values = parent.values() if isinstance(parent, dict) else parent
    return [value for value in values if isinstance(value, (dict, list))]


# --- Source, name, time and id ---


def _header(headers: Mapping[str, bytes | None], name: str) -> str | None:
    """Return the header's text, ours or Shopify's; None if neither has one."""
    for each in HEADERS[name]:
        try:
            found = (headers.get(each) or b"").decode("utf-8")
        except UnicodeDecodeError:
            raise DeadLetter(f"header {each}: not UTF-8") from None
        if found:
            return found
    return None


def _arrival(headers: Mapping[str, bytes | None]) -> bytes | None:
    return next((headers[name] for name in HEADERS["received_at"] if headers.get(name)), None)


def _source(headers: Mapping[str, bytes | None], payload: Doc) -> str:
    if source := _header(headers, "source"):
        if source not in ("pixel", "webhook"):
            raise DeadLetter("header source: neither pixel nor webhook")
        return source
    if _header(headers, "topic"):
        return "webhook"
    if "clientId" in payload or ("name" in payload and "context" in payload):
        return "pixel"
    return "webhook"


def _topic_by_shape(payload: Doc) -> str:
    if "refund_line_items" in payload:
        return "refunds/create"
    if "financial_status" in payload or "order_number" in payload:
        return "orders/create" if payload.get("cancelled_at") is None else "orders/cancelled"
    if "abandoned_checkout_url" in payload:
        return "checkouts/create"
    if "token" in payload and "line_items" in payload:
        return "carts/update"
    raise DeadLetter("webhook: unknown shape, and no header topic")


def _webhook_time(topic: str, payload: Doc) -> Any:
    if topic == "orders/cancelled":
        names = ["cancelled_at", "updated_at", "created_at"]
    elif topic == "orders/paid" or topic.endswith("/create"):
        names = ["created_at"]
    else:
        names = ["updated_at", "created_at"]
    given = [payload[name] for name in names if payload.get(name) is not None]
    return given[0] if given else None


def _event_id(headers: Mapping[str, bytes | None], source: str, name: str, payload: Doc) -> str:
    """Return a pixel event's id, or a webhook's with its topic as prefix, so that two topics never share an id."""
    found = _header(headers, "event_id")
    if found is None:
        found = id_as_it_is(payload.get("id"), "id") if source == "pixel" else _own_id(name, payload)
    own = found if found is None or source == "pixel" else found.removeprefix(f"{name}:")
    if not own:
        raise DeadLetter("id: missing, and no header event_id")
    if len(own.encode("utf-8")) > LONGEST_EVENT_ID:
        raise DeadLetter("event id: too long")
    return own if source == "pixel" else f"{name}:{own}"


def _own_id(topic: str, payload: Doc) -> str | None:
    own = id_(payload.get("id"), "id")
    updated_at = maybe_text(payload.get("updated_at"))
    if own is None or not updated_at or topic in ("orders/create", "orders/paid", "orders/cancelled"):
        return own
    return f"{own}:{updated_at}"
