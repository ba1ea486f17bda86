"""Process the orders of a shop in the peers' dataflows: stages 3 and 4, on the framework's state.

It receives every event about an order, every visit and every event that identifies its user; only a user's own events
are in order. The keys of the state are `id:…` (the cluster of an id), `cluster:…`, `touches:…` and `noted:…` of a user,
`attribution:…`, and `customer:…` (a customer's orders and identity).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from truepixel_dagster.events.event import Event
from truepixel_dagster.events.shop_time import ShopDays
from truepixel_dagster.events.touch import Touch
from truepixel_dagster.orders.cluster import Cluster, Settling, changes_of, groups_of, settle
from truepixel_dagster.orders.counts import Counted, Entry
from truepixel_dagster.orders.document import Attribution, attribution_of
from truepixel_dagster.orders.event_facts import ids_of
from truepixel_dagster.settings import Settings
from truepixel_dagster.stages import ad_lead, customer
from truepixel_dagster.stages.ad_lead import NotedOrder
from truepixel_dagster.stages.attribution import Identity, identities_of
from truepixel_dagster.stages.customer import OrderSums
from truepixel_dagster.stages.settling import rules_of, settling, with_visits
from truepixel_dagster.stores.redis import CounterKey

# The fields of a customer that orders set, and the identity that any event sets; the user's own events set the others.
OF_ORDERS = ("orders", "revenue", "refunded", "customer_id", "email_hash")


class State(Protocol):
    """Describe the framework's state of a shop."""

    def get_bytes(self, key: str) -> bytes | None:
        """Return the value of a key; None without one."""

    def set_bytes(self, key: str, value: bytes) -> None:
        """Store a value."""


class Ordered(NamedTuple):
    """Hold the changes of one event: attributions by id, ids of removed attributions, fields of customers' documents by
    user, and product counts."""

    attributions: dict[str, Attribution]
    removed: tuple[str, ...]
    customers: dict[str, dict[str, Any]]
    counters: dict[CounterKey, dict[str, int]]


class ShopOrders:
    """Process the orders of a shop, event by event."""

    def __init__(self, settings: Settings) -> None:
        self._rules = rules_of(settings)
        self._days = ShopDays()

    def speaks(self, event: Event, *, is_visit: bool) -> bool:
        """Return whether an event matters here."""
        return is_visit or event.order is not None or bool(event.customer_id or event.email_hash)

    def ordered(self, event: Event, touches: Sequence[Touch], state: State) -> Ordered:
        """Return the changes of an event; `touches` are its user's."""
        if event.order or event.ad:
            _keep(state, f"touches:{event.user}", tuple(touches))
        noted = {event.user: _kept(state, f"noted:{event.user}", tuple[NotedOrder, ...]) or ()}
        users = {event.user: tuple(touches)}
        for user, orders in ad_lead.noted_orders([event]).items():
            there = _kept(state, f"noted:{user}", tuple[NotedOrder, ...]) or ()
            _keep(state, f"noted:{user}", tuple(dict.fromkeys((*there, *orders))))
            users.setdefault(user, _kept(state, f"touches:{user}", tuple[Touch, ...]) or ())
        of_orders = [each for each in with_visits([event], noted) if each.order and not each.bot]
        by = settling(self._rules, users, self._days, lambda _partition, _offset: False)
        before, after = _settled(of_orders, by, state)
        attributions, removed = self._attributions(after, state)
        identities: dict[str, list[Identity]] = {}
        for cluster in after:
            for user, found in identities_of(cluster, self._rules).items():
                identities.setdefault(user, []).extend(found)
        if customer.counts(event) and (event.customer_id or event.email_hash):
            own = Identity((event.occurred_at, event.event_id), event.customer_id, event.email_hash)
            identities.setdefault(event.user, []).append(own)
        customers = _customers(before, after, identities, state)
        return Ordered(attributions, removed, customers, _counters(event.shop_id, changes_of(of_orders, after)))

    def _attributions(
        self, clusters: Iterable[Cluster], state: State
    ) -> tuple[dict[str, Attribution], tuple[str, ...]]:
        changed: dict[str, Attribution] = {}
        removed: list[str] = []
        for cluster in clusters:
            wanted = {order.document_id: attribution_of(order, self._rules) for order in cluster.orders(self._rules)}
            for id_ in cluster.documents:
                there = _kept(state, f"attribution:{id_}", Attribution | None)
                if there == wanted.get(id_):
                    continue
                _keep(state, f"attribution:{id_}", wanted.get(id_))
                if id_ in wanted:
                    changed[id_] = wanted[id_]
                else:
                    removed.append(id_)
        return changed, tuple(removed)


def _settled(of_orders: Sequence[Event], by: Settling, state: State) -> tuple[list[Cluster], list[Cluster]]:
    """Return the clusters of an event before it and after it."""
    first: Mapping[str, Cluster] | None = None
    while of_orders:
        clusters = _clusters({id_ for event in of_orders for id_ in ids_of(event)}, state)
        first = clusters if first is None else first
        all_settled = [settle(group, by) for group in groups_of(of_orders, clusters)]
        for settled in all_settled:
            for id_, cluster in settled.changed.items():
                _keep(state, f"cluster:{id_}", cluster)
                for own in cluster.ids:
                    state.set_bytes(f"id:{own}", id_.encode())
        if all(settled.is_done for settled in all_settled):
            before = [cluster for cluster in first.values() if cluster.merged_into is None]
            return before, [settled.cluster for settled in all_settled]
    return [], []


def _clusters(ids: Iterable[str], state: State) -> dict[str, Cluster]:
    """Return the clusters that have these ids, and those into which one of them was merged."""
    found: dict[str, Cluster] = {}
    left = [place.decode() for id_ in ids if (place := state.get_bytes(f"id:{id_}"))]
    while left:
        id_ = left.pop()
        cluster = None if id_ in found else _kept(state, f"cluster:{id_}", Cluster)
        if cluster is not None:
            found[id_] = cluster
            left += [cluster.merged_into] if cluster.merged_into else []
    return found


def _customers(
    before: Iterable[Cluster], after: Iterable[Cluster], identities: Mapping[str, Sequence[Identity]], state: State
) -> dict[str, dict[str, Any]]:
    """Return the fields of customers' documents that change."""
    changes: dict[str, list[tuple[int, Entry]]] = {}
    for sign, clusters in ((-1, before), (1, after)):
        for entry in (entry for cluster in clusters for entry in cluster.entries):
            changes.setdefault(entry.user, []).append((sign, entry))
    found: dict[str, dict[str, Any]] = {}
    for user in dict.fromkeys((*changes, *identities)):
        stored = _kept(state, f"customer:{user}", dict[str, Any]) or {"customer_id": None, "email_hash": None}
        sums = OrderSums(stored.get("orders", 0), dict(stored.get("revenue", {})), dict(stored.get("refunded", {})))
        for sign, entry in changes.get(user, ()):
            sums = _with(sums, entry, sign)
        document = customer.with_orders(stored, sums, identities.get(user, ()))
        if document != stored:
            _keep(state, f"customer:{user}", document)
            found[user] = {field: document[field] for field in OF_ORDERS}
    return found


def _with(sums: OrderSums, entry: Entry, sign: int) -> OrderSums:
    revenue, refunded = dict(sums.revenue), dict(sums.refunded)
    orders = sums.orders + sign
    for money, amount in ((revenue, entry.revenue), (refunded, entry.refunded)):
        if entry.currency and (amount or money is revenue):
            money[entry.currency] = money.get(entry.currency, 0) + sign * amount
            if not money[entry.currency] and not orders:
                del money[entry.currency]
    return OrderSums(orders, revenue, refunded)


def _counters(shop: str, changes: Mapping[Any, Counted]) -> dict[CounterKey, dict[str, int]]:
    counters: dict[CounterKey, dict[str, int]] = {}
    for counted in changes.values():
        for (product, day, field), amount in counted.items():
            counter = counters.setdefault((shop, product, day), {})
            counter[field] = counter.get(field, 0) + amount
    return counters


def _kept(state: State, key: str, kind: Any) -> Any:
    stored = state.get_bytes(key)
    return None if stored is None else msgspec.json.decode(stored, type=kind)


def _keep(state: State, key: str, value: Any) -> None:
    state.set_bytes(key, msgspec.json.encode(value))
