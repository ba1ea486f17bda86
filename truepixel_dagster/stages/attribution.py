"""Stage 3: attribute orders to visits, and follow the orders' changes.

MongoDB holds the facts of orders, a document for each cluster of ids (`orders/cluster.py`); new facts are merged by
compare-and-set. From them follow the attributions in Elasticsearch, one for each order, each order's counts for its
client, and each record's changes of the product statistics.

An attribution is written only from a cluster that was read after the attribution. So a writer that changes the cluster
later also reads the attribution later, and replaces it or finds that it has changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

import msgspec

from truepixel_dagster.events.event import Event
from truepixel_dagster.events.origin import Origin
from truepixel_dagster.orders import first_edition
from truepixel_dagster.orders.cluster import Cluster, Group, Settling, changes_of, groups_of, settle
from truepixel_dagster.orders.counts import Counted
from truepixel_dagster.orders.document import attribution_of
from truepixel_dagster.orders.event_facts import ids_of
from truepixel_dagster.orders.facts import When
from truepixel_dagster.orders.journey import Rules
from truepixel_dagster.retrying import pause
from truepixel_dagster.stages import ids_per_order
from truepixel_dagster.stages.attribution_document import ATTRIBUTIONS, updated
from truepixel_dagster.stages.order_clusters import CLUSTER, as_document, read_clusters, readable
from truepixel_dagster.stages.refused import Refused
from truepixel_dagster.stores.documents import FIRST_SCHEMA, SECOND_EDITION, Unreadable, tidied
from truepixel_dagster.stores.elasticsearch import ElasticsearchStore, Found, Place, Written
from truepixel_dagster.stores.errors import Unavailable
from truepixel_dagster.stores.mongodb import ORDERS, MongoStore

# Several lanes may write one order repeatedly: a write that conflicts with another one reads the order again.
_REREADS = 40

# Groups of records with the clusters that stand for them, by document id.
Clusters = dict[str, tuple[Group, Cluster]]


class Identity(NamedTuple):
    """The customer of an order, and the time of the payload that names them: the newest payload counts."""

    when: When
    customer_id: str | None
    email_hash: str | None


class Concern(NamedTuple):
    """The events that may have changed a user's orders, and the identities in these orders."""

    events: list[Event]
    identities: list[Identity]


class Attributed(msgspec.Struct, frozen=True):
    """The result of stage 3.

    `changes` holds the changes of the product statistics, by origin of the record; `users` has the users whose orders
    may have changed. `made` and `changed` are the numbers of new and of changed attributions.
    """

    changes: Mapping[Origin, Counted]
    users: Mapping[str, Concern]
    refused: tuple[Refused, ...]
    made: int = 0
    changed: int = 0


class Prefetched(NamedTuple):
    """The stored documents of a batch's orders: the attributions, which are read first, and the clusters."""

    attributions: dict[str, Found | None]
    clusters: dict[str, dict[str, Any]]


def read(events: Iterable[Event], mongodb: MongoStore, elasticsearch: ElasticsearchStore) -> Prefetched:
    """Read the stored documents of all orders that the events name.

    Raises:
        Unavailable: A server does not answer.
    """
    named = [event for event in events if event.order]
    attributions = read_attributions(likely_documents(named), elasticsearch)
    return Prefetched(attributions, read_clusters(_all_ids(named), mongodb))


def run(
    events: Sequence[Event],
    settling: Settling,
    mongodb: MongoStore,
    elasticsearch: ElasticsearchStore,
    prefetched: Prefetched | None = None,
) -> Attributed:
    """Merge the batch's facts into its orders, and write their attributions.

    Arguments:
        events: The events that continue, in order.
        settling: The data with which orders are settled.
        mongodb: The store of clusters.
        elasticsearch: The store of attributions.
        prefetched: The documents that were read ahead for these events, perhaps with others; None reads them now.

    Raises:
        Unavailable: A server does not answer.
    """
    named = [event for event in events if event.order and not event.bot]
    if not named:
        return Attributed({}, {}, ())
    before = prefetched or read(named, mongodb, elasticsearch)
    settling = msgspec.structs.replace(settling, imported=partial(_imported, before.attributions))
    merged = _merge(named, settling, mongodb, before)
    written, reasons = write(merged.clusters, settling, mongodb, elasticsearch, before.attributions)
    refused = [*merged.refused, *_hold(merged.clusters, reasons, mongodb)]
    gone = {item.event.origin for item in refused}
    changes = changes_of(
        (event for event in named if event.origin not in gone), (cluster for _, cluster in merged.clusters.values())
    )
    users: dict[str, Concern] = {}
    for group, cluster in merged.clusters.values():
        standing = [event for event in group.events if event.origin not in gone]
        _add_concerns(users, cluster, standing, settling.rules)
    return Attributed(changes, users, tuple(refused), written.created, written.replaced + written.deleted)


class _Merged(NamedTuple):
    """Hold groups with their merged clusters, by document id, and the rejected events."""

    clusters: Clusters
    refused: list[Refused]


def _merge(events: Sequence[Event], settling: Settling, mongodb: MongoStore, before: Prefetched) -> _Merged:
    stored = before.clusters
    refused: list[Refused] = []
    left: Sequence[Event] = events
    for attempt in range(_REREADS):
        if attempt > 1:
            pause(attempt)
        if attempt:
            stored = read_clusters(_all_ids(left), mongodb)
        clusters, unreadable = readable(stored)
        found: dict[str, tuple[Group, Cluster]] = {}
        changed: dict[str, dict[str, Any]] = {}
        by_document: dict[str, Group] = {}
        refused_now: list[Refused] = []
        is_done = True
        for group in groups_of(left, clusters):
            if reason := _reason(group, unreadable, stored):
                refused_now += [Refused(event, reason) for event in group.events]
                continue
            if too_many := ids_per_order.beyond(group, settling.rules.ids_per_order):
                refused_now += too_many
                is_done = False
                continue
            settled = settle(group, settling)
            is_done &= settled.is_done
            found[settled.root] = (group, settled.cluster)
            for id_, cluster in settled.changed.items():
                changed[id_] = as_document(cluster, stored.get(id_, {}))
                by_document[id_] = group
        complete, rejected = mongodb.replace(ORDERS, changed, stored)
        for id_, refusal in rejected.items():
            group = by_document[id_]
            refused_now += [Refused(event, refusal.reason) for event in group.events]
        gone = {item.event.origin for item in refused_now}
        refused += refused_now
        left = [event for event in left if event.origin not in gone]
        if complete and is_done:
            standing = {id_: entry for id_, entry in found.items() if entry[0].events[0].origin not in gone}
            return _Merged(standing, refused)
    raise Unavailable(
        f"MongoDB: {len(left)} records of orders still conflicted with other writers after {_REREADS} tries"
    )


def _imported(attributions: Mapping[str, Found | None], group: Group) -> Cluster | None:
    """Return the cluster from a document of the first edition, for an order without any other document."""
    for id_ in group.ids:
        there = attributions.get(id_)
        if there and (there.source.get("schema") or FIRST_SCHEMA) < SECOND_EDITION:
            with suppress(msgspec.ValidationError, ValueError):
                return first_edition.cluster_of(msgspec.convert(tidied(there.source), first_edition.Document))
    return None


def _reason(group: Group, unreadable: Mapping[str, str], stored: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Return why a group cannot be settled, if one of its clusters cannot be read."""
    if not unreadable:
        return None
    ids = {*group.ids, *group.clusters}
    for id_, reason in unreadable.items():
        said = stored[id_].get("ids")
        if id_ in ids or (isinstance(said, list) and ids.intersection(map(str, said))):
            return reason
    return None


def write(
    clusters: Clusters,
    settling: Settling,
    mongodb: MongoStore,
    elasticsearch: ElasticsearchStore,
    attributions: Mapping[str, Found | None],
) -> tuple[Written, dict[str, str]]:
    """Write the attributions of clusters.

    Arguments:
        clusters: Groups with their clusters, by document id; brought up to date where attributions are read again.
        settling: The data with which clusters are settled.
        mongodb: The store of clusters.
        elasticsearch: The store of attributions.
        attributions: The attributions that were read before the clusters.

    Returns:
        The result of the writes, and the reasons why Elasticsearch rejected attributions, by cluster id.

    Raises:
        Unavailable: A server does not answer.
    """
    index = elasticsearch.index(ATTRIBUTIONS)
    roots: dict[Place, set[str]] = {}
    _add_roots(roots, clusters, clusters, index)
    before = {place: attributions[place[1]] for place in roots if place[1] in attributions}
    refused: dict[str, str] = {}

    def decide(there: Mapping[Place, Found | None]) -> dict[Place, bytes | None]:
        concerned = sorted({root for place in there for root in roots[place]})
        known = set(roots)
        if there is not before:
            # A cluster is always read after its attributions.
            _reread(clusters, concerned, mongodb)
            _add_roots(roots, clusters, concerned, index)
        changed: dict[Place, bytes | None] = {}
        for root in concerned:
            places = [(index, id_) for id_ in clusters[root][1].documents]
            own = [place for place in places if place in there or place not in known]
            try:
                changed |= _documents(clusters[root][1], own, there, settling)
            except Unreadable as error:
                refused[root] = str(error)
        return changed

    written = elasticsearch.update(roots, decide, before)
    for place, reason in written.refused.items():
        refused.update(dict.fromkeys(roots[place], reason))
    return written, refused


def _add_roots(roots: dict[Place, set[str]], clusters: Clusters, some: Iterable[str], index: str) -> None:
    """Add the clusters of each attribution to `roots`, by the attribution's place."""
    for root in some:
        for id_ in clusters[root][1].documents:
            roots.setdefault((index, id_), set()).add(root)


def _documents(
    cluster: Cluster, places: Iterable[Place], there: Mapping[Place, Found | None], settling: Settling
) -> dict[Place, bytes | None]:
    """Return the writes that bring a cluster's attributions up to date; None deletes one whose id no longer applies."""
    wanted = {order.document_id: attribution_of(order, settling.rules) for order in cluster.orders(settling.rules)}
    changed: dict[Place, bytes | None] = {}
    for place in places:
        order = wanted.get(place[1])
        source = updated(order, there.get(place)) if order else None
        if source or not order:
            changed[place] = source
    return changed


def _reread(clusters: Clusters, roots: Sequence[str], mongodb: MongoStore) -> None:
    """Replace clusters by their current version in MongoDB; another worker may have closed one meanwhile."""
    ids = [id_ for root in roots for id_ in clusters[root][1].ids]
    found, _ = readable(read_clusters(ids, mongodb))
    for root in roots:
        group, cluster = clusters[root]
        now, seen = root, {root}
        while now in found and (target := found[now].merged_into) and target not in seen:
            now = target
            seen.add(now)
        clusters[root] = (group, found.get(now, cluster))


def _hold(clusters: Clusters, refused: Mapping[str, str], mongodb: MongoStore) -> list[Refused]:
    """Hold the changes of records that become dead letters until the dead letters are reprocessed."""
    for root in refused:
        group, _ = clusters[root]
        _change_held(root, {(e.origin.partition, e.origin.offset) for e in group.events}, mongodb, held=True)
    return [Refused(event, reason) for root, reason in refused.items() for event in clusters[root][0].events]


def _change_held(root: str, origins: set[tuple[int, int]], mongodb: MongoStore, *, held: bool) -> None:
    def decide(stored: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        if root not in stored:
            return {}
        cluster = CLUSTER.read(root, stored[root])
        changes = tuple(
            msgspec.structs.replace(change, held=held) if (change.partition, change.offset) in origins else change
            for change in cluster.changes
        )
        after = msgspec.structs.replace(cluster, changes=changes)
        return {} if after == cluster else {root: as_document(after, stored[root])}

    mongodb.update(ORDERS, [root], decide)


def _add_concerns(users: dict[str, Concern], cluster: Cluster, events: Sequence[Event], rules: Rules) -> None:
    if not events:
        return
    for user, identities in identities_of(cluster, rules).items():
        concern = users.setdefault(user, Concern([], []))
        concern.events.extend(events)
        concern.identities.extend(identities)


def identities_of(cluster: Cluster, rules: Rules) -> dict[str, list[Identity]]:
    """Return all users that a cluster's records name, each with the identities in its orders."""
    found: dict[str, list[Identity]] = {user: [] for user in cluster.users}
    for order in cluster.orders(rules):
        payload, (customer_id, email_hash) = order.payload, order.identity
        if payload is None or order.test or not (customer_id or email_hash):
            continue
        identity = Identity((payload.updated_at, payload.event_id), customer_id, email_hash)
        for client in order.clients:
            found[f"{order.shop_id}:{client.client}"].append(identity)
    return found


# --- Reading ---


def likely_documents(events: Iterable[Event]) -> list[str]:
    """Return the ids under which the attributions of events are most likely stored."""
    found: dict[str, None] = {}
    for event in events:
        if news := event.order:
            for id_ in (news.checkout_token, news.order_id, news.cart_token):
                if id_:
                    found[f"{event.shop_id}:{id_}"] = None
    return list(found)


def _all_ids(events: Iterable[Event]) -> list[str]:
    return list(dict.fromkeys(id_ for event in events for id_ in ids_of(event)))


def read_attributions(ids: Iterable[str], elasticsearch: ElasticsearchStore) -> dict[str, Found | None]:
    """Return attributions by their ids; None for a missing one."""
    wanted = list(ids)
    index = elasticsearch.index(ATTRIBUTIONS)
    return dict(zip(wanted, elasticsearch.mget([(index, id_) for id_ in wanted])))
