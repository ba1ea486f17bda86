"""The status of orders, whatever the order in which its events arrive.

A refund names only the order id, and a cancellation may arrive before the order itself. So what is known of an order's
status is kept in MongoDB under its checkout token and under its order id, with the link between the two; both updates
are commutative, so that a replay changes nothing. The highest status then goes into the order's attribution.

No status is lost between two workers: a sighting writes its attribution before it reads here, and a status is written
here before its attribution is looked for. Whichever is second sees the first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import msgspec
from pymongo import UpdateOne

from truepixel_dagster.events.event import Event, Order
from truepixel_dagster.events.shape import STATUS_RANK
from truepixel_dagster.retrying import pause
from truepixel_dagster.stages.attribution import ATTRIBUTIONS, status_of
from truepixel_dagster.stages.refused import Refused
from truepixel_dagster.stores.documents import SCHEMA, Reader, Unreadable
from truepixel_dagster.stores.elasticsearch import CONFLICT, Action, ElasticsearchStore, Found
from truepixel_dagster.stores.errors import Unavailable
from truepixel_dagster.stores.mongodb import ORDER_STATUS, MongoStore

_BY_RANK = {rank: status for status, rank in STATUS_RANK.items()}
_REREADS = 40


class Raised(msgspec.Struct, frozen=True):
    """How many attributions changed their status, and the events whose documents were refused or cannot be
    read."""

    changed: int = 0
    refused: tuple[Refused, ...] = ()


class _Status(msgspec.Struct, frozen=True):
    """What is read of an order's status; a link has no rank of its own."""

    rank: int = 0
    attribution: str | None = None


STATUS = Reader(_Status, f"MongoDB {ORDER_STATUS}")


def keys(event: Event) -> list[str]:
    """Under which ids an order's status is kept: its token, its order id, as far as the event names them."""
    order = _order(event)
    named = (("token", order.checkout_token), ("order", order.order_id))
    return [f"{event.shop_id}:{kind}:{id_}" for kind, id_ in named if id_]


def updates(event: Event) -> list[UpdateOne]:
    """What an event adds to the knowledge of its order's status; what a newer version keeps of it stays as it is."""
    order, ids, rank = _order(event), keys(event), STATUS_RANK[_order(event).status]
    new = [_update(ids[0], {"$max": {"rank": rank, "schema": SCHEMA}})] if rank else []
    if len(ids) == 2:
        link = {"attribution": f"{event.shop_id}:{order.checkout_token}"}
        new.append(_update(ids[1], {"$set": link, "$max": {"rank": 0, "schema": SCHEMA}}))
    return new


def _update(id_: str, change: Mapping[str, Any]) -> UpdateOne:
    return UpdateOne({"_id": id_, "schema": {"$not": {"$gt": SCHEMA}}}, change, upsert=True)


def readable(
    events: Sequence[Event], known: Mapping[str, Mapping[str, Any]]
) -> tuple[list[Event], tuple[Refused, ...]]:
    """Tell the events whose orders' statuses can be read from those whose cannot."""
    good: list[Event] = []
    refused: list[Refused] = []
    for event in events:
        try:
            for id_ in keys(event):
                STATUS.read(id_, known.get(id_, {}))
            good.append(event)
        except Unreadable as error:
            refused.append(Refused(event, str(error)))
    return good, tuple(refused)


def decide(events: Sequence[Event], known: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    """The rank of status that each attribution should have at least, by attribution id; open ones are left out.

    Raises:
        Unreadable: What is known of an order cannot be read; `readable` tells which can.
    """
    ranks: dict[str, int] = {}
    for event in events:
        rank = max([STATUS_RANK[_order(event).status]] + [status.rank for status in _known(event, known)])
        target = target_of(event, known)
        ranks[target] = max(rank, ranks.get(target, 0))
    return {target: rank for target, rank in ranks.items() if rank}


def _known(event: Event, known: Mapping[str, Mapping[str, Any]]) -> list[_Status]:
    return [STATUS.read(id_, known.get(id_, {})) for id_ in keys(event)]


def target_of(event: Event, known: Mapping[str, Mapping[str, Any]]) -> str:
    """The id of the attribution of an event's order, by what is known of the orders."""
    linked = next((status.attribution for status in _known(event, known) if status.attribution), None)
    return linked or f"{event.shop_id}:{_order(event).identity}"


def not_reached(wanted: Mapping[str, int], written: Mapping[str, str]) -> dict[str, int]:
    """The ranks that attributions are not known to have reached; a status only ever rises."""
    return {id_: rank for id_, rank in wanted.items() if id_ not in written or rank > STATUS_RANK[written[id_]]}


def run(
    events: Sequence[Event],
    mongodb: MongoStore,
    elasticsearch: ElasticsearchStore,
    written: Mapping[str, str] = MappingProxyType({}),
) -> Raised:
    """Keep what the batch's order events say of their status and bring the attributions up to it.

    Arguments:
        events: The events that run on, after their sightings have been written.
        mongodb: Where what is known of orders is kept.
        elasticsearch: Where the attributions are.
        written: Statuses that attributions are known to have reached, by id: they need not be looked at for less.

    Raises:
        Unavailable: A store does not answer.
    """
    speaking = [event for event in events if event.order]
    if not speaking:
        return Raised()
    mongodb.write(ORDER_STATUS, [update for event in speaking for update in updates(event)])
    known = mongodb.read(ORDER_STATUS, {id_ for event in speaking for id_ in keys(event)})
    good, unreadable = readable(speaking, known)
    wanted = not_reached(decide(good, known), written)
    changed = len(wanted)
    reasons: dict[str, str] = {}
    for attempt in range(_REREADS):
        if attempt > 1:
            pause(attempt)
        wanted = _raise_status(wanted, elasticsearch, reasons)
        if not wanted:
            refused = ((event, reasons.get(target_of(event, known))) for event in good)
            late = tuple(Refused(event, reason) for event, reason in refused if reason)
            return Raised(changed - len(reasons), (*unreadable, *late))
    raise Unavailable(f"Elasticsearch at {elasticsearch.address}: orders kept changing under {_REREADS} tries")


def _raise_status(wanted: Mapping[str, int], store: ElasticsearchStore, reasons: dict[str, str]) -> dict[str, int]:
    """One read and one write; returns what somebody else changed in between, and says why documents were refused."""
    index = store.index(ATTRIBUTIONS)
    behind: list[Found] = []
    for doc in store.mget([(index, id_) for id_ in wanted]):
        try:
            if doc and STATUS_RANK[status_of(doc)] < wanted[doc.id]:
                behind.append(doc)
        except Unreadable as error:
            reasons[doc.id if doc else ""] = str(error)
    actions = [
        Action("index", index, doc.id, _with_status(doc, _BY_RANK[wanted[doc.id]]), doc.seq_no, doc.primary_term)
        for doc in behind
    ]
    outcomes = store.bulk(actions)
    reasons.update((doc.id, outcome.error or "") for doc, outcome in zip(behind, outcomes) if outcome.refused)
    return {doc.id: wanted[doc.id] for doc, outcome in zip(behind, outcomes) if outcome.status == CONFLICT}


def _with_status(doc: Found, status: str) -> bytes:
    return msgspec.json.encode({**doc.source, "status": status, "schema": SCHEMA})


def _order(event: Event) -> Order:
    assert event.order is not None  # noqa: S101 (the caller picks order events)
    return event.order
