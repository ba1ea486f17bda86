"""Split a request of the pixel into its events, one or a batch, and check each event separately.

    {"id": …, "name": …, …}                                    one event, as Shopify passes it to a pixel
    [{…}, {…}]                                                 several events
    {"events": [{…}, {…}], "customerPrivacy": {…}}             several events with their visitor's consent

The check uses the pipeline's own decoder, so an event that the collector accepts never becomes a dead letter there.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from truepixel_dagster.collector.consent import refused, without_person
from truepixel_dagster.collector.record import Record, pixel_record
from truepixel_dagster.events.decode import Undecodable, decode, storable
from truepixel_dagster.events.event import Event, Message
from truepixel_dagster.events.origin import Origin

MAX_EVENT_BYTES, MAX_BATCH_BYTES, MAX_EVENTS = 64 * 1024, 512 * 1024, 256
DROP, STRIP = "drop", "strip"
_BOM = b"\xef\xbb\xbf"
_NOWHERE = Origin("collector", 0, 0)


class BadBatch(ValueError):
    """A body is neither an event nor a batch; the message says why."""


class _Envelope(msgspec.Struct):
    events: list[msgspec.Raw] | None = None
    customerPrivacy: Any = None  # noqa: N815 (Shopify's name)


class _Said(msgspec.Struct):
    """Hold the fields that are read before an event is decoded."""

    clientId: Any = None  # noqa: N815
    customerPrivacy: Any = None  # noqa: N815


class Batch(NamedTuple):
    """Hold the events of a body as their original bytes, and whether the visitor refuses analytics."""

    events: list[bytes]
    refused: bool = False


class Taken(NamedTuple):
    """Hold an accepted event, and its client and the tokens that identify the client, unless consent forbids it."""

    record: Record
    client: str | None = None
    tokens: tuple[str, ...] = ()


class Refused(NamedTuple):
    """Hold the reason, in one line, why an event is refused for good."""

    reason: str


class Dropped(NamedTuple):
    """Mark an event that its visitor's consent does not allow."""


_LIST = msgspec.json.Decoder(list[msgspec.Raw])
_ENVELOPE = msgspec.json.Decoder(_Envelope)
_SAID = msgspec.json.Decoder(_Said)
_OBJECT = msgspec.json.Decoder(dict[str, Any])


def split(body: bytes) -> Batch:
    """Return the events of a body.

    Raises:
        BadBatch: The body is neither an event nor a batch of at most 256.
    """
    text = storable(body.removeprefix(_BOM).strip())
    try:
        if text.startswith(b"["):
            return _bounded(Batch([bytes(event) for event in _LIST.decode(text)]))
        envelope = _ENVELOPE.decode(text)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise BadBatch(f"not an event or a batch: {_words(error)}") from None
    if envelope.events is None:
        return Batch([text])
    return _bounded(Batch([bytes(event) for event in envelope.events], refused(envelope.customerPrivacy)))


def judge(
    event: bytes, batch: Batch, *, shop: str, domain: str, now: int, consent: str, agent: str
) -> Taken | Refused | Dropped:
    """Decide what happens to one event.

    Arguments:
        event: Its JSON.
        batch: The body that contains it.
        shop: The shop's id, found by its pixel token.
        domain: The shop's `….myshopify.com`.
        now: When it arrived, in milliseconds since the epoch.
        consent: `drop` or `strip`: what to do with an event whose visitor refuses analytics.
        agent: The request's user agent if it is a bot's: it replaces the event's own, which marks the event as a bot's.
    """
    if len(event) > MAX_EVENT_BYTES:
        return Refused(f"the event is larger than {MAX_EVENT_BYTES} bytes")
    try:
        said = _SAID.decode(event)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        return Refused(f"not an event: {_words(error)}")
    not_allowed = batch.refused or refused(said.customerPrivacy)
    if not_allowed and consent == DROP:
        return Dropped()
    client = "" if not_allowed or not isinstance(said.clientId, str) else said.clientId.strip()
    try:
        record = pixel_record(f"{shop}:{client}".encode(), event, domain, now)
    except UnicodeEncodeError:
        return Refused("the client id is not UTF-8")
    found = decode(Message(_NOWHERE, record.key, record.value, record.headers, now))
    if isinstance(found, Undecodable):
        return Refused(found.reason)
    is_forged = bool(agent) and not found.bot
    if not_allowed or is_forged:
        return _changed(record, found.payload, agent if is_forged else "", strip=not_allowed)
    return Taken(record, None if found.anonymous or found.bot else found.client_id, _tokens(found))


def _changed(record: Record, payload: bytes, agent: str, *, strip: bool) -> Taken | Refused:
    """Decide on an event that must be changed before it is sent."""
    try:
        event = _OBJECT.decode(payload)
        if agent:
            _mark(event, agent)
        return Taken(record._replace(value=without_person(event) if strip else msgspec.json.encode(event)))
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError) as error:
        return Refused(f"the event cannot be rewritten: {_words(error)}")


def _mark(event: dict[str, Any], agent: str) -> None:
    """Write a user agent into the field where the pipeline reads it."""
    context = event["context"] = event["context"] if isinstance(event.get("context"), dict) else {}
    navigator = context.get("navigator")
    context["navigator"] = {**(navigator if isinstance(navigator, dict) else {}), "userAgent": agent}


def _tokens(event: Event) -> tuple[str, ...]:
    order = event.order
    return tuple(token for token in (order.cart_token, order.checkout_token) if token) if order else ()


def _bounded(batch: Batch) -> Batch:
    if not batch.events:
        raise BadBatch("the batch has no events")
    if len(batch.events) > MAX_EVENTS:
        raise BadBatch(f"the batch has more than {MAX_EVENTS} events")
    return batch


def _words(error: Exception) -> str:
    return "nested too deep" if isinstance(error, RecursionError) else str(error)[:200]
