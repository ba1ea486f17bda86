"""What is known of the records that share an order's ids, and what has been counted from them.

A cluster is one document. Its nodes are facts that merge (`orders/facts.py`). The document also holds the current
counts of its orders, and the change that each record made to them, so that each change reaches the product statistics
once: a record that is processed again finds its change, and makes no other.

If a record links two clusters, one absorbs the other. The other is closed first (`merged_into`), so that nothing writes
to it any more, and is absorbed afterwards (`absorbed`). Any worker that finds a closed cluster that was not absorbed
absorbs it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from truepixel_dagster.events.event import Event
from truepixel_dagster.events.origin import Origin
from truepixel_dagster.events.touch import Touch
from truepixel_dagster.orders.counts import (
    Counted,
    DayOf,
    Entry,
    as_rows,
    counted,
    difference,
    entry_of,
    from_rows,
    is_sold,
    total,
)
from truepixel_dagster.orders.division import orders_of
from truepixel_dagster.orders.event_facts import facts_of, ids_of
from truepixel_dagster.orders.facts import Kept, Key, Node, merged
from truepixel_dagster.orders.journey import Rules, journey_of
from truepixel_dagster.orders.order import Order

# Changes that every store has are kept for a while: a running rebuild may look them up.
CHANGES_KEPT = 20

Row = tuple[str, str, str, int]
TouchesOf = Callable[[Event], Sequence[Touch]]


class Change(msgspec.Struct, frozen=True, omit_defaults=True):
    """Hold a record's change to the product counts. A `held` change waits for the record's dead letter."""

    partition: int
    offset: int
    rows: tuple[Row, ...]
    held: bool = False


class Cluster(msgspec.Struct, frozen=True, omit_defaults=True, dict=True):
    """Hold the document of a cluster.

    `ids` are its own, as in `event_facts.ids_of`; the ids of an absorbed cluster stay with that cluster. `users` are
    all users that its records name, as `shop:client`; `entries` is what its orders count for clients, `imported` what
    a document of the first edition had counted for one. `documents` are the ids of all attributions ever written for
    it, `days` the days on which its orders count.
    """

    shop_id: str
    ids: tuple[str, ...] = ()
    nodes: tuple[Node, ...] = ()
    counted: tuple[Row, ...] = ()
    changes: tuple[Change, ...] = ()
    users: tuple[str, ...] = ()
    entries: tuple[Entry, ...] = ()
    imported: tuple[Entry, ...] = ()
    days: tuple[str, ...] = ()
    documents: tuple[str, ...] = ()
    absorbed: tuple[str, ...] = ()
    merged_into: str | None = None
    schema: int = 1

    def orders(self, rules: Rules) -> list[Order]:
        """Return the orders of its facts; they are built once."""
        made: tuple[int, list[Order]] | None = self.__dict__.get("made")
        if made is None or made[0] != rules.clients_per_order:
            made = rules.clients_per_order, orders_of(self.shop_id, self.nodes, rules.clients_per_order)
            self.__dict__["made"] = made
        return made[1]


class Group(msgspec.Struct, frozen=True):
    """Hold records that share ids, and the clusters of these ids."""

    ids: tuple[str, ...]
    events: tuple[Event, ...]
    clusters: Mapping[str, Cluster]


def groups_of(events: Sequence[Event], clusters: Mapping[str, Cluster]) -> list[Group]:
    """Group events by the ids that they share, directly or through an existing cluster.

    Arguments:
        events: Events that name orders, in order.
        clusters: By document id, the clusters that have one of their ids, and those into which one of these was merged.
    """
    links = _Links()
    named = [(event, ids_of(event)) for event in events]
    for _, ids in named:
        links.join(ids)
    for id_, cluster in clusters.items():
        links.join((f"#{id_}", *cluster.ids, *([f"#{cluster.merged_into}"] if cluster.merged_into else [])))
    by_root: dict[str, tuple[dict[str, None], list[Event], dict[str, Cluster]]] = {}
    for event, ids in named:
        group = by_root.setdefault(links.root(ids[0]), ({}, [], {}))
        group[0].update(dict.fromkeys(ids))
        group[1].append(event)
    for id_, cluster in clusters.items():
        if (found := by_root.get(links.root(f"#{id_}"))) is not None:
            found[2][id_] = cluster
    return [Group(tuple(ids), tuple(mine), there) for ids, mine, there in by_root.values()]


class _Links:
    """Track which ids are connected."""

    def __init__(self) -> None:
        self._parent: dict[str, str] = {}

    def root(self, id_: str) -> str:
        """Return the representative of the ids that are connected with one id."""
        parent = self._parent.setdefault(id_, id_)
        while parent != id_:
            self._parent[id_] = self._parent[parent]
            id_, parent = parent, self._parent[parent]
        return id_

    def join(self, ids: Sequence[str]) -> None:
        """Connect ids."""
        for id_ in ids[1:]:
            self._parent[self.root(id_)] = self.root(ids[0])


class Settled(msgspec.Struct, frozen=True):
    """Hold the outcome for a group: the documents to write, by id, and the one that represents the group.

    If other clusters must be closed first, only these are written, and the group is settled afterwards.
    """

    root: str
    cluster: Cluster
    changed: Mapping[str, Cluster]
    is_done: bool


class Settling(msgspec.Struct, frozen=True):
    """Hold the data by which clusters are settled.

    `touches_of` gives the touches of an event's user up to its own offset, `noted_touches` those of the client in its
    note attributes. `day_of` returns the day function of a shop. `is_applied` returns whether every store has a
    record's change. `imported` gives what a document of the first edition says of an unknown group.
    """

    rules: Rules
    touches_of: TouchesOf
    noted_touches: TouchesOf
    day_of: Callable[[str], DayOf]
    is_applied: Callable[[int, int], bool]
    imported: Callable[[Group], Cluster | None] = lambda _group: None


def settle(group: Group, by: Settling) -> Settled:
    """Decide what happens to a group's clusters. Records that were settled before change nothing."""
    live = {id_: cluster for id_, cluster in group.clusters.items() if cluster.merged_into is None}
    root_id = min(live, default=None) or min(group.ids)
    others = {id_: cluster for id_, cluster in live.items() if id_ != root_id}
    before = live.get(root_id) or by.imported(group) or Cluster(group.events[0].shop_id)
    if others:
        closed = {id_: msgspec.structs.replace(each, merged_into=root_id) for id_, each in others.items()}
        return Settled(root_id, before, closed, is_done=False)
    after = _after(before, root_id, group, by)
    return Settled(root_id, after, {} if after == live.get(root_id) else {root_id: after}, is_done=True)


def _after(before: Cluster, root_id: str, group: Group, by: Settling) -> Cluster:
    # An absorbed cluster brings along the clusters that it absorbed itself.
    absorbed = {*before.absorbed, *(id_ for each in group.clusters.values() for id_ in each.absorbed)}
    new = {id_: each for id_, each in group.clusters.items() if id_ != root_id and id_ not in absorbed}
    unapplied = [event.origin for event in group.events if not by.is_applied(*_place(event))]
    if new and not unapplied:
        # No uncounted record could carry the changes from absorbing them. The worker that closed one will settle the
        # group again.
        return before
    known = {id_ for each in group.clusters.values() for id_ in each.ids}
    ids = tuple(sorted({*before.ids, *(id_ for id_ in group.ids if id_ not in known)}))
    nodes = {node.key: node for node in before.nodes}
    for each in new.values():
        _add(nodes, each.nodes, by.rules.kept)
    last: Origin | None = None
    for event in group.events:
        facts = facts_of(event, by.touches_of(event), by.noted_touches(event), by.rules.kept)
        if facts and _add(nodes, [facts], by.rules.kept):
            last = event.origin
    if last is None and not new and ids == before.ids and group.clusters:
        return before
    return _counted(
        msgspec.structs.replace(
            before,
            ids=ids,
            nodes=tuple(nodes[key] for key in sorted(nodes)),
            absorbed=tuple(sorted(absorbed.union(new))),
        ),
        new.values(),
        last or (unapplied or [group.events[-1].origin])[-1],
        by,
    )


def _place(event: Event) -> tuple[int, int]:
    return event.origin.partition, event.origin.offset


def _add(nodes: dict[Key, Node], more: Iterable[Node], kept: Kept) -> bool:
    """Merge nodes into others; return whether that changed anything."""
    changed = False
    for node in more:
        there = nodes.get(node.key)
        after = merged(there, node, kept) if there else node
        if after != there:
            nodes[node.key] = after
            changed = True
    return changed


def _counted(cluster: Cluster, taken_up: Iterable[Cluster], origin: Origin, by: Settling) -> Cluster:
    """Return the cluster with its orders' counts and the change that a record made to it."""
    taken_up = list(taken_up)
    before = total(from_rows(each.counted) for each in (cluster, *taken_up))
    orders = cluster.orders(by.rules)
    after = total(counted(order, by.day_of(order.shop_id), by.rules.products_per_event) for order in orders)
    if cluster.imported and not cluster.documents:
        # The first edition has counted what was sold.
        before = {key: amount for key, amount in after.items() if is_sold(key[2])}
    changes = [change for each in (cluster, *taken_up) for change in each.changes]
    if rows := as_rows(difference(after, before)):
        changes.append(Change(origin.partition, origin.offset, _rows(rows)))
    entries = (entry_of(order, journey_of(order, by.rules).client) for order in orders)
    documents = {order.document_id for order in orders}
    result = msgspec.structs.replace(
        cluster,
        counted=_rows(as_rows(after)),
        changes=_kept(changes, by),
        users=tuple(sorted({f"{cluster.shop_id}:{c.client}" for node in cluster.nodes for c in node.clients})),
        entries=tuple(entry for entry in entries if entry),
        days=tuple(sorted({day for _, day, _ in after} | {row[1] for change in changes for row in change.rows})),
        documents=tuple(sorted({*cluster.documents, *documents, *(id_ for e in taken_up for id_ in e.documents)})),
    )
    # Cache the orders: the same facts are used for the attributions next.
    result.__dict__["made"] = by.rules.clients_per_order, orders
    return result


def _rows(rows: Iterable[Sequence[str | int]]) -> tuple[Row, ...]:
    return msgspec.convert(list(rows), tuple[Row, ...])


def _kept(changes: Sequence[Change], by: Settling) -> tuple[Change, ...]:
    """Drop the oldest of many changes that every store has."""
    surplus = len(changes) - CHANGES_KEPT
    kept: list[Change] = []
    for change in changes:
        if surplus > 0 and not change.held and by.is_applied(change.partition, change.offset):
            surplus -= 1
        else:
            kept.append(change)
    return tuple(kept)


def changes_of(events: Iterable[Event], clusters: Iterable[Cluster]) -> dict[Origin, Counted]:
    """Return the known changes of records to the product counts, by origin.

    A record may have made several changes: its own, and one by absorbing a cluster.
    """
    wanted = {_place(event): event.origin for event in events}
    found: dict[Origin, Counted] = {}
    for cluster in clusters:
        for change in cluster.changes:
            if origin := wanted.get((change.partition, change.offset)):
                found[origin] = total([found.get(origin, {}), from_rows(change.rows)])
    return found


def is_known(least: Cluster, stored: Cluster, most: Cluster, by: Settling) -> bool:
    """Return whether a cluster contains everything in `least`, and nothing that is missing from `most`."""
    # Check both directions: where two disagree, such as on a touch as an older version read it, the first one is kept.
    knows_all = _says_more(stored, least, by) == stored.nodes == _says_more(least, stored, by)
    return knows_all and _says_more(most, stored, by) == most.nodes


def _says_more(one: Cluster, other: Cluster, by: Settling) -> tuple[Node, ...]:
    nodes = {node.key: node for node in one.nodes}
    _add(nodes, other.nodes, by.rules.kept)
    return tuple(nodes[key] for key in sorted(nodes))


def recounted(cluster: Cluster, by: Settling) -> Cluster:
    """Return a cluster with its facts counted by the current rules and days."""
    after = _counted(msgspec.structs.replace(cluster, counted=(), changes=()), (), Origin("", 0, 0), by)
    return msgspec.structs.replace(after, changes=cluster.changes, documents=after.documents)
