"""Attributions, worked out anew from the event history, with the settings of the stream or with others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from truepixel_dagster.chunks import chunks
from truepixel_dagster.events.event import Event
from truepixel_dagster.events.origin import Origin
from truepixel_dagster.events.shape import STATUS_RANK
from truepixel_dagster.rebuild.ad_leads import touches_of_users
from truepixel_dagster.rebuild.context import Context
from truepixel_dagster.rebuild.history import WITH_ORDER, all_of, of_orders, on_days
from truepixel_dagster.rebuild.rebuilt import Progress, Rebuilt, silent
from truepixel_dagster.retention import check_kept
from truepixel_dagster.stages import order_status
from truepixel_dagster.stages.ad_lead import Touch
from truepixel_dagster.stages.attribution import (
    ATTRIBUTIONS,
    Attribution,
    Rules,
    document_of,
    higher,
    journey,
    merge,
    stored_attribution,
)
from truepixel_dagster.stores.documents import SCHEMA, Reader, Unreadable, report
from truepixel_dagster.stores.elasticsearch import CONFLICT, Action, Found
from truepixel_dagster.stores.errors import ServerRefuses, Unavailable
from truepixel_dagster.stores.mongodb import ORDER_STATUS

ORDERS = 250
_REREADS = 20
_BY_RANK = {rank: status for status, rank in STATUS_RANK.items()}


class _Seen(msgspec.Struct, frozen=True):
    """What is read of a sighting to tell which one counts the order."""

    kafka: Origin


class _Sighted(msgspec.Struct, frozen=True):
    """The sightings of an order."""

    sightings: tuple[_Seen, ...] = ()


SIGHTED = Reader(_Sighted, f"Elasticsearch {ATTRIBUTIONS}")


class Name(NamedTuple):
    """An order: its shop, and what it is told by (checkout token, else order id)."""

    shop: str
    identity: str

    @property
    def document_id(self) -> str:
        """The id of its attribution."""
        return f"{self.shop}:{self.identity}"


def rules_of(context: Context, **others: Any) -> Rules:
    """The stream's rules, but for those that are given."""
    settings = context.settings
    rules = Rules(
        settings.attribution_window_days,
        settings.attribution_half_life_days,
        settings.touches_kept,
        sightings_kept=settings.sightings_kept,
    )
    return msgspec.structs.replace(rules, **others)


def rebuild_days(context: Context, days: Sequence[str], rules: Rules, progress: Progress = silent) -> Rebuilt:
    """Work out every order that was sighted on these days, or whose document is of one of them.

    Arguments:
        context: Where.
        days: UTC days, ISO.
        rules: Window and half-life that the documents are to have.
        progress: Told how far it has come.

    Raises:
        HistoryDropped: The events of a day, or of the window before it, are no longer kept.
        KafkaUnavailable, Unavailable: A server does not answer; what was written is right, and the rest as it was.
    """
    check_kept(days, context.kept, rules.window_days)
    context.history.refresh()
    orders: set[Name] = set()
    seen = 0
    for page in context.history.events(all_of(on_days(days), WITH_ORDER)):
        orders.update(names_of(page))
        seen += len(page)
        progress("order events read", seen, 0)
    documents = context.stores.elasticsearch.scan(ATTRIBUTIONS, on_days(days), fields=["shop_id"])
    orders.update(Name(hit["_source"]["shop_id"], hit["_id"].split(":", 1)[1]) for hit in documents)
    return rebuild_orders(context, orders, rules, progress)


def names_of(events: Iterable[Event]) -> set[Name]:
    """The orders that events sight."""
    return {Name(event.shop_id, event.order.identity) for event in events if event.order and event.order.sighting}


def rebuild_orders(context: Context, orders: Iterable[Name], rules: Rules, progress: Progress = silent) -> Rebuilt:
    """Work out some orders."""
    wanted = sorted(orders)
    result = Rebuilt()
    for chunk in chunks(wanted, ORDERS):
        left: Sequence[Name] = chunk
        for _ in range(_REREADS):
            if left:
                done, left = _rebuild(context, left, rules)
                result += done
        if left:
            address = context.stores.elasticsearch.address
            raise Unavailable(f"Elasticsearch at {address}: {len(left)} orders kept changing under {_REREADS} tries")
        progress("orders", result.documents, len(wanted))
    return result


def _rebuild(context: Context, orders: Sequence[Name], rules: Rules) -> tuple[Rebuilt, list[Name]]:
    """One read and one write; returns the orders that somebody else changed in between, too."""
    store = context.stores.elasticsearch
    index = store.index(ATTRIBUTIONS)
    found = dict(zip(orders, store.mget([(index, order.document_id) for order in orders])))
    before = _readable(found)
    unreadable, orders = len(orders) - len(before), list(before)
    events = _events_of(context, orders)
    sightings = {order: _sightings(context, events.get(order, ()), before[order]) for order in orders}
    users = {event.user for own in sightings.values() for event in own}
    # Whatever stage 3 has seen of a user, stage 2 has seen before.
    seen: dict[str, set[tuple[int, int]]] = {}
    for own in sightings.values():
        for event in own:
            seen.setdefault(event.user, set()).add((event.origin.partition, event.origin.offset))
    touches = touches_of_users(context, users, seen) if users else {}
    statuses = _statuses(context, [event for own in events.values() for event in own])
    actions: dict[Name, Action] = {}
    for order in orders:
        there = found[order]
        after = _attribution(sightings[order], touches, rules, statuses.get(order.document_id, 0))
        if after is not None and before[order] != msgspec.structs.replace(after, schema=SCHEMA):
            actions[order] = _write(index, order, after, there)
        elif after is None and there is not None and _is_ours(before[order]):
            actions[order] = Action("delete", index, order.document_id, b"", there.seq_no, there.primary_term)
    outcomes = dict(zip(actions, store.write(list(actions.values()))))
    again = [order for order, outcome in outcomes.items() if outcome.status == CONFLICT]
    # A status that came meanwhile was written to MongoDB first, and is found now.
    raised = order_status.run([e for own in events.values() for e in own], context.stores.mongodb, store)
    if raised.refused:
        reason = raised.refused[0].reason
        raise ServerRefuses(f"Elasticsearch at {store.address} refused the status of an order: {reason}")
    done = [order for order in orders if order not in again]
    removed = sum(actions[order].op == "delete" for order in done if order in actions)
    changed = sum(order in actions for order in done) - removed
    return Rebuilt(len(done), changed, removed, unreadable=unreadable), again


def _readable(found: Mapping[Name, Found | None]) -> dict[Name, Attribution | None]:
    """What orders' documents say, None where there is none; without those that cannot be read."""
    readable: dict[Name, Attribution | None] = {}
    for order, there in found.items():
        try:
            readable[order] = stored_attribution(there) if there else None
        except Unreadable as error:
            report(error)
    return readable


def _is_ours(before: Attribution | None) -> bool:
    """Whether the stream has written a document: one without a sighting is an import, which no history stands for."""
    return before is not None and bool(before.sightings)


def _events_of(context: Context, orders: Sequence[Name]) -> dict[Name, list[Event]]:
    """Everything in the history that speaks of these orders and that no dead letter keeps back."""
    context.history.refresh()
    identities = {order.identity for order in orders}
    wanted = {order.document_id: order for order in orders}
    found: dict[Name, list[Event]] = {}
    for page in context.history.events(of_orders({order.shop for order in orders}, identities, identities)):
        for event in page:
            order = wanted.get(event.attribution_id or "")
            if order and context.settled.passed("attribution", event):
                found.setdefault(order, []).append(event)
    return found


def _sightings(context: Context, events: Iterable[Event], there: Attribution | None) -> list[Event]:
    """An order's sightings, the one that counts it first.

    Those above the committed offsets are the stream's to add, unless it has. Which one counts the order was settled by
    which came first; where nothing tells it any more, it is the one that was received first and that no other of its
    partition precedes.
    """
    origins = [sighting.kafka for sighting in there.sightings] if there else []
    known = {origin: position for position, origin in enumerate(origins)}
    sightings = [
        event
        for event in events
        if event.order
        and event.order.sighting
        and (context.settled.is_committed(event.origin) or event.origin in known)
    ]
    return sorted(_as_received(sightings), key=lambda event: known.get(event.origin, len(known)))


def _as_received(events: Iterable[Event]) -> list[Event]:
    """By the time of receipt, as far as the partitions' own order allows: senders' clocks do not agree."""
    latest: dict[int, int] = {}
    timed: list[tuple[int, Event]] = []
    for event in sorted(events, key=lambda event: event.origin):
        latest[event.origin.partition] = max(event.received_at, latest.get(event.origin.partition, 0))
        timed.append((latest[event.origin.partition], event))
    return [event for _, event in sorted(timed, key=lambda entry: (entry[0], entry[1].origin))]


def _statuses(context: Context, events: Sequence[Event]) -> dict[str, int]:
    """The rank of status that each attribution should have at least, by its id."""
    ids = {id_ for event in events for id_ in order_status.keys(event)}
    known = context.stores.mongodb.read(ORDER_STATUS, ids)
    readable, refused = order_status.readable(events, known)
    for reason in {each.reason for each in refused}:
        report(reason)
    return order_status.decide(readable, known)


def _attribution(
    sightings: Sequence[Event], touches: Mapping[str, Sequence[Touch]], rules: Rules, rank: int
) -> Attribution | None:
    after: Attribution | None = None
    for event in sightings:
        after = merge(after, event, journey(event, touches.get(event.user, ()), rules), rules) or after
    if after is None:
        return None
    return msgspec.structs.replace(after, status=higher(after.status, _BY_RANK[rank]))


def _write(index: str, order: Name, after: Attribution, there: Found | None) -> Action:
    source = document_of(after, there.source if there else {})
    if there is None:
        return Action("create", index, order.document_id, source)
    return Action("index", index, order.document_id, source, there.seq_no, there.primary_term)


def counting(context: Context, events: Iterable[Event]) -> tuple[frozenset[Origin], int]:
    """Which of some events count their order, by its attribution; and how many orders have none."""
    sightings = [event for event in events if event.order and event.order.sighting]
    ids = list(dict.fromkeys(event.attribution_id or "" for event in sightings))
    store = context.stores.elasticsearch
    found = dict(zip(ids, store.mget([(store.index(ATTRIBUTIONS), id_) for id_ in ids], fields=["sightings"])))
    firsts = {id_: first for id_, doc in found.items() if doc and (first := _first(doc))}
    counted = frozenset(e.origin for e in sightings if firsts.get(e.attribution_id or "") == e.origin)
    return counted, len(ids) - len(firsts)


def _first(doc: Found) -> Origin | None:
    """The sighting that counts an order; None where its document cannot be read or has none."""
    try:
        sightings = SIGHTED.read(doc.id, doc.source).sightings
    except Unreadable as error:
        report(error)
        return None
    return sightings[0].kafka if sightings else None
