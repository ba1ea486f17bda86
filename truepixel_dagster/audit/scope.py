"""Limit an audit to what it can judge while the stream runs: documents that depend only on records within its range.

The range ends at the committed offsets, because later records may be partly applied. It begins at a given time, or at
the oldest record that retention has kept. A document that also depends on a record outside of the range, such as a
customer who was seen since, is left out on both sides. So are an order with such a record, the customers that it may
belong to, and the days on which it counts its products.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import msgspec

from truepixel_dagster.audit.compare import Actual, Difference
from truepixel_dagster.audit.oracle import Expected, Shop, day, week
from truepixel_dagster.source_log import PartitionChange

Doc = Mapping[str, Any]
Name = tuple[str, str]

# The fields by store that depend on the order of a user's events: an order belongs to the client that has a journey.
_OF_ORDER = {
    "ad_leads": frozenset({"touches"}),
    "customers": frozenset({"last_ad", "email_hash", "customer_id"}),
    "attributions": frozenset({"touches", "credits", "client_id"}),
}
Docs = dict[str, dict[str, Any]]


class Scope(msgspec.Struct, frozen=True):
    """Hold a range of each partition: from `first` up to but excluding `end`."""

    first: Mapping[int, int]
    end: Mapping[int, int]

    def holds(self, partition: int, offset: int) -> bool:
        """Return whether a record is within the range."""
        return self.first.get(partition, 0) <= offset < self.end.get(partition, 0)

    def holds_origin(self, kafka: Doc) -> bool:
        """Return whether a document's record is within the range."""
        return self.holds(kafka["partition"], kafka["offset"])


class Outside(msgspec.Struct, frozen=True):
    """Hold what depends on records outside of the range.

    `events` are outside themselves. `users` have events outside, and so touches and counts. `orders` has the ids (with
    their shop) of orders that have a record outside or may belong to such a user. `customers` are the customers of all
    of these. `product_days` and `weeks` have document ids. Products in `products` (with their shop) may have returns on
    every day from the given one.
    """

    events: AbstractSet[str]
    users: AbstractSet[str]
    customers: AbstractSet[str]
    orders: AbstractSet[Name]
    product_days: AbstractSet[str]
    products: Mapping[Name, str]
    weeks: AbstractSet[str]


def outside(actual: Actual, scope: Scope, shops: Mapping[str, Shop] | None = None) -> Outside:
    """Return what cannot be judged, by the event history and the orders' documents.

    Arguments:
        actual: The documents of the stores.
        scope: The range.
        shops: The shops by id; their time zones decide the days.
    """
    known = shops or {}
    events = {id_: doc for id_, doc in actual.events.items() if not scope.holds_origin(doc["kafka"])}
    users = {_user(doc) for doc in events.values()}
    groups = _groups([*actual.events.values(), *actual.attributions.values()])
    unjudged, counting = [], []
    for group in groups:
        has_record = not all(scope.holds_origin(kafka) for doc in group for kafka in _origins(doc))
        if has_record:
            counting.append(group)
        if has_record or any(_user(doc) in users for doc in group):
            unjudged.append(group)
    return Outside(
        events=events.keys(),
        users=users,
        customers=users | {_user(doc) for group in unjudged for doc in group},
        orders={name for group in unjudged for doc in group for name in _names(doc)},
        product_days={
            *(
                _product_day(doc["shop_id"], each, _day(doc, known))
                for doc in events.values()
                for each in _products(doc)
            ),
            *(id_ for group in counting for id_ in _days_of_order(group, known)),
        },
        products=_returned(counting),
        weeks={f"{doc['shop_id']}:{_week(doc, known)}" for doc in events.values() if doc["source"] == "pixel"},
    )


def _origins(doc: Doc) -> list[Doc]:
    """Return the records of an event's or an order's document."""
    return [doc["kafka"]] if "kafka" in doc else [sighting["kafka"] for sighting in doc["sightings"]]


# --- Orders: documents that share an order id or a token ---


def _names(doc: Doc) -> set[Name]:
    """Return the ids by which a document names an order, with its shop."""
    ids = (doc.get(name) for name in ("order_id", "checkout_token", "cart_token"))
    return {(doc["shop_id"], id_) for id_ in ids if id_}


def _groups(docs: Iterable[Doc]) -> list[list[Doc]]:
    """Return the documents of events and orders that name an order, grouped by the ids that connect them."""
    leader: dict[Name, Name] = {}

    def lead(name: Name) -> Name:
        while leader.setdefault(name, name) != name:
            name = leader[name]
        return name

    naming = [(doc, sorted(_names(doc))) for doc in docs]
    naming = [(doc, names) for doc, names in naming if names]
    for _, names in naming:
        for name in names:
            leader[lead(name)] = lead(names[0])
            leader[name] = lead(names[0])
    groups: dict[Name, list[Doc]] = {}
    for doc, names in naming:
        groups.setdefault(lead(names[0]), []).append(doc)
    return list(groups.values())


def _days_of_order(group: list[Doc], shops: Mapping[str, Shop]) -> set[str]:
    """Return the product days on which an order may count: those of its own time and of its records."""
    products = {product for doc in group for product in _products(doc)}
    days = {on for doc in group for on in _possible_days(doc, shops)}
    return {_product_day(group[0]["shop_id"], product, on) for product in products for on in days}


def _returned(groups: list[list[Doc]]) -> dict[Name, str]:
    """Return the products of refunded orders, and the earliest possible day of the refund."""
    found: dict[Name, str] = {}
    for group in groups:
        if not any(doc.get("refunded") or doc.get("name") == "refunds/create" for doc in group):
            continue
        first = min(doc["occurred_at"] for doc in group)
        for product in (product for doc in group for product in _products(doc)):
            name = (group[0]["shop_id"], product)
            found[name] = min(found.get(name, "9999"), _shifted(first, -timedelta(hours=12)))
    return found


# --- Days ---


def _products(doc: Doc) -> list[str]:
    return list(doc.get("product_ids") or ())


def _product_day(shop: str, product: str, on: str) -> str:
    return f"{shop}:{product}:{on}"


def _millis(doc: Doc) -> int:
    return int(datetime.fromisoformat(doc["occurred_at"].replace("Z", "+00:00")).timestamp() * 1000)


def _day(doc: Doc, shops: Mapping[str, Shop]) -> str:
    return day(_millis(doc), shops.get(doc["shop_id"]))


def _week(doc: Doc, shops: Mapping[str, Shop]) -> str:
    return week(_millis(doc), shops.get(doc["shop_id"]))


def _possible_days(doc: Doc, shops: Mapping[str, Shop]) -> set[str]:
    """Return the shop's day, or every possible day if only the webhook's offset tells the shop's time."""
    shop = shops.get(doc["shop_id"])
    if shop and shop.time_zone:
        return {_day(doc, shops)}
    return {_shifted(doc["occurred_at"], timedelta(hours=hours)) for hours in (-12, 0, 14)}


def _shifted(at: str, by: timedelta) -> str:
    return (datetime.fromisoformat(at.replace("Z", "+00:00")) + by).strftime("%Y-%m-%d")


# --- Both sides without what is left out ---


def judged(expected: Expected, actual: Actual, left_out: Outside, scope: Scope) -> tuple[Expected, Actual]:
    """Return both sides without what cannot be judged."""
    dead = {at: reason for at, reason in actual.dead.items() if scope.holds(*at)}
    customers = left_out.customers | {
        f"{doc['shop_id']}:{client}"
        for id_, doc in expected.attributions.items()
        if _names(doc) & left_out.orders
        for client in expected.clients[id_]
    }
    return (
        replace(
            expected,
            events=_without(expected.events, left_out.events),
            ad_leads=_without(expected.ad_leads, left_out.users),
            attributions=_without_orders(expected.attributions, left_out),
            customers=_without(expected.customers, customers),
            product_stats=_without_days(expected.product_stats, left_out),
            weekly_visitors=_without(expected.weekly_visitors, left_out.weeks),
        ),
        replace(
            actual,
            events=_without(actual.events, left_out.events),
            dead=dead,
            ad_leads=_without(actual.ad_leads, left_out.users),
            attributions=_without_orders(actual.attributions, left_out),
            customers=_without(actual.customers, customers),
            product_stats=_without_days(actual.product_stats, left_out),
            weekly_visitors=_without(actual.weekly_visitors, left_out.weeks),
        ),
    )


def _without_orders(orders: Mapping[str, Any], left_out: Outside) -> dict[str, Any]:
    return {id_: doc for id_, doc in orders.items() if not _names(doc) & left_out.orders}


def _without_days(days: Mapping[str, Any], left_out: Outside) -> dict[str, Any]:
    def is_left_out(id_: str) -> bool:
        shop_and_product, _, on = id_.rpartition(":")
        shop, _, product = shop_and_product.partition(":")
        return id_ in left_out.product_days or left_out.products.get((shop, product), "9999") <= on

    return {id_: doc for id_, doc in days.items() if not is_left_out(id_)}


def moved_users(events: Mapping[str, Doc], changes: Sequence[PartitionChange]) -> frozenset[str]:
    """Return users whose events are in several partitions because partitions were added, which breaks their order.

    In all but one of the partitions, the user's events must end before a change of partitions was noticed. A producer
    that continues to write a user's events to two partitions breaks the order itself, which is not excused.

    Arguments:
        events: The event history, by document id.
        changes: The noticed additions of partitions.
    """
    last: dict[str, dict[int, int]] = {}
    for doc in events.values():
        own, partition = last.setdefault(_user(doc), {}), doc["kafka"]["partition"]
        own[partition] = max(doc["kafka"]["offset"], own.get(partition, -1))
    return frozenset(user for user, own in last.items() if len(own) > 1 and _by_a_change(own, changes))


def _by_a_change(last: Mapping[int, int], changes: Sequence[PartitionChange]) -> bool:
    left = [p for p, offset in last.items() if not any(offset < each.ends.get(str(p), 0) for each in changes)]
    return len(left) <= 1


def of_order(found: Iterable[Difference], moved: AbstractSet[str], actual: Actual) -> list[Difference]:
    """Return the differences that the order between moved users' partitions alone may explain.

    Counts, sums, visitors and the existence of documents do not depend on it.
    """
    orders = {name for event in actual.events.values() if _user(event) in moved for name in _names(event)}

    def is_of_order(difference: Difference) -> bool:
        if difference.kind != "differs" or difference.top_field not in _OF_ORDER.get(difference.store, ()):
            return False
        if difference.store != "attributions":
            return difference.id in moved
        doc = actual.attributions[difference.id]
        return _user(doc) in moved or not orders.isdisjoint(_names(doc))

    return [difference for difference in found if is_of_order(difference)]


def _without(docs: Mapping[str, Any], ids: AbstractSet[str]) -> dict[str, Any]:
    return {id_: doc for id_, doc in docs.items() if id_ not in ids}


def _user(event: Doc) -> str:
    return f"{event['shop_id']}:{event.get('client_id')}"
