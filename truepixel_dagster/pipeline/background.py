"""Run the stages of a micro-batch that need not end before the next one begins: customer and product_stats.

They run in a bounded pool that keeps each user on one worker, and the product statistics of all batches in order.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from truepixel_dagster.asset_keys import CUSTOMERS
from truepixel_dagster.events.event import Event
from truepixel_dagster.pipeline.batches import AttributedBatch, FetchedBatch
from truepixel_dagster.pipeline.commits import Commits
from truepixel_dagster.pipeline.invariants import Contiguity, Order
from truepixel_dagster.pipeline.keyed_pool import KeyedPool
from truepixel_dagster.pipeline.lane_guard import LaneGuard
from truepixel_dagster.pipeline.rejections import Rejections
from truepixel_dagster.pipeline.run_metrics import WAITING
from truepixel_dagster.resources import Stores
from truepixel_dagster.stages import customer, product_stats
from truepixel_dagster.stages.product_stats import Counting
from truepixel_dagster.stages.refused import without
from truepixel_dagster.stages.settling import StageRules
from truepixel_dagster.stages.stage import CUSTOMER, ORDERS, PRODUCT_STATS
from truepixel_dagster.stores.shops import Shops
from truepixel_dagster.stream.micro_batch import group_by_user


class BackgroundStages:
    """Run the background stages of one lane's micro-batches.

    Arguments:
        guard: Measures the stages, and stops them if the lane has failed or lost its lease.
        rules: The rules of the stages.
        stores: The stores that the stages write to.
        shops: Map times to the days of shops.
        pool: Runs the stages.
        commits: Record which parts have begun and landed.
        rejections: Write the dead letters.
        order: Checks that each user's events take effect in order.
        contiguity: Checks that no record is skipped.
    """

    def __init__(
        self,
        guard: LaneGuard,
        rules: StageRules,
        stores: Stores,
        shops: Shops,
        pool: KeyedPool,
        commits: Commits,
        rejections: Rejections,
        order: Order,
        contiguity: Contiguity,
    ) -> None:
        self._guard = guard
        self._rules = rules
        self._stores = stores
        self._shops = shops
        self._pool = pool
        self._commits = commits
        self._rejections = rejections
        self._order = order
        self._contiguity = contiguity

    def customer(self, done: AttributedBatch) -> None:
        """Run stage 4 in the background; each user always uses the same worker."""
        earlier = self._rejections.earlier(CUSTOMER, done.events)
        of_orders = self._rejections.earlier(ORDERS, done.events)
        if earlier or of_orders:
            with self._guard.stage(CUSTOMER):
                self._rejections.rejected(ORDERS, done.fetched, (), of_orders)
                self._rejections.rejected(CUSTOMER, done.fetched, (), earlier)
        shares: dict[int, dict[str, list[Event]]] = {}
        for user, mine in group_by_user(without(done.events, earlier)).items():
            shares.setdefault(self._pool.worker_of(user), {})[user] = mine
        # An order's client is often not the one in its webhook's key.
        for user in done.concerns:
            shares.setdefault(self._pool.worker_of(user), {}).setdefault(user, [])
        for share in shares.values():
            self._submit(CUSTOMER, done.fetched, next(iter(share)), partial(self._customer, done, share))

    def product_stats(self, done: AttributedBatch) -> None:
        """Run stage 5 in the background, batch after batch, because each one moves its partitions' applied offsets."""
        self._submit(PRODUCT_STATS, done.fetched, PRODUCT_STATS, partial(self._product_stats, done))

    def _customer(self, done: AttributedBatch, share: Mapping[str, Sequence[Event]]) -> None:
        own = {user: mine for user, mine in share.items() if mine}
        concerns = {user: done.concerns[user] for user in share if user in done.concerns}
        refused = customer.run(own, concerns, self._stores.mongodb)
        events = [event for mine in share.values() for event in mine]
        with self._guard.counting:
            self._guard.metrics.customers += len(share)
            self._guard.metrics.wrote(CUSTOMERS, events)
        self._order.took_effect(CUSTOMER, events)
        self._rejections.rejected(CUSTOMER, done.fetched, refused.own)
        self._rejections.rejected(ORDERS, done.fetched, refused.of_orders)
        self._contiguity.dealt_with((event.origin for event in events), (CUSTOMER,))

    def _product_stats(self, done: AttributedBatch) -> None:
        days = self._shops.days(event.shop_id for event in done.events)
        counting = Counting(days.day, days.week, self._rules.attribution.products_per_event)
        counted = product_stats.run(done.events, done.changes, self._stores.redis, counting)
        self._contiguity.dealt_with((event.origin for event in done.events), (PRODUCT_STATS,))
        with self._guard.counting:
            self._guard.metrics.counted += counted

    def _submit(self, name: str, fetched: FetchedBatch, key: str, task: Callable[[], None]) -> None:
        def run() -> None:
            self._guard.lease.check()
            started = time.perf_counter()
            task()
            with self._guard.counting:
                self._guard.metrics.stage_seconds[name] += time.perf_counter() - started
            self._commits.landed(fetched.batch)

        with self._guard.stage(name + WAITING):
            self._commits.begun(fetched.batch)
            self._pool.submit(key, run)
