"""What the pixel sends: one event or a batch, each event judged by itself.

    {"id": …, "name": …, …}                                    one event, as Shopify gives it to a pixel
    [{…}, {…}]                                                 several
    {"events": [{…}, {…}], "customerPrivacy": {…}}             several, with what their visitor allowed

An event is judged by the decoder that the pipeline uses, so that what is taken here becomes no dead letter there.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from truepixel_dagster.collector.consent import refused, without_person
from truepixel_dagster.collector.record import Record, pixel_record
from truepixel_dagster.events.decode import Undecodable, decode
from truepixel_dagster.events.event import Event, Message
from truepixel_dagster.events.origin import Origin

MAX_EVENT_BYTES, MAX_BATCH_BYTES, MAX_EVENTS = 64 * 1024, 512 * 1024, 256
DROP, STRIP = "drop", "strip"
_BOM = b"\xef\xbb\xbf"
_NOWHERE = Origin("collector", 0, 0)


class BadBatch(ValueError):
    """A body that is neither an event nor a batch; the message says why."""


class _Envelope(msgspec.Struct):
    events: list[msgspec.Raw] | None = None
    customerPrivacy: Any = None  # noqa: N815 (Shopify's name)


class _Said(msgspec.Struct):
    """What is read of an event before it is decoded."""

    clientId: Any = None  # noqa: N815
    customerPrivacy: Any = None  # noqa: N815


class Batch(NamedTuple):
    """The events of a body as their own bytes, and whether its visitor refuses analytics."""

    events: list[bytes]
    refused: bool = False


class Taken(NamedTuple):
    """An event that goes to the topic; the client and the tokens that it tells, where it may be known by them."""

    record: Record
    client: str | None = None
    tokens: tuple[str, ...] = ()


class Refused(NamedTuple):
    """An event that does not, and never will; why, in one line."""

    reason: str


class Dropped(NamedTuple):
    """An event that its visitor does not allow."""


_LIST = msgspec.json.Decoder(list[msgspec.Raw])
_ENVELOPE = msgspec.json.Decoder(_Envelope)
_SAID = msgspec.json.Decoder(_Said)
_OBJECT = msgspec.json.Decoder(dict[str, Any])


def split(body: bytes) -> Batch:
    """The events of a body.

    Raises:
        BadBatch: It is neither an event nor a batch of at most 256.
    """
    text = body.removeprefix(_BOM).strip()
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
    """What becomes of one event.

    Arguments:
        event: Its JSON.
        batch: What it came in.
        shop: The shop's id, by its pixel token.
        domain: The shop's `….myshopify.com`.
        now: When it arrived, in milliseconds since the epoch.
        consent: `drop` or `strip`: what is done with an event whose visitor refuses analytics.
        agent: The user agent of the request, if that is a bot's: it stands in the event then, which marks it.
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
    """An event that is not to go on as it came."""
    try:
        event = _OBJECT.decode(payload)
        if agent:
            _mark(event, agent)
        return Taken(record._replace(value=without_person(event) if strip else msgspec.json.encode(event)))
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError) as error:
        return Refused(f"it cannot be written anew: {_words(error)}")


def _mark(event: dict[str, Any], agent: str) -> None:
    """Write a user agent where the pipeline looks for it."""
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
