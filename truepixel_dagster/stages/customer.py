"""Stage 4: the profile of every customer.

A document holds the last applied offset of each partition, so that an event counts once however often it is delivered
and however the batches are cut. An event that comes back from the dead letters is behind that offset: it is known by
its own origin, in `replayed`. `set_by` names what set a field that belongs to the newest record.

Orders and their money are no increments: whenever an order of a client may have changed, they are summed up over the
orders that are the client's (`orders` in MongoDB). The sum is taken after the document was read, and the document is
replaced only if nobody has replaced it meanwhile. So whoever writes last has seen every order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from truepixel_dagster.events.event import Event, iso
from truepixel_dagster.events.money import MAX_SUM
from truepixel_dagster.events.origin import Origin
from truepixel_dagster.stages.attribution import Concern, Identity
from truepixel_dagster.stages.refused import Refused
from truepixel_dagster.stores.documents import FIRST_SCHEMA, SCHEMA, SECOND_EDITION, Reader, Unreadable
from truepixel_dagster.stores.mongodb import CUSTOMERS, ORDERS, MongoStore

MARKS_KEPT = 20_000
Document = Mapping[str, Any]
New = Callable[[Document, Sequence[Event]], list[Event]]


class OrderSums(NamedTuple):
    """What the orders of one client come to: how many, and minor units by currency."""

    orders: int = 0
    revenue: Mapping[str, int] = {}
    refunded: Mapping[str, int] = {}


class Refusals(NamedTuple):
    """What documents were refused for: events of the documents' own clients, and events of other clients that change
    orders of theirs."""

    own: tuple[Refused, ...] = ()
    of_orders: tuple[Refused, ...] = ()


class Profile(msgspec.Struct, frozen=True):
    """What is read of a customer's document, to find out whether it can be; all of it may be missing."""

    first_seen: str = ""
    last_seen: str = ""
    events: int = 0
    orders: int = 0
    revenue: dict[str, int] = {}
    refunded: dict[str, int] = {}
    email_hash: str | None = None
    customer_id: str | None = None
    last_ad: dict[str, Any] | None = None
    applied: dict[str, int] = {}
    replayed: list[str] = []
    set_by: dict[str, str] = {}
    before: dict[str, Any] | None = None


PROFILE = Reader(Profile, f"MongoDB {CUSTOMERS}")
OWN_FIELDS = PROFILE.known | {"shop_id", "client_id"}


def is_applied(stored: Document, origin: Origin) -> bool:
    """Return whether the stream or a reprocessing has counted a record in a customer's document."""
    applied, replayed = stored.get("applied"), stored.get("replayed")
    last = applied.get(str(origin.partition)) if isinstance(applied, Mapping) else None
    past = isinstance(last, (int, float)) and origin.offset <= last
    return past or (isinstance(replayed, list) and _at(origin) in replayed)


def apply(stored: Document | None, events: Sequence[Event]) -> dict[str, Any] | None:
    """A customer's document after events of its own, its orders aside; None where all of them had been applied.

    Arguments:
        stored: The document before; None for a new customer.
        events: The customer's events, in offset order.
    """
    before = stored or {}
    new = _ahead(before, events)
    if not new:
        return None
    offsets = {str(event.origin.partition): event.origin.offset for event in new}
    return {**_seen(before, new, late=False), "applied": {**before.get("applied", {}), **offsets}}


def apply_late(stored: Document | None, events: Sequence[Event]) -> dict[str, Any] | None:
    """A customer's document after events that the stream passed over; None where all of them came back before.

    What newer events have set stays.
    """
    before = stored or {}
    new = _not_replayed(before, events)
    if not new:
        return None
    origins = [_at(event.origin) for event in new]
    return {**_seen(before, new, late=True), "replayed": newest_marks(before.get("replayed", ()), origins)}


def with_orders(document: Document, sums: OrderSums, identities: Iterable[Identity]) -> dict[str, Any]:
    """A customer's document with what its orders come to, and whom they say it is.

    Arguments:
        document: The document before, with its own events.
        sums: Over the orders that are the client's.
        identities: Of the orders that the client's records name.
    """
    after = {**document, "set_by": dict(document.get("set_by", {}))}
    legacy = document.get("before") or {}
    after["orders"] = sums.orders + legacy.get("orders", 0)
    after["revenue"] = _added(sums.revenue, legacy.get("revenue") or {})
    after["refunded"] = _added(sums.refunded, {})
    for identity in identities:
        said = {"customer_id": identity.customer_id, "email_hash": identity.email_hash}
        _set_said(after, said, _moment(*identity.when))
    return after


def counts(event: Event) -> bool:
    """Whether an event counts for the client that it is keyed by: not one of a bot, or of nobody."""
    return not event.bot and not event.anonymous


def newest_marks(before: Iterable[str], new: Iterable[str]) -> list[str]:
    """The records that came back, the last ones of very many.

    A mark is needed until its letter is marked in Redis, behind its micro-batch. So that many are enough, and a client
    who sends what is refused cannot make a document that MongoDB refuses.
    """
    return list(dict.fromkeys([*before, *new]))[-MARKS_KEPT:]


def order_sums(users: Iterable[str], store: MongoStore, field: str = "entries") -> dict[str, OrderSums]:
    """Sum up the orders of users, by user; those without an order are left out.

    Arguments:
        users: Whose orders.
        store: Where they are.
        field: `entries`, or `imported` for what documents of the first edition counted of them.

    Raises:
        Unavailable: MongoDB does not answer.
    """
    wanted = sorted(users)
    if not wanted:
        return {}
    mine = {f"{field}.user": {"$in": wanted}}
    pipeline: list[dict[str, Any]] = [
        {"$match": {**mine, "merged_into": None}},
        {"$unwind": f"${field}"},
        {"$match": mine},
        {
            "$group": {
                "_id": {"user": f"${field}.user", "currency": f"${field}.currency"},
                "orders": {"$sum": 1},
                "revenue": {"$sum": f"${field}.revenue"},
                "refunded": {"$sum": f"${field}.refunded"},
            }
        },
    ]
    found: dict[str, OrderSums] = {}
    for row in store.sums(ORDERS, pipeline):
        user, currency = row["_id"]["user"], row["_id"].get("currency")
        there = found.get(user, OrderSums())
        money = {currency: row["revenue"]} if currency else {}
        back = {currency: row["refunded"]} if currency and row["refunded"] else {}
        found[user] = OrderSums(
            there.orders + row["orders"], _added(there.revenue, money), _added(there.refunded, back)
        )
    return found


def run(events: Mapping[str, Sequence[Event]], concerns: Mapping[str, Concern], store: MongoStore) -> Refusals:
    """Apply events to their customers' documents, and what their orders come to: one read and one write.

    Arguments:
        events: The events that continue, by user, in offset order.
        concerns: Stage 3's result: the users whose orders may have changed.
        store: Where the customers and the orders are.

    Returns:
        The events of documents that MongoDB refused, without those that had been applied before.

    Raises:
        Unavailable: MongoDB does not answer.
    """
    return _run(events, concerns, store, _ahead, apply)


def replay(events: Mapping[str, Sequence[Event]], concerns: Mapping[str, Concern], store: MongoStore) -> Refusals:
    """The same as `run` for events that the stream passed over: each once by its origin."""
    return _run(events, concerns, store, _not_replayed, apply_late)


def _run(
    events: Mapping[str, Sequence[Event]],
    concerns: Mapping[str, Concern],
    store: MongoStore,
    new: New,
    applied: Callable[[Document | None, Sequence[Event]], dict[str, Any] | None],
) -> Refusals:
    events = {user: counting for user, mine in events.items() if (counting := [e for e in mine if counts(e)])}
    users = list(dict.fromkeys((*events, *concerns)))
    before: dict[str, Document] = {}
    unreadable: dict[str, str] = {}

    def decide(stored: Mapping[str, Document]) -> dict[str, dict[str, Any]]:
        before.update(stored)
        unreadable.clear()
        sums = _Sums(concerns, stored, store)
        documents = {}
        for user in users:
            try:
                there = PROFILE.usable(user, stored[user]) if user in stored else None
                document = _decided(there, events.get(user, ()), user, concerns.get(user), sums, applied)
            except Unreadable as error:
                unreadable[user] = str(error)
                continue
            if document is not None:
                documents[user] = document
        return documents

    rejected = store.update(CUSTOMERS, users, decide)
    reasons = {**{user: refusal.reason for user, refusal in rejected.items()}, **unreadable}
    own = [
        Refused(event, reason)
        for user, reason in reasons.items()
        for event in new(before.get(user, {}), events.get(user, ()))
    ]
    of_orders = {
        event.origin: Refused(event, reason)
        for user, reason in reasons.items()
        for event in (concerns[user].events if user in concerns else ())
        if event.user != user
    }
    return Refusals(tuple(own), tuple(of_orders.values()))


class _Sums:
    """What the orders of a batch's users come to, and what documents of the first edition counted of them."""

    def __init__(self, concerns: Mapping[str, Concern], stored: Mapping[str, Document], store: MongoStore) -> None:
        self._now = order_sums(concerns, store)
        counted_before = [user for user in concerns if user in stored and _counted_itself(stored[user])]
        self._imported = order_sums(counted_before, store, "imported") if counted_before else {}

    def of(self, user: str) -> OrderSums:
        """Of one user."""
        now, imported = self._now.get(user, OrderSums()), self._imported.get(user)
        if imported is None:
            return now
        less = {currency: -amount for currency, amount in imported.revenue.items()}
        return OrderSums(now.orders - imported.orders, _added(now.revenue, less), now.refunded)


def _counted_itself(document: Document) -> bool:
    return bool(document.get("before")) or (document.get("schema") or FIRST_SCHEMA) < SECOND_EDITION


def _decided(
    there: Document | None,
    events: Sequence[Event],
    user: str,
    concern: Concern | None,
    sums: _Sums,
    applied: Callable[[Document | None, Sequence[Event]], dict[str, Any] | None],
) -> dict[str, Any] | None:
    """Return a customer's document; None if it does not change, or if nothing is known of the client."""
    if there and "before" not in there and _counted_itself(there):
        there = {**there, "before": {"orders": there.get("orders", 0), "revenue": there.get("revenue", {})}}
    after = applied(there, events) if events else None
    if concern is None:
        return after
    own = sums.of(user)
    if after is None and there is None and not own.orders:
        return None
    base = after or there or nobody(user)
    document = with_orders(base, own, concern.identities)
    document["schema"] = SCHEMA
    return None if document == there else document


def nobody(user: str) -> dict[str, Any]:
    """Return the document of a client of whom only an order is known."""
    shop, _, client = user.partition(":")
    head = {"shop_id": shop, "client_id": client, "events": 0, "email_hash": None, "customer_id": None}
    return {**head, "set_by": {}, "applied": {}}


def _ahead(stored: Document, events: Sequence[Event]) -> list[Event]:
    return [event for event in events if not is_applied(stored, event.origin)]


def _not_replayed(stored: Document, events: Sequence[Event]) -> list[Event]:
    replayed = stored.get("replayed")
    known = {mark for mark in replayed if isinstance(mark, str)} if isinstance(replayed, list) else set()
    return [event for event in events if _at(event.origin) not in known]


def _seen(stored: Document, new: Sequence[Event], *, late: bool) -> dict[str, Any]:
    """The document with events of its own, without what guards them."""
    document = {**stored}
    times = [iso(event.occurred_at) for event in new]
    document["shop_id"], document["client_id"] = new[0].shop_id, new[0].client_id
    document["first_seen"] = min([*times, document.get("first_seen") or times[0]])
    document["last_seen"] = max([*times, document.get("last_seen") or times[0]])
    document["events"] = document.get("events", 0) + len(new)
    for name, empty in (("orders", 0), ("revenue", {}), ("refunded", {}), ("email_hash", None), ("customer_id", None)):
        document.setdefault(name, empty)
    document["set_by"] = dict(document.get("set_by", {}))
    document["schema"] = SCHEMA
    for event in new:
        said = {"customer_id": event.customer_id, "email_hash": event.email_hash}
        _set_said(document, said, _moment(event.occurred_at, event.event_id))
        if event.ad and not (late and _is_newer(document, event.origin)):
            document["last_ad"] = msgspec.to_builtins(event.ad)
            document["set_by"]["last_ad"] = _at(event.origin)
    return document


def _set_said(document: dict[str, Any], said: Mapping[str, str | None], moment: str) -> None:
    """Set what a record says of a person, unless a newer one has."""
    for field, value in said.items():
        if value and not (document.get(field) and _said_at(document["set_by"].get(field, "")) > moment):
            document[field] = value
            document["set_by"][field] = moment


def _moment(millis: int, event_id: str) -> str:
    """A text for a moment. Texts compare as their times do, so that the newest of two records is known."""
    return f"{millis:015d} {event_id}"


def _said_at(set_by: str) -> str:
    """Documents of older versions name a partition and offset here, which is older than any time."""
    return set_by if " " in set_by else ""


def _is_newer(document: Document, origin: Origin) -> bool:
    """Whether a newer record than this one set the last ad; one of another partition counts as newer."""
    if document.get("last_ad") is None:
        return False
    setter = document["set_by"].get("last_ad")
    partition, _, offset = setter.partition("/") if setter else ("", "", "")
    return partition != str(origin.partition) or not offset.isdecimal() or int(offset) > origin.offset


def _at(origin: Origin) -> str:
    return f"{origin.partition}/{origin.offset}"


def _added(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    """The sum of amounts by currency, at most what 64 bits hold; MongoDB gives a larger one as a fraction."""
    found = {currency: one.get(currency, 0) + other.get(currency, 0) for currency in dict.fromkeys((*one, *other))}
    return {currency: int(max(-MAX_SUM - 1, min(MAX_SUM, amount))) for currency, amount in found.items()}
