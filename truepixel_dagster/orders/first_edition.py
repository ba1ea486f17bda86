"""Convert what a document of the first edition says of an order into facts of this edition.

The document names the order's sightings, the deciding client with its touches, and the value. It does not know the
order's lines and refunds: its product counts are assumed to be what the next payload says was sold. A rebuild from the
history makes them exact.
"""

from __future__ import annotations

import msgspec

from truepixel_dagster.events.ad import Ad
from truepixel_dagster.events.money import Money
from truepixel_dagster.events.order import STATUSES, Completion, OrderPayload
from truepixel_dagster.events.origin import Origin
from truepixel_dagster.events.times import to_millis
from truepixel_dagster.events.touch import Touch
from truepixel_dagster.orders.cluster import Cluster
from truepixel_dagster.orders.counts import Entry
from truepixel_dagster.orders.facts import ORDER, TOKEN, ClientFacts, FirstCompletion, Node, Sighting, When

_MOST_SIGHTINGS = 1_000


class _Sighting(msgspec.Struct, frozen=True):
    source: str
    event_id: str
    kafka: Origin
    client_id: str
    occurred_at: str
    value: Money | None = None


class _Touch(msgspec.Struct, frozen=True):
    event_id: str
    at: str
    ad: Ad
    kafka: Origin


class Document(msgspec.Struct, frozen=True):
    """Hold the fields that are read from a document of the first edition. The first sighting counted the order."""

    shop_id: str
    client_id: str
    occurred_at: str
    status: str
    sightings: tuple[_Sighting, ...]
    touches: tuple[_Touch, ...] = ()
    order_id: str | None = None
    checkout_token: str | None = None
    value: Money | None = None


def cluster_of(document: Document) -> Cluster | None:
    """Return the cluster of an order; None for a document without a sighting, which is an import."""
    if not document.sightings:
        return None
    first = document.sightings[0]
    money = first.value or document.value
    entry = Entry(
        f"{document.shop_id}:{first.client_id}", money.currency if money else None, money.amount if money else 0
    )
    nodes = [node for node in (_of_pixel(document), _of_webhook(document)) if node]
    ids = {f"{document.shop_id}:{id_}" for id_ in (document.order_id, document.checkout_token) if id_}
    return Cluster(document.shop_id, tuple(sorted(ids)), tuple(nodes), imported=(entry,))


def _of_pixel(document: Document) -> Node | None:
    seen = [sighting for sighting in document.sightings if sighting.source == "pixel"]
    if not seen or not (document.checkout_token or document.order_id):
        return None
    when = min(_when(sighting) for sighting in seen)
    return Node(
        kind=TOKEN if document.checkout_token else ORDER,
        id=document.checkout_token or document.order_id or "",
        completion=FirstCompletion(document.value is None, when, Completion(document.value)),
        completed_at=when,
        order_ids=(document.order_id,) if document.order_id else (),
        clients=_clients(document, seen),
        sightings=_sightings(seen),
    )


def _of_webhook(document: Document) -> Node | None:
    seen = [sighting for sighting in document.sightings if sighting.source != "pixel"]
    if not seen or not document.order_id:
        return None
    at, event_id = min(_when(sighting) for sighting in seen)
    status = document.status if document.status in STATUSES else STATUSES[0]
    payload = OrderPayload(
        updated_at=at,
        event_id=event_id,
        status=status,
        received_at=at,
        at=at,
        was_paid=status in ("paid", "refunded"),
        total=document.value,
        checkout_token=document.checkout_token,
    )
    return Node(
        kind=ORDER,
        id=document.order_id,
        payloads=(payload,),
        clients=_clients(document, seen),
        sightings=_sightings(seen),
    )


def _clients(document: Document, seen: list[_Sighting]) -> tuple[ClientFacts, ...]:
    found: dict[str, ClientFacts] = {}
    for sighting in sorted(seen, key=_when):
        if sighting.client_id in found:
            continue
        pixel, when = sighting.source == "pixel", _when(sighting)
        last = max((s.kafka.partition, s.kafka.offset) for s in seen if s.client_id == sighting.client_id)
        found[sighting.client_id] = ClientFacts(
            sighting.client_id,
            completed=when if pixel else None,
            keyed=None if pixel else when,
            last=last,
            touches=_touches(document) if sighting.client_id == document.client_id else (),
        )
    return tuple(found[client] for client in sorted(found))


def _touches(document: Document) -> tuple[Touch, ...]:
    return tuple(Touch(t.event_id, t.at, t.ad, t.kafka.partition, t.kafka.offset) for t in document.touches)


def _sightings(seen: list[_Sighting]) -> tuple[Sighting, ...]:
    found = (Sighting(s.source, s.event_id, s.kafka, to_millis(s.occurred_at), s.client_id) for s in seen)
    return tuple(sorted(found, key=lambda each: each.order)[:_MOST_SIGHTINGS])


def _when(sighting: _Sighting) -> When:
    return to_millis(sighting.occurred_at), sighting.event_id
