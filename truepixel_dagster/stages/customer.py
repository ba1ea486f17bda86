"""Stage 4: the profile of every customer.

A document holds the last applied offset of each partition, so that an event counts once however often it is delivered
and however micro-batches are cut. A reprocessed event is below that offset, so it is recognized by its origin in
`replayed`. `set_by` names the record that set a field for which the newest record counts.

Orders and their amounts are not increments: whenever an order of a client may have changed, they are summed over the
client's orders (`orders` in MongoDB). The sum is read after the document, and the document is replaced only if it has
not changed meanwhile. So the last writer has seen every order.
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
    """The sums of one client's orders: their number, and minor units by currency."""

    orders: int = 0
    revenue: Mapping[str, int] = {}
    refunded: Mapping[str, int] = {}


class Refusals(NamedTuple):
    """The events whose documents were rejected: events of the documents' own clients, and events of other clients that
    change these clients' orders."""

    own: tuple[Refused, ...] = ()
    of_orders: tuple[Refused, ...] = ()


class Profile(msgspec.Struct, frozen=True):
    """The fields of a customer's document that are checked before it is used; each may be missing."""

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
    """Return a customer's document after its own events, without its orders; None if all of them had been applied.

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
    """Return a customer's document after reprocessed events; None if all of them had been reprocessed before.

    Fields that newer events have set stay.
    """
    before = stored or {}
    new = _not_replayed(before, events)
    if not new:
        return None
    origins = [_at(event.origin) for event in new]
    return {**_seen(before, new, late=True), "replayed": newest_marks(before.get("replayed", ()), origins)}


def with_orders(document: Document, sums: OrderSums, identities: Iterable[Identity]) -> dict[str, Any]:
    """Return a customer's document with the sums of its orders, and with the identity that they report.

    Arguments:
        document: The document with the client's own events.
        sums: The sums of the client's orders.
        identities: The identities in the orders that the client's records name.
    """
    after = {**document, "set_by": dict(document.get("set_by", {}))}
    legacy = document.get("before") or {}
    after["orders"] = sums.orders + legacy.get("orders", 0)
    after["revenue"] = _added(sums.revenue, legacy.get("revenue") or {})
    after["refunded"] = _added(sums.refunded, {})
    for identity in identities:
        fields = {"customer_id": identity.customer_id, "email_hash": identity.email_hash}
        _set_identity(after, fields, _moment(*identity.when))
    return after


def counts(event: Event) -> bool:
    """Return whether an event counts for the client in its key: not if it is of a bot or has no client."""
    return not event.bot and not event.anonymous


def newest_marks(before: Iterable[str], new: Iterable[str]) -> list[str]:
    """Return the marks of reprocessed records, at most the newest ones.

    A mark is needed until its dead letter is marked in Redis, after its micro-batch. So this number is enough, and a
    client that sends records to be rejected cannot make the document too large for MongoDB.
    """
    return list(dict.fromkeys([*before, *new]))[-MARKS_KEPT:]


def order_sums(users: Iterable[str], store: MongoStore, field: str = "entries") -> dict[str, OrderSums]:
    """Return the sums of users' orders, by user; omit users without an order.

    Arguments:
        users: The users.
        store: MongoDB.
        field: `entries`, or `imported` for what documents of the first edition have counted of them.

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
    """Apply events and the sums of orders to the customers' documents: one read and one write.

    Arguments:
        events: The events that continue, by user, in offset order.
        concerns: Stage 3's result: the users whose orders may have changed.
        store: MongoDB.

    Returns:
        The events of documents that MongoDB rejected, without those that had been applied before.

    Raises:
        Unavailable: MongoDB does not answer.
    """
    return _run(events, concerns, store, _ahead, apply)


def replay(events: Mapping[str, Sequence[Event]], concerns: Mapping[str, Concern], store: MongoStore) -> Refusals:
    """Do the same as `run` for reprocessed events: apply each once, by its origin."""
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
    """The sums of orders of a batch's users, and what documents of the first edition have counted of them."""

    def __init__(self, concerns: Mapping[str, Concern], stored: Mapping[str, Document], store: MongoStore) -> None:
        self._now = order_sums(concerns, store)
        counted_before = [user for user in concerns if user in stored and _counted_itself(stored[user])]
        self._imported = order_sums(counted_before, store, "imported") if counted_before else {}

    def of(self, user: str) -> OrderSums:
        """Return the sums of one user."""
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
    """Return the document with the client's own events, without their guards."""
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
        fields = {"customer_id": event.customer_id, "email_hash": event.email_hash}
        _set_identity(document, fields, _moment(event.occurred_at, event.event_id))
        if event.ad and not (late and _is_newer(document, event.origin)):
            document["last_ad"] = msgspec.to_builtins(event.ad)
            document["set_by"]["last_ad"] = _at(event.origin)
    return document


def _set_identity(document: dict[str, Any], fields: Mapping[str, str | None], moment: str) -> None:
    """Set the fields that a record reports about a person, unless a newer record has set them."""
    for field, value in fields.items():
        if value and not (document.get(field) and _set_at(document["set_by"].get(field, "")) > moment):
            document[field] = value
            document["set_by"][field] = moment


def _moment(millis: int, event_id: str) -> str:
    """Return a text for the time of a record. Texts sort like their times, so the newer of two records is known."""
    return f"{millis:015d} {event_id}"


def _set_at(set_by: str) -> str:
    """Return when a field was set; a partition and offset, as in older versions, is older than any time."""
    return set_by if " " in set_by else ""


def _is_newer(document: Document, origin: Origin) -> bool:
    """Return whether a record newer than this one set the last ad; a record of another partition counts as newer."""
    if document.get("last_ad") is None:
        return False
    setter = document["set_by"].get("last_ad")
    partition, _, offset = setter.partition("/") if setter else ("", "", "")
    return partition != str(origin.partition) or not offset.isdecimal() or int(offset) > origin.offset


def _at(origin: Origin) -> str:
    return f"{origin.partition}/{origin.offset}"


def _added(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    """Return the sums of amounts by currency, limited to 64 bits: MongoDB returns a larger sum as a fraction."""
    found = {currency: one.get(currency, 0) + other.get(currency, 0) for currency in dict.fromkeys((*one, *other))}
    return {currency: int(max(-MAX_SUM - 1, min(MAX_SUM, amount))) for currency, amount in found.items()}
