"""Stage 2: a user's touches, in the order of offsets.

    >>> from truepixel_dagster.events.decode import decode
    >>> from truepixel_dagster.events.event import Message
    >>> from truepixel_dagster.events.origin import Origin
    >>> from truepixel_dagster.stages.ad_lead import Lead, add_touches
    >>> page = b'{"href": "https://shop.example/?utm_source=google&utm_medium=cpc"}'
    >>> context = b'{"document": {"location": ' + page + b"}}"
    >>> value = b'{"id": "e1", "name": "page_viewed", "clientId": "c", "context": ' + context + b"}"
    >>> at = 1_767_607_201_000  # 2026-01-05T10:00:01Z
    >>> events = [decode(Message(Origin("events", 0, offset), b"shop:c", value, timestamp=at)) for offset in (7, 8)]
    >>> lead = add_touches(Lead(), events, kept=50, repeat=1_800_000)  # the second one repeats the first
    >>> [(touch.offset, touch.ad.platform, touch.ad.channel) for touch in lead.touches]
    [(7, 'google', 'paid_search')]

A touch is a pixel event whose URL has ad data, or that came from another site. The same visit again within half an hour
of the user's previous touch is not a new touch. A touch stores its partition and offset, so that adding it again
changes nothing.

A document keeps the newest touches (`touches`) and those that touches of the current batch have displaced (`older`): if
the batch runs again, its orders still find the same journey.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec

from truepixel_dagster.events.event import Event, iso
from truepixel_dagster.events.touch import Touch
from truepixel_dagster.orders.cluster import Cluster
from truepixel_dagster.orders.event_facts import facts_of, latest_touch
from truepixel_dagster.orders.facts import CLOCK_GRACE
from truepixel_dagster.stages.refused import Refused
from truepixel_dagster.stores.documents import SCHEMA, Reader
from truepixel_dagster.stores.mongodb import AD_LEADS, MongoStore

# Of very many orders, only the newest can still get a visit: the time of an order is in the past.
NOTED_KEPT = 50


class NotedOrder(msgspec.Struct, frozen=True, order=True):
    """An order whose note attributes name a user. The stream may read visits of this user later.

    A visit until `until` (milliseconds since the epoch) is added to it. `kind` and `id` are those of its facts.
    """

    until: int
    kind: str
    id: str


class Lead(msgspec.Struct, frozen=True):
    """A user's newest touches, those that this batch displaced, and the orders that name the user."""

    touches: tuple[Touch, ...] = ()
    older: tuple[Touch, ...] = ()
    orders: tuple[NotedOrder, ...] = ()

    @property
    def all(self) -> tuple[Touch, ...]:
        """Return all known touches, in order."""
        return self.older + self.touches


def _filled(found: dict[str, Any]) -> dict[str, Any]:
    for name in ("touches", "older"):
        for touch in found.get(name, ()):
            touch["event_id"] = touch.get("event_id", "")
            touch["ad"] = {"platform": "unknown", **touch["ad"]} if "ad" in touch else {"platform": "unknown"}
    return found


LEAD = Reader(Lead, f"MongoDB {AD_LEADS}", _filled)


def document_of(lead: Lead, before: Mapping[str, Any]) -> dict[str, Any]:
    """Return the document of a lead, with the unknown fields of the stored one, also those in touches."""
    known = {(t["partition"], t["offset"]): t for name in ("touches", "older") for t in before.get(name) or () if t}

    def plain(touches: Sequence[Touch]) -> list[dict[str, Any]]:
        return [_plain(touch, known.get((touch.partition, touch.offset), {})) for touch in touches]

    own: dict[str, Any] = {"touches": plain(lead.touches), "older": plain(lead.older), "schema": SCHEMA}
    if lead.orders:
        own["orders"] = msgspec.to_builtins(lead.orders)
    return {**LEAD.unknown(before), **own}


def _plain(touch: Touch, before: Mapping[str, Any]) -> dict[str, Any]:
    """Return a touch as stored in a document, with the unknown fields of the stored touch."""
    return {**{name: value for name, value in before.items() if name not in _TOUCH}, **msgspec.to_builtins(touch)}


_TOUCH = frozenset(field.name for field in msgspec.structs.fields(Touch))


class Leads(msgspec.Struct, frozen=True):
    """The result of stage 2: the touches of every user with a touch or an order in the batch, and the orders whose
    notes name one of them."""

    touches: dict[str, tuple[Touch, ...]]
    added: int
    refused: tuple[Refused, ...]
    orders: Mapping[str, tuple[NotedOrder, ...]] = {}


def add_touches(lead: Lead, events: Sequence[Event], *, kept: int, repeat: int) -> Lead:
    """Return a user's lead after the events of a batch; the same object if nothing is new.

    Arguments:
        lead: The lead before.
        events: The user's events of the batch, in offset order.
        kept: The number of newest touches to keep.
        repeat: Milliseconds within which the same ad again is the same touch.
    """
    partition, first = events[0].origin.partition, events[0].origin.offset
    # A user's partition changes only when partitions are added, so touches of another partition are older.
    before = [touch for touch in lead.all if touch.partition != partition]
    here = [touch for touch in lead.all if touch.partition == partition]
    known = {touch.offset for touch in here}
    for event in events:
        if event.ad is None or event.origin.offset in known:
            continue
        position = sum(touch.offset < event.origin.offset for touch in here)
        previous = here[position - 1] if position else (before[-1] if before else None)
        if previous and previous.ad.same_as(event.ad) and abs(event.occurred_at - previous.millis) <= repeat:
            continue
        here.insert(position, touch_of(event))
    if len(here) == len(known):
        return lead
    touches = before + here
    since = sum(touch.partition == partition and touch.offset >= first for touch in touches)
    needed = touches[-(kept + since) :]
    return Lead(tuple(needed[-kept:]), tuple(needed[:-kept]), lead.orders)


def touch_of(event: Event) -> Touch:
    """Return the touch of an event that has ad data."""
    assert event.ad is not None  # noqa: S101 (the caller has checked it)
    at, origin = iso(event.occurred_at), event.origin
    return Touch(event.event_id, at, event.ad, origin.partition, origin.offset, event.came_from)


class Decided(NamedTuple):
    """The leads of users, the documents of those that changed, and why documents cannot be read; by user."""

    leads: dict[str, Lead]
    changed: dict[str, dict[str, Any]]
    unreadable: dict[str, str]


def decide(
    events: Mapping[str, Sequence[Event]],
    stored: Mapping[str, Mapping[str, Any]],
    *,
    kept: int,
    repeat: int,
    noted: Mapping[str, Sequence[NotedOrder]] = MappingProxyType({}),
) -> Decided:
    """Decide the new leads of some users.

    Arguments:
        events: Events by user, in offset order; a user named only by an order's notes has none.
        stored: The existing documents, by user.
        noted: The orders whose notes name a user.
        kept: As in `add_touches`.
        repeat: As in `add_touches`.
    """
    decided = Decided({}, {}, {})
    for user, mine in events.items():
        document = stored.get(user, {})
        try:
            before = LEAD.read(user, document)
            with_touches = add_touches(before, mine, kept=kept, repeat=repeat) if mine else before
            after = decided.leads[user] = _with_orders(with_touches, noted.get(user, ()))
        except ValueError as error:
            decided.unreadable[user] = str(LEAD.unreadable(user, error))
            continue
        if after is not before:
            decided.changed[user] = document_of(after, document)
    return decided


def _with_orders(lead: Lead, noted: Sequence[NotedOrder]) -> Lead:
    """Return a lead with additional orders; the same object if none is new."""
    if not noted:
        return lead
    orders = tuple(sorted({*lead.orders, *noted})[-NOTED_KEPT:])
    return lead if orders == lead.orders else msgspec.structs.replace(lead, orders=orders)


def read(events: Iterable[Event], store: MongoStore) -> dict[str, dict[str, Any]]:
    """Return the documents of all users with a touch or an order among the events, or named by an order's notes.

    Raises:
        Unavailable: MongoDB does not answer.
    """
    events = list(events)
    return store.read(AD_LEADS, {*(event.user for event in events if concerns(event)), *noted_users(events)})


def run(
    events: Mapping[str, Sequence[Event]],
    store: MongoStore,
    *,
    kept: int,
    repeat: int,
    stored: Mapping[str, dict[str, Any]] | None = None,
) -> Leads:
    """Add the batch's touches to their users' documents: one read and one write.

    Arguments:
        events: The events that continue, by user, in offset order.
        store: MongoDB.
        kept: The number of newest touches to keep.
        repeat: Milliseconds within which the same ad again is the same touch.
        stored: The documents that were read ahead for these events, perhaps with others; None reads them now.

    Raises:
        Unavailable: MongoDB does not answer.
    """
    concerned: dict[str, Sequence[Event]] = {
        user: mine for user, mine in events.items() if any(concerns(event) for event in mine)
    }
    noted = noted_orders(event for mine in concerned.values() for event in mine)
    for user in noted:
        concerned.setdefault(user, ())
    leads: dict[str, Lead] = {}
    unreadable: dict[str, str] = {}
    added = 0

    def decided(stored: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        nonlocal added, unreadable
        after = decide(concerned, stored, kept=kept, repeat=repeat, noted=noted)
        leads.update(after.leads)
        unreadable = after.unreadable
        added += len(after.changed)
        return after.changed

    rejected = store.update(AD_LEADS, list(concerned), decided, stored)
    reasons = {**{user: refusal.reason for user, refusal in rejected.items()}, **unreadable}
    refused = tuple(Refused(event, reason) for user, reason in reasons.items() for event in concerned[user])
    orders = {user: lead.orders for user, lead in leads.items() if lead.orders}
    return Leads({user: lead.all for user, lead in leads.items()}, added, refused, orders)


def concerns(event: Event) -> bool:
    """Return whether an event may be a touch, or needs the existing touches."""
    return event.ad is not None or event.order is not None


def noted_orders(events: Iterable[Event]) -> dict[str, list[NotedOrder]]:
    """Return the orders whose note attributes name a user, by user."""
    found: dict[str, list[NotedOrder]] = {}
    for event in events:
        facts = facts_of(event, ()) if event.order and event.order.noted_client else None
        if facts and event.order:
            noted = NotedOrder(latest_touch(event), facts.kind, facts.id)
            found.setdefault(f"{event.shop_id}:{event.order.noted_client}", []).append(noted)
    return found


def noted_in(cluster: Cluster) -> dict[str, set[NotedOrder]]:
    """Return the orders of a cluster whose note attributes name a user, by user."""
    found: dict[str, set[NotedOrder]] = {}
    for node in cluster.nodes:
        placed = next((payload.at for payload in reversed(node.payloads) if payload.at is not None), None)
        for client in node.clients:
            if client.noted:
                until = (client.noted[0] if placed is None else placed) + CLOCK_GRACE
                user = f"{cluster.shop_id}:{client.client}"
                found.setdefault(user, set()).add(NotedOrder(until, node.kind, node.id))
    return found


def with_noted(lead: Lead, noted: Iterable[NotedOrder]) -> Lead:
    """Return a lead with the orders that were lost with its document; the same object if it has them."""
    known = {(order.kind, order.id) for order in lead.orders}
    return _with_orders(lead, [order for order in noted if (order.kind, order.id) not in known])


def noted_users(events: Iterable[Event]) -> set[str]:
    """Return the users whom the note attributes of orders name."""
    return {f"{e.shop_id}:{e.order.noted_client}" for e in events if e.order and e.order.noted_client}
