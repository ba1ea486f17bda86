"""What an audit can judge while the stream goes on: the documents that rest on records within its range alone.

The range ends at the committed offsets: what lies beyond may be half applied. It begins at a given time, or where the
topic's retention has left off. A document that rests on a record outside of it too, such as a customer who has been
seen since, is left out on both sides.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import Any

import msgspec

from truepixel_dagster.audit.compare import Actual, Difference
from truepixel_dagster.audit.oracle import Expected
from truepixel_dagster.events.shop_time import ShopDays
from truepixel_dagster.events.times import to_millis
from truepixel_dagster.source_log import PartitionChange

Doc = Mapping[str, Any]
# What depends on the order of a user's events, by store, and what on which of an order's sightings decides.
_OF_ORDER = {
    "ad_leads": frozenset({"touches"}),
    "customers": frozenset({"last_ad", "email_hash", "customer_id"}),
    "attributions": frozenset({"touches", "credits"}),
}
_OF_DECIDING = frozenset({"client_id", "occurred_at", "value", "order_id", "checkout_token"})
Docs = dict[str, dict[str, Any]]


class Scope(msgspec.Struct, frozen=True):
    """A range of each partition: from `first`, up to and without `end`."""

    first: Mapping[int, int]
    end: Mapping[int, int]

    def holds(self, partition: int, offset: int) -> bool:
        """Whether a record is within the range."""
        return self.first.get(partition, 0) <= offset < self.end.get(partition, 0)

    def holds_origin(self, kafka: Doc) -> bool:
        """Whether a document's record is within the range."""
        return self.holds(kafka["partition"], kafka["offset"])


class Outside(msgspec.Struct, frozen=True):
    """The ids of documents that rest on records outside of the range, by store."""

    events: AbstractSet[str]
    users: AbstractSet[str]
    attributions: AbstractSet[str]
    product_days: AbstractSet[str]
    weeks: AbstractSet[str]


def outside(actual: Actual, scope: Scope, days: ShopDays) -> Outside:
    """What cannot be judged, from the event history, the sightings of orders, and the days of shops."""
    events = {id_: doc for id_, doc in actual.events.items() if not scope.holds_origin(doc["kafka"])}
    users = {_user(doc) for doc in events.values()}
    orders = {(doc["shop_id"], doc["order_id"]) for doc in events.values() if doc.get("order_id")}
    attributions = {
        id_: doc
        for id_, doc in actual.attributions.items()
        if (doc["shop_id"], doc.get("order_id")) in orders or _rests_on(doc, users, scope)
    }
    # Which sighting counted such an order cannot be judged either: so neither can what all of them count.
    seen = [actual.events[id_] for doc in attributions.values() for id_ in _sighted(doc) if id_ in actual.events]
    counting = [*events.values(), *seen]
    return Outside(
        events=events.keys(),
        users=users | {_user(doc) for doc in seen},
        attributions=attributions.keys(),
        product_days={id_ for doc in counting for id_ in _product_days(doc, days)},
        weeks={_week(doc, days) for doc in events.values() if doc["source"] == "pixel"},
    )


def judged(expected: Expected, actual: Actual, left_out: Outside, scope: Scope) -> tuple[Expected, Actual]:
    """Both sides without what cannot be judged."""
    dead = {at: reason for at, reason in actual.dead.items() if scope.holds(*at)}
    return (
        replace(
            expected,
            events=_without(expected.events, left_out.events),
            ad_leads=_without(expected.ad_leads, left_out.users),
            attributions=_without(expected.attributions, left_out.attributions),
            customers=_without(expected.customers, left_out.users),
            product_stats=_without(expected.product_stats, left_out.product_days),
            weekly_visitors=_without(expected.weekly_visitors, left_out.weeks),
        ),
        replace(
            actual,
            events=_without(actual.events, left_out.events),
            dead=dead,
            ad_leads=_without(actual.ad_leads, left_out.users),
            attributions=_without(actual.attributions, left_out.attributions),
            customers=_without(actual.customers, left_out.users),
            product_stats=_without(actual.product_stats, left_out.product_days),
            weekly_visitors=_without(actual.weekly_visitors, left_out.weeks),
        ),
    )


def moved_users(events: Mapping[str, Doc], changes: Sequence[PartitionChange]) -> frozenset[str]:
    """Users whose events lie in several partitions because partitions were added: nobody kept the order of these.

    All but one of a user's partitions must end, for that user, before a change of partitions was noticed. A producer
    that goes on writing a user's events to two partitions breaks the order by itself: that is no excuse.

    Arguments:
        events: The event history, by document id.
        changes: When partitions were seen to have been added.
    """
    last: dict[str, dict[int, int]] = {}
    for doc in events.values():
        own, partition = last.setdefault(_user(doc), {}), doc["kafka"]["partition"]
        own[partition] = max(doc["kafka"]["offset"], own.get(partition, -1))
    return frozenset(user for user, own in last.items() if len(own) > 1 and _by_a_change(own, changes))


def _by_a_change(last: Mapping[int, int], changes: Sequence[PartitionChange]) -> bool:
    left = [p for p, offset in last.items() if not any(offset < each.ends.get(str(p), 0) for each in changes)]
    return len(left) <= 1


def is_of_order(difference: Difference, moved: AbstractSet[str], actual: Actual) -> bool:
    """Whether a difference may come of nothing but the order between a moved user's partitions.

    Counts, sums, visitors, and which documents there are, do not depend on it.
    """
    field = re.split(r"[.\[]", difference.path)[0]
    if difference.kind != "differs":
        return False
    if difference.store in ("ad_leads", "customers"):
        return difference.id in moved and field in _OF_ORDER[difference.store]
    if difference.store != "attributions":
        return False
    doc = actual.attributions[difference.id]
    sightings = doc["sightings"]
    users = {f"{doc['shop_id']}:{sighting['client_id']}" for sighting in sightings}
    fields = _OF_ORDER["attributions"] | (_OF_DECIDING if len(sightings) > 1 else frozenset())
    return bool(users & moved) and field in fields


def _without(docs: Mapping[str, Any], ids: AbstractSet[str]) -> dict[str, Any]:
    return {id_: doc for id_, doc in docs.items() if id_ not in ids}


def _rests_on(attribution: Doc, users: AbstractSet[str], scope: Scope) -> bool:
    origins = [entry["kafka"] for entry in (*attribution["sightings"], *attribution.get("touches", ()))]
    clients = {f"{attribution['shop_id']}:{sighting['client_id']}" for sighting in attribution["sightings"]}
    return bool(clients & users) or not all(map(scope.holds_origin, origins))


def _sighted(attribution: Doc) -> Iterable[str]:
    return (f"{attribution['shop_id']}:{sighting['event_id']}" for sighting in attribution["sightings"])


def _user(event: Doc) -> str:
    return f"{event['shop_id']}:{event['client_id']}"


def _product_days(event: Doc, days: ShopDays) -> Iterable[str]:
    day = days.of(event["shop_id"]).day(to_millis(event["occurred_at"]))
    return (f"{event['shop_id']}:{product}:{day}" for product in event.get("product_ids", ()))


def _week(event: Doc, days: ShopDays) -> str:
    return f"{event['shop_id']}:{days.of(event['shop_id']).week(to_millis(event['occurred_at']))}"
