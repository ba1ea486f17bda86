"""Stage 1: write the event history, and distinguish redeliveries from duplicates.

A record that finds its own document is a redelivery: it continues, because a crash may have kept it from the later
stages. A different record with the same event id is a duplicate: it stops here and costs nothing further. A record
whose document Elasticsearch accepted before and rejects now also continues as a redelivery.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from truepixel_dagster.events.ad import Ad
from truepixel_dagster.events.event import Event, iso, month_of
from truepixel_dagster.events.money import Money
from truepixel_dagster.events.origin import Origin
from truepixel_dagster.stages.refused import Refused
from truepixel_dagster.stores.documents import SCHEMA, Reader, Unreadable
from truepixel_dagster.stores.elasticsearch import CONFLICT, Action, ElasticsearchStore, Outcome
from truepixel_dagster.stores.errors import Unavailable

EVENTS = "events"


class EventDocument(msgspec.Struct, frozen=True, omit_defaults=True):
    """The document of one event; `payload` is the raw JSON, `client_at` the payload's time where it was replaced."""

    shop_id: str
    client_id: str
    event_id: str
    name: str
    source: str
    occurred_at: str
    received_at: str
    kafka: Origin
    payload: msgspec.Raw
    schema: int
    url: str | None = None
    referrer: str | None = None
    ad: Ad | None = None
    product_ids: tuple[str, ...] = ()
    order_id: str | None = None
    checkout_token: str | None = None
    cart_token: str | None = None
    value: Money | None = None
    client_at: str | None = None
    channel: str | None = None
    bot: bool = False
    sales_channel: str | None = None
    test: bool = False
    shop_domain: str | None = None


class _Stored(msgspec.Struct, frozen=True):
    """The field that distinguishes a redelivery from a duplicate."""

    kafka: Origin


KNOWN = frozenset(field.name for field in msgspec.structs.fields(EventDocument))
STORED = Reader(_Stored, f"Elasticsearch {EVENTS}")
_ENCODE = msgspec.json.Encoder().encode


class Indexed(msgspec.Struct, frozen=True):
    """The result of stage 1: the events that continue (new and redelivered), in order, and counts of the others."""

    events: tuple[Event, ...]
    redelivered: int
    duplicates: int
    refused: tuple[Refused, ...]


def document(event: Event) -> bytes:
    """Return the event's document as JSON on one line.

    Valid JSON has line breaks only between its tokens, so they can be replaced by blanks without parsing it.
    """
    payload = event.payload
    if b"\n" in payload or b"\r" in payload:
        payload = payload.replace(b"\n", b" ").replace(b"\r", b" ")
    order = event.order
    shown = order.payload if order else None
    # Pass fields by position: msgspec takes ten times as long for keywords.
    return _ENCODE(
        EventDocument(
            event.shop_id,
            event.client_id,
            event.event_id,
            event.name,
            event.source,
            iso(event.occurred_at),
            iso(event.received_at),
            event.origin,
            msgspec.Raw(payload),
            SCHEMA,
            event.url,
            event.referrer,
            event.visit,
            event.product_ids,
            event.order_id,
            order.checkout_token if order else None,
            order.cart_token if order else None,
            event.value,
            event.client_at,
            event.ad.channel if event.ad else None,
            event.bot,
            shown.sales_channel if shown else None,
            bool(shown and shown.test),
            event.shop_domain,
        )
    )


def decide(events: Sequence[Event], outcomes: Sequence[Outcome], origins: dict[int, Origin]) -> Indexed:
    """Decide which events continue, from Elasticsearch's answers to the creation of their documents.

    Arguments:
        events: The micro-batch, in order.
        outcomes: The answer for each event.
        origins: For each position with an existing document, the origin of the record from which it was made.
    """
    continuing: list[Event] = []
    refused: list[Refused] = []
    redelivered = duplicates = 0
    for position, (event, outcome) in enumerate(zip(events, outcomes)):
        if position not in origins:
            if outcome.error:
                refused.append(Refused(event, outcome.error))
            else:
                continuing.append(event)
        elif origins[position] == event.origin:
            redelivered += 1
            continuing.append(event)
        else:
            duplicates += 1
    return Indexed(tuple(continuing), redelivered, duplicates, tuple(refused))


def run(events: Sequence[Event], store: ElasticsearchStore) -> Indexed:
    """Create the micro-batch's documents in one request; distinguish new events, redeliveries and duplicates.

    Raises:
        Unavailable: Elasticsearch does not answer.
    """
    keys = [(index_name(event, store), event.document_id) for event in events]
    actions = [Action("create", index, id_, document(event)) for (index, id_), event in zip(keys, events)]
    outcomes = list(store.bulk(actions))
    met = [position for position, outcome in enumerate(outcomes) if outcome.error]
    found = store.mget([keys[position] for position in met], fields=["kafka"])
    origins: dict[int, Origin] = {}
    for position, doc in zip(met, found):
        if doc or outcomes[position].status == CONFLICT:
            try:
                origins[position] = _origin(doc, keys[position][1])
            except Unreadable as error:
                outcomes[position] = Outcome(400, str(error))
    return decide(events, outcomes, origins)


def index_name(event: Event, store: ElasticsearchStore) -> str:
    """Return the name of the index of the event's month (UTC)."""
    return store.index(f"{EVENTS}-{month_of(event.occurred_at)}")


def _origin(found: Any, id_: str) -> Origin:
    if found is None:
        raise Unavailable(f"the document {id_} was removed during the comparison; it is tried again")
    return STORED.read(id_, found.source).kafka
