"""Stage 4: the profile of every customer.

A document holds the last applied offset of each partition, so that an event counts once however often it is replayed
and however the batches are cut. An event that comes back from the dead letters is behind that offset: it is known by
its own origin, in `replayed`. `set_by` names the record that set a field which belongs to the newest event.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import msgspec

from truepixel_dagster.events.event import Event, iso
from truepixel_dagster.events.money import bounded_sum
from truepixel_dagster.events.origin import Origin
from truepixel_dagster.stages.refused import Refused
from truepixel_dagster.stores.documents import SCHEMA, Reader, Unreadable
from truepixel_dagster.stores.mongodb import CUSTOMERS, MongoStore

MARKS_KEPT = 20_000
Document = Mapping[str, Any]
New = Callable[[Document, Sequence[Event]], list[Event]]


class Profile(msgspec.Struct, frozen=True):
    """What is read of a customer's document, to find out whether it can be; all of it may be missing."""

    first_seen: str = ""
    last_seen: str = ""
    events: int = 0
    orders: int = 0
    revenue: dict[str, int] = {}
    email_hash: str | None = None
    customer_id: str | None = None
    last_ad: dict[str, Any] | None = None
    applied: dict[str, int] = {}
    replayed: list[str] = []
    set_by: dict[str, str] = {}


PROFILE = Reader(Profile, f"MongoDB {CUSTOMERS}")
OWN_FIELDS = PROFILE.known | {"shop_id", "client_id"}


def is_applied(stored: Document, origin: Origin) -> bool:
    """Whether the stream or a replay has counted a record in a customer's document, as far as it can be read."""
    applied, replayed = stored.get("applied"), stored.get("replayed")
    last = applied.get(str(origin.partition)) if isinstance(applied, Mapping) else None
    past = isinstance(last, (int, float)) and origin.offset <= last
    return past or (isinstance(replayed, list) and _at(origin) in replayed)


def apply(stored: Document | None, events: Sequence[Event], counted: AbstractSet[Origin]) -> dict[str, Any] | None:
    """A customer's document after events; None where all of them had been applied.

    Arguments:
        stored: The document before; None for a new customer.
        events: The customer's events, in offset order.
        counted: The origins of the events that count an order.
    """
    before = stored or {}
    new = _ahead(before, events)
    if not new:
        return None
    offsets = {str(event.origin.partition): event.origin.offset for event in new}
    return {**_counted(before, new, counted, late=False), "applied": {**before.get("applied", {}), **offsets}}


def apply_late(stored: Document | None, events: Sequence[Event], counted: AbstractSet[Origin]) -> dict[str, Any] | None:
    """A customer's document after events that the stream passed over; None where all of them came back before.

    What newer events have set stays; the arguments are those of `apply`.
    """
    before = stored or {}
    new = _not_replayed(before, events)
    if not new:
        return None
    origins = [_at(event.origin) for event in new]
    return {**_counted(before, new, counted, late=True), "replayed": newest_marks(before.get("replayed", ()), origins)}


def newest_marks(before: Iterable[str], new: Iterable[str]) -> list[str]:
    """The records that came back, the last ones of very many.

    A mark is needed until its letter is marked in Redis, behind its micro-batch. So that many are enough, and a client
    who sends what is refused cannot make a document that MongoDB refuses.
    """
    return list(dict.fromkeys([*before, *new]))[-MARKS_KEPT:]


def run(events: Mapping[str, Sequence[Event]], counted: AbstractSet[Origin], store: MongoStore) -> tuple[Refused, ...]:
    """Apply events to their customers' documents: one read and one write.

    Arguments:
        events: The events that run on, by user, in offset order.
        counted: Stage 3's result: the origins of the events that count an order.
        store: Where the customers are.

    Returns:
        The events of documents that MongoDB refused, without those that had been applied before.

    Raises:
        Unavailable: MongoDB does not answer.
    """
    return _run(events, store, _ahead, lambda stored, mine: apply(stored, mine, counted))


def replay(
    events: Mapping[str, Sequence[Event]], counted: AbstractSet[Origin], store: MongoStore
) -> tuple[Refused, ...]:
    """The same as `run` for events that the stream passed over: each once by its origin."""
    return _run(events, store, _not_replayed, lambda stored, mine: apply_late(stored, mine, counted))


def _run(
    events: Mapping[str, Sequence[Event]],
    store: MongoStore,
    new: New,
    after: Callable[[Document | None, Sequence[Event]], dict[str, Any] | None],
) -> tuple[Refused, ...]:
    before: dict[str, Document] = {}
    unreadable: dict[str, str] = {}

    def decide(stored: Mapping[str, Document]) -> dict[str, dict[str, Any]]:
        before.update(stored)
        unreadable.clear()
        documents = {}
        for user, mine in events.items():
            try:
                there = PROFILE.usable(user, stored[user]) if user in stored else None
            except Unreadable as error:
                unreadable[user] = str(error)
                continue
            if (document := after(there, mine)) is not None:
                documents[user] = document
        return documents

    rejected = store.update(CUSTOMERS, list(events), decide)
    reasons = {**{user: refusal.reason for user, refusal in rejected.items()}, **unreadable}
    return tuple(
        Refused(event, reason) for user, reason in reasons.items() for event in new(before.get(user, {}), events[user])
    )


def _ahead(stored: Document, events: Sequence[Event]) -> list[Event]:
    return [event for event in events if not is_applied(stored, event.origin)]


def _not_replayed(stored: Document, events: Sequence[Event]) -> list[Event]:
    replayed = stored.get("replayed")
    known = {mark for mark in replayed if isinstance(mark, str)} if isinstance(replayed, list) else set()
    return [event for event in events if _at(event.origin) not in known]


def _counted(stored: Document, new: Sequence[Event], counted: AbstractSet[Origin], *, late: bool) -> dict[str, Any]:
    """The document with events counted, without what guards them."""
    document = {**stored}
    times = [iso(event.occurred_at) for event in new]
    document["shop_id"], document["client_id"] = new[0].shop_id, new[0].client_id
    document["first_seen"] = min([*times, document.get("first_seen", times[0])])
    document["last_seen"] = max([*times, document.get("last_seen", times[0])])
    document["events"] = document.get("events", 0) + len(new)
    orders = [event for event in new if event.origin in counted]
    document["orders"] = document.get("orders", 0) + len(orders)
    document["revenue"] = _revenue(document.get("revenue", {}), orders)
    document["set_by"] = dict(document.get("set_by", {}))
    document["schema"] = SCHEMA
    for event in new:
        _set_newest(document, event, late=late)
    return document


def _set_newest(document: dict[str, Any], event: Event, *, late: bool) -> None:
    """Set the fields that belong to the newest event; a late one leaves alone what a newer one has set."""
    ad = msgspec.to_builtins(event.ad) if event.ad else None
    found = {"last_ad": ad, "email_hash": event.email_hash, "customer_id": event.customer_id}
    for field, value in found.items():
        if value and not (late and _is_newer(document, field, event.origin)):
            document[field] = value
            document["set_by"][field] = _at(event.origin)
    document.setdefault("email_hash", None)
    document.setdefault("customer_id", None)


def _is_newer(document: Document, field: str, origin: Origin) -> bool:
    """Whether a newer record than this one set a field; one of another partition counts as newer."""
    if document.get(field) is None:
        return False
    setter = document["set_by"].get(field)
    partition, _, offset = setter.partition("/") if setter else ("", "", "")
    return partition != str(origin.partition) or not offset.isdecimal() or int(offset) > origin.offset


def _at(origin: Origin) -> str:
    return f"{origin.partition}/{origin.offset}"


def _revenue(before: Mapping[str, int], orders: Sequence[Event]) -> dict[str, int]:
    revenue = dict(before)
    for event in orders:
        if event.value:
            revenue[event.value.currency] = bounded_sum(revenue.get(event.value.currency, 0), event.value.amount)
    return revenue
