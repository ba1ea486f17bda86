"""Recompute orders and their attributions from the event history, with the stream's settings or with others.

An order's document stays unchanged if it agrees with the history. Otherwise it is replaced, and the order counts what
the history says: rebuild the product statistics and customers of its days too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from truepixel_dagster.chunks import chunks
from truepixel_dagster.events.event import Event
from truepixel_dagster.events.touch import Touch
from truepixel_dagster.orders.cluster import Cluster, Group, Settling, groups_of, is_known, recounted, settle
from truepixel_dagster.orders.event_facts import ids_of
from truepixel_dagster.orders.journey import Rules
from truepixel_dagster.rebuild.ad_leads import touches_of_users
from truepixel_dagster.rebuild.context import RebuildContext
from truepixel_dagster.rebuild.history import WITH_ORDER, all_of, of_orders, on_days
from truepixel_dagster.rebuild.stats import Progress, RebuildStats, silent
from truepixel_dagster.retention import check_kept
from truepixel_dagster.stages import attribution, order_clusters, settling
from truepixel_dagster.stages.ad_lead import noted_users
from truepixel_dagster.stages.attribution_document import ATTRIBUTIONS
from truepixel_dagster.stages.stage import ATTRIBUTION
from truepixel_dagster.stores.documents import report
from truepixel_dagster.stores.elasticsearch import ElasticsearchStore, Found
from truepixel_dagster.stores.errors import ServerRefuses, Unavailable
from truepixel_dagster.stores.mongodb import ORDERS

IDS = 250
_REREADS = 20


def rules_of(context: RebuildContext, **others: Any) -> Rules:
    """Return the stream's rules, with the given ones replaced."""
    return msgspec.structs.replace(settling.rules_of(context.settings), **others)


def rebuild_days(
    context: RebuildContext, days: Sequence[str], rules: Rules, progress: Progress = silent
) -> RebuildStats:
    """Recompute every order that an event of these days names, or whose document has one of these days.

    Arguments:
        context: The settings, stores and history.
        days: UTC days, ISO.
        rules: The window and half-life for the documents.
        progress: Called with the progress.

    Raises:
        HistoryDropped: Retention has removed events of a day, or of the window before it.
        KafkaUnavailable, Unavailable: A server does not answer. The documents written so far are correct, and the
            others are unchanged.
    """
    check_kept(days, context.kept, rules.window_days)
    context.history.refresh()
    ids: set[str] = set()
    seen = 0
    for page in context.history.events(all_of(on_days(days), WITH_ORDER)):
        ids.update(names_of(page))
        seen += len(page)
        progress("order events read", seen, 0)
    fields = ["shop_id", "order_id", "checkout_token", "cart_token"]
    for hit in context.stores.elasticsearch.scan(ATTRIBUTIONS, on_days(days), fields=fields):
        ids.update(_ids_of_document(hit["_id"], hit["_source"]))
    return rebuild_orders(context, ids, rules, progress)


def names_of(events: Iterable[Event]) -> set[str]:
    """Return the ids of orders that events name (`orders.event_facts.ids_of`)."""
    return {id_ for event in events for id_ in ids_of(event)}


def rebuild_orders(
    context: RebuildContext, ids: Iterable[str], rules: Rules, progress: Progress = silent
) -> RebuildStats:
    """Recompute the orders that have one of these ids."""
    wanted = sorted(ids)
    done: set[str] = set()
    result = RebuildStats()
    for chunk in chunks(wanted, IDS):
        left = {id_ for id_ in chunk if id_ not in done}
        if left:
            events, linked = _linked(context, left)
            done |= linked
            result += _rebuild(context, events, linked, rules)
        progress("ids of orders", len(done.intersection(wanted)), len(wanted))
    return result


def _linked(context: RebuildContext, ids: set[str]) -> tuple[list[Event], set[str]]:
    """Return the events that name these ids or ids linked to them, and all of these ids."""
    context.history.refresh()
    found: dict[tuple[int, int], Event] = {}
    known: set[str] = set()
    new = set(ids)
    while new:
        known |= new
        for page in context.history.events(_of_ids(new)):
            mine = (event for event in page if event.order and known.intersection(ids_of(event)))
            found.update({(event.origin.partition, event.origin.offset): event for event in mine})
        clusters = context.stores.mongodb.find_by(ORDERS, "ids", new)
        stored = {id_ for doc in clusters.values() for id_ in doc.get("ids", ()) if isinstance(id_, str)}
        new = (names_of(found.values()) | stored) - known
    return [found[place] for place in sorted(found)], known


def _of_ids(ids: Iterable[str]) -> Mapping[str, Any]:
    shops, names = zip(*(id_.split(":", 1) for id_ in ids))
    return of_orders(set(shops), set(names))


def _rebuild(context: RebuildContext, events: Sequence[Event], ids: set[str], rules: Rules) -> RebuildStats:
    mongodb, elasticsearch = context.stores.mongodb, context.stores.elasticsearch
    seen: dict[str, Any] = {}
    for _ in range(_REREADS):
        passed = [event for event in events if context.stream.passed(ATTRIBUTION, event)]
        by = _settling(context, passed, rules)
        likely = dict.fromkeys([*sorted(ids), *attribution.likely_documents(events)])
        attributions = attribution.read_attributions(likely, elasticsearch)
        stored = order_clusters.read_clusters(ids, mongodb)
        there = {id_ for id_, document in attributions.items() if document}
        plan = _planned(context, passed, stored, by, there)
        versions = {id_: document.get("v") for id_, document in stored.items()}
        # A document read after the history may contain a newer event, so read the history again after the documents.
        if any(seen.get(id_) != versions[id_] for id_ in versions.keys() & (plan.changed.keys() | plan.unnamed)):
            seen = versions
            events, ids = _linked(context, ids)
            continue
        complete, rejected = mongodb.replace(ORDERS, plan.changed, stored)
        if rejected:
            raise ServerRefuses(f"MongoDB refused an order: {next(iter(rejected.values())).reason}")
        if complete:
            written, refused = attribution.write(plan.groups, by, mongodb, elasticsearch, attributions)
            if refused:
                raise ServerRefuses(f"Elasticsearch refused an attribution: {next(iter(refused.values()))}")
            mongodb.remove(ORDERS, {id_: versions[id_] for id_ in plan.unnamed})
            standing = {id_ for _, cluster in plan.groups.values() for id_ in cluster.documents} | plan.unknown
            gone = _remove(elasticsearch, [doc for id_, doc in attributions.items() if doc and id_ not in standing])
            made = written.created + written.replaced
            orders = sum(len(cluster.orders(rules)) for _, cluster in plan.groups.values())
            for reason in plan.unreadable:
                report(reason)
            return RebuildStats(orders, made, written.deleted + gone, unreadable=len(plan.unreadable))
    raise Unavailable(f"MongoDB: other writers changed orders during each of {_REREADS} tries")


class _Planned(NamedTuple):
    """Hold what the history says of orders, and the changes to their documents.

    `groups` has records with their clusters, by document id. `changed` has the documents to write. `unnamed` has the
    ids of documents that the pipeline wrote and that no record supports. `unknown` has the ids of orders whose
    documents cannot be read: these and their attributions stay. `unreadable` has the reasons why.
    """

    groups: dict[str, tuple[Group, Cluster]]
    changed: dict[str, dict[str, Any]]
    unnamed: set[str]
    unknown: set[str]
    unreadable: Sequence[str]


def _planned(
    context: RebuildContext,
    events: Sequence[Event],
    stored: Mapping[str, Mapping[str, Any]],
    by: Settling,
    there: set[str],
) -> _Planned:
    clusters, unreadable = order_clusters.readable(stored)
    changed: dict[str, dict[str, Any]] = {}
    groups: dict[str, tuple[Group, Cluster]] = {}
    usable = [event for event in events if not _is_of_unreadable(event, unreadable, stored)]
    for group in groups_of(usable, clusters):
        root, wanted = _wanted(context, group, by, there)
        groups[root] = (group, wanted[root])
        for id_, cluster in wanted.items():
            if cluster != clusters.get(id_):
                changed[id_] = order_clusters.as_document(cluster, stored.get(id_, {}))
    named = {id_ for group, _ in groups.values() for id_ in group.clusters} | set(groups)
    unnamed = {id_ for id_ in clusters if id_ not in named and "nodes" in stored[id_]}
    unknown = {name for id_ in unreadable for name in _names_of(id_, stored[id_])}
    return _Planned(groups, changed, unnamed, unknown, list(unreadable.values()))


def _settling(context: RebuildContext, events: Sequence[Event], rules: Rules) -> Settling:
    """Return the data to settle the orders of events, with the history's touches of every user that they name."""
    users = {event.user for event in events} | noted_users(events)
    seen: dict[str, set[tuple[int, int]]] = {}
    for event in events:
        # Stage 2 processes a record before stage 3.
        seen.setdefault(event.user, set()).add((event.origin.partition, event.origin.offset))
    touches: Mapping[str, Sequence[Touch]] = touches_of_users(context, users, seen) if users else {}
    return settling.settling(rules, touches, context.days, lambda _partition, _offset: False)


def _is_of_unreadable(event: Event, unreadable: Mapping[str, str], stored: Mapping[str, Mapping[str, Any]]) -> bool:
    return any(not _names_of(id_, stored[id_]).isdisjoint(ids_of(event)) for id_ in unreadable)


def _names_of(id_: str, document: Mapping[str, Any]) -> set[str]:
    """Return the ids that a document which cannot be read names."""
    listed = document.get("ids")
    return {id_, *(map(str, listed) if isinstance(listed, list) else ())}


def _wanted(context: RebuildContext, group: Group, by: Settling, there: set[str]) -> tuple[str, dict[str, Cluster]]:
    """Return the id of the document that represents a group, with that document and those closed in its favour."""
    done = [event for event in group.events if context.stream.is_committed(event.origin)]
    under_way = [event for event in group.events if not context.stream.is_committed(event.origin)]
    live = {id_: each for id_, each in group.clusters.items() if each.merged_into is None}
    root = min(live, default=None) or min(group.ids)
    fresh = _recomputed(group, done, under_way, by)
    before = live.get(root)
    documents = _documents_among(group.ids, there)
    if before is not None and len(live) == 1 and is_known(_recomputed(group, done, (), by), before, fresh, by):
        kept = recounted(before, by)
        return root, {root: _with_documents(kept, documents)}
    others = {id_: each for id_, each in group.clusters.items() if id_ != root}
    held = {id_ for each in others.values() for id_ in each.ids}
    after = msgspec.structs.replace(
        fresh,
        ids=tuple(id_ for id_ in fresh.ids if id_ not in held),
        absorbed=tuple(sorted({*others, *(id_ for each in group.clusters.values() for id_ in each.absorbed)})),
    )
    old = {id_ for each in group.clusters.values() for id_ in each.documents}
    closed = {id_: msgspec.structs.replace(each, merged_into=root) for id_, each in others.items()}
    return root, {**closed, root: _with_documents(after, documents | old)}


def _recomputed(group: Group, done: Sequence[Event], under_way: Sequence[Event], by: Settling) -> Cluster:
    """Return the cluster of events. Uncommitted events are added one by one, as the stream adds them."""
    cluster = Cluster(group.events[0].shop_id)
    if done:
        settled = settle(Group(tuple(names_of(done)), tuple(done), {}), by)
        cluster = msgspec.structs.replace(settled.cluster, changes=())
    for event in under_way:
        cluster = settle(Group(ids_of(event), (event,), {"rebuilt": cluster}), by).cluster
    return cluster


def _with_documents(cluster: Cluster, more: set[str]) -> Cluster:
    return msgspec.structs.replace(cluster, documents=tuple(sorted({*cluster.documents, *more})))


def _remove(elasticsearch: ElasticsearchStore, left: Iterable[Found]) -> int:
    """Remove attributions that the pipeline wrote and no event supports, unless they changed; return how many."""
    # An attribution without a sighting was imported, so the history never supports it.
    return elasticsearch.remove(doc for doc in left if doc.source.get("sightings"))


def _documents_among(ids: Iterable[str], there: set[str]) -> set[str]:
    """Return the attributions of orders with these ids. A document's id is its shop and one of the order's ids."""
    return there.intersection(ids)


def _ids_of_document(id_: str, document: Mapping[str, Any]) -> set[str]:
    shop = document.get("shop_id", id_.partition(":")[0])
    named = (document.get(field) for field in ("order_id", "checkout_token", "cart_token"))
    return {id_, *(f"{shop}:{name}" for name in named if name)}
