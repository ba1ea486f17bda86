"""Records of an order and of those that are linked to it, and a pipeline of three lanes that keeps all in memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import msgspec
from hypothesis import strategies as st

from tests.unit.stages.events_made_up import (
    MINUTE,
    NOON,
    ad,
    completed,
    deleted,
    event,
    in_checkout,
    linked,
    refund,
    refunded,
    usd,
    webhook,
)
from truepixel_dagster.events.event import Event, day_of, week_of
from truepixel_dagster.events.money import Money
from truepixel_dagster.events.order import RefundedLine, SoldLine
from truepixel_dagster.events.shop_time import ShopDays
from truepixel_dagster.orders.cluster import Cluster, Group, Settling, changes_of, groups_of, settle
from truepixel_dagster.orders.counts import Counted
from truepixel_dagster.orders.document import Attribution, attribution_of
from truepixel_dagster.orders.event_facts import ids_of
from truepixel_dagster.orders.journey import Rules
from truepixel_dagster.stages import ad_lead
from truepixel_dagster.stages.product_stats import Counting, decide
from truepixel_dagster.stages.settling import settling, with_visits
from truepixel_dagster.stream.micro_batch import group_by_user

RULES = Rules(window_days=30, half_life_days=7, touches_kept=50)
COUNTING = Counting(lambda seen: day_of(seen.occurred_at), lambda seen: week_of(seen.occurred_at))
PARTITIONS = 3
TIMES = st.sampled_from([NOON + n * MINUTE for n in (-2 * 24 * 60, -90, -10, 0, 3, 4, 60, 24 * 60, 48 * 60)])
SALES = st.tuples(
    st.sampled_from(["p", "q"]), st.integers(1, 3), st.integers(0, 900), st.integers(0, 50), st.sampled_from(["l", "m"])
)


def _lines(drawn: Sequence[tuple[str, int, int, int, str]], left: int | None) -> tuple[SoldLine, ...]:
    return tuple(SoldLine(p, n, usd(price), off, left, line) for p, n, price, off, line in drawn)


@st.composite
def _saying(draw: st.DrawFn) -> dict[str, Any]:
    """The fields of a payload."""
    says: dict[str, Any] = {"status": draw(st.sampled_from(["open", "paid", "cancelled", "voided"]))}
    says["total"] = draw(st.none() | st.integers(0, 3000).map(usd))
    says["current_total"] = draw(st.none() | st.integers(0, 3000).map(usd))
    says["was_paid"] = draw(st.booleans())
    says["test"] = draw(st.integers(0, 9)) == 0
    says["sales_channel"] = draw(st.sampled_from(["online", "online", "online", "pos"]))
    says["customer_orders"] = draw(st.sampled_from([None, 1, 4]))
    says["at"] = draw(st.none() | TIMES)
    if draw(st.booleans()):
        says["lines"] = _lines(draw(st.lists(SALES, max_size=2)), draw(st.none() | st.integers(0, 2)))
    if draw(st.integers(0, 3)) == 0:
        says["landing"] = ad("landing")
    says["names_landing"] = "landing" in says or draw(st.booleans())
    return says


@st.composite
def _event(draw: st.DrawFn, number: int) -> tuple[str, Event]:
    """An event and its user; its place comes later."""
    at, client = draw(TIMES), draw(st.sampled_from(["c", "d"]))
    token, order_id = draw(st.sampled_from([None, "a", "b"])), draw(st.sampled_from(["1", "2"]))
    cart = draw(st.sampled_from([None, None, "k"]))
    own: dict[str, Any] = {"at": at, "event_id": f"x{number:02d}", "client_id": client}
    kind = draw(
        st.sampled_from(["visit", "visit", "checkout", "completed", "order", "order", "refund", "link", "delete"])
    )
    if kind == "visit":
        return client, event(**own, ad=ad(f"{number}"))
    if kind == "checkout":
        return client, in_checkout(0, token=token or "a", order_id=draw(st.none() | st.just(order_id)), **own)
    if kind == "completed":
        named = draw(st.none() | st.just(order_id)) if token else order_id
        lines = _lines(draw(st.lists(SALES, max_size=2)), None)
        value = draw(st.none() | st.integers(0, 3000).map(usd))
        return client, completed(0, token=token, order_id=named, value=value, lines=lines, **own)
    if kind == "order":
        noted = draw(st.sampled_from([None, None, "c", "d"]))
        hook = own | {"client_id": token or order_id}
        return token or order_id, webhook(
            0, order_id=order_id, token=token, cart=cart, noted=noted, says=draw(_saying()), **hook
        )
    if kind == "refund":
        back = refund(
            draw(st.sampled_from(["r", "s"])),
            Money(draw(st.sampled_from([0, 100, 700])), "USD"),
            at=at,
            lines=(RefundedLine("p", draw(st.integers(1, 2)), usd(50), "l"),),
        )
        return order_id, refunded(0, back, order_id=order_id, event_id=own["event_id"])
    if kind == "link":
        return token or "a", linked(0, token=token or "a", cart=cart, at=at, event_id=own["event_id"])
    if draw(st.integers(0, 2)):
        return client, event(**own)
    return order_id, deleted(0, order_id=order_id, at=at, event_id=own["event_id"])


@st.composite
def families(draw: st.DrawFn) -> list[list[Event]]:
    """The records of three partitions, each in offset order; a user's are in one of them."""
    partitions: list[list[Event]] = [[] for _ in range(PARTITIONS)]
    for number in range(draw(st.integers(1, 10))):
        user, made = draw(_event(number))
        partition = sum(user.encode()) % PARTITIONS
        origin = msgspec.structs.replace(made.origin, partition=partition, offset=len(partitions[partition]))
        partitions[partition].append(msgspec.structs.replace(made, origin=origin))
    return partitions


class Crashed(Exception):
    """The process was killed."""


class World:
    """The contents of the stores, and stages 2, 3 and 5, which process batch by batch.

    A batch may be killed before any of its writes. Later batches then read its earlier writes.
    """

    def __init__(self, rules: Rules = RULES) -> None:
        self.rules = rules
        self.leads: dict[str, dict[str, Any]] = {}
        self.clusters: dict[str, Cluster] = {}
        self.attributions: dict[str, Attribution] = {}
        self.applied = dict.fromkeys(range(PARTITIONS), -1)
        self.totals: Counted = {}
        self._writes_left: int | None = None

    def deliver(self, events: Sequence[Event], writes: int | None = None) -> None:
        """Bring a batch through the stages; raises `Crashed` before the first write that is one too many."""
        self._writes_left = writes
        touched, by = self._touched(events)
        named = [seen for seen in touched if seen.order]
        settled = self._settled(named, by)
        for _, cluster in settled:
            self._attribute(cluster)
        changes = changes_of(named, [cluster for _, cluster in settled])
        added, _ = decide(events, changes, self.applied, COUNTING)
        self._write()
        self.applied.update(added.upto)
        for (_, product, day), fields in added.counters.items():
            for field, amount in fields.items():
                self.totals[product, day, field] = self.totals.get((product, day, field), 0) + amount

    def state(self) -> dict[str, Any]:
        """Everything that the contract names."""
        live = [cluster for cluster in self.clusters.values() if cluster.merged_into is None]
        sums: Counted = {}
        for cluster in live:
            for product, day, field, amount in cluster.counted:
                sums[product, day, field] = sums.get((product, day, field), 0) + amount
        return {
            "nodes": sorted((node for cluster in live for node in cluster.nodes), key=lambda node: node.key),
            "entries": sorted((entry for cluster in live for entry in cluster.entries), key=str),
            "users": sorted({user for cluster in live for user in cluster.users}),
            "counted": {key: amount for key, amount in sums.items() if amount},
            "totals": {key: amount for key, amount in self.totals.items() if amount},
            "attributions": dict(sorted(self.attributions.items())),
        }

    def _write(self) -> None:
        if self._writes_left is not None:
            self._writes_left -= 1
            if self._writes_left < 0:
                raise Crashed

    def _touched(self, events: Sequence[Event]) -> tuple[list[Event], Settling]:
        mine: dict[str, Sequence[Event]] = {
            user: own for user, own in group_by_user(events).items() if any(map(ad_lead.concerns, own))
        }
        noted = ad_lead.noted_orders(events)
        for user in noted:
            mine.setdefault(user, ())
        decided = ad_lead.decide(mine, self.leads, kept=50, repeat=0, noted=noted)
        self._write()
        self.leads.update(decided.changed)
        touches = {user: lead.all for user, lead in decided.leads.items()}
        orders = {user: lead.orders for user, lead in decided.leads.items()}
        by = settling(self.rules, touches, ShopDays(), lambda partition, offset: offset <= self.applied[partition])
        return with_visits(events, orders), by

    def _settled(self, named: Sequence[Event], by: Settling) -> list[tuple[Group, Cluster]]:
        while named:
            found: list[tuple[Group, Cluster]] = []
            is_done = True
            clusters = self._read(id_ for seen in named for id_ in ids_of(seen))
            for group in groups_of(named, clusters):
                settled = settle(group, by)
                is_done &= settled.is_done
                found.append((group, settled.cluster))
                for id_, cluster in settled.changed.items():
                    self._write()
                    # Other workers read and write documents, not objects.
                    self.clusters[id_] = msgspec.convert(msgspec.to_builtins(cluster), Cluster)
            if is_done:
                return found
        return []

    def _read(self, ids: Iterable[str]) -> Mapping[str, Cluster]:
        wanted = set(ids)
        found = {id_: cluster for id_, cluster in self.clusters.items() if wanted.intersection(cluster.ids)}
        while more := {c.merged_into for c in found.values() if c.merged_into} - found.keys():
            found |= {id_: self.clusters[id_] for id_ in more}
        return found

    def _attribute(self, cluster: Cluster) -> None:
        wanted = {order.document_id: attribution_of(order, self.rules) for order in cluster.orders(self.rules)}
        assert wanted.keys() <= set(cluster.documents)
        for id_ in cluster.documents:
            if id_ in wanted and self.attributions.get(id_) != wanted[id_]:
                self._write()
                self.attributions[id_] = wanted[id_]
            elif id_ not in wanted and id_ in self.attributions:
                self._write()
                del self.attributions[id_]


def delivered(partitions: Sequence[Sequence[Event]], data: st.DataObject, batches: int) -> World:
    """The world after all records, in any batches and lanes.

    Arguments:
        partitions: The records; those of a partition are processed in offset order.
        data: Draws the batches.
        batches: How many batches may be redelivered or killed, before the lanes process the rest.
    """
    world, committed = World(), [0] * PARTITIONS
    lanes = [number for number in range(PARTITIONS) if partitions[number]]
    for _ in range(data.draw(st.integers(0, batches))):
        lane = data.draw(st.sampled_from(lanes))
        start = data.draw(st.integers(0, min(committed[lane], len(partitions[lane]) - 1)))
        end = data.draw(st.integers(start + 1, len(partitions[lane])))
        with suppress(Crashed):
            world.deliver(partitions[lane][start:end], data.draw(st.none() | st.integers(0, 6)))
            committed[lane] = max(committed[lane], end)
    for lane in data.draw(st.permutations(lanes)):
        if left := partitions[lane][committed[lane] :]:
            world.deliver(left)
    return world


def whole(partitions: Sequence[Sequence[Event]]) -> World:
    """The world after all records at once."""
    world = World()
    world.deliver([seen for partition in partitions for seen in partition])
    return world
