"""Pass the micro-batches of a lane through the five stages, whether Dagster's ops or a plain loop calls them.

Fetch, index, ad_lead and attribution run one after the other. Customer and product_stats run in the background, in
parallel with the next micro-batch, in a bounded pool that keeps each user on one worker. The offsets of a micro-batch
are committed when all of it has landed. The first failure, wherever it happens, stops the lane: it fetches, writes and
commits nothing more.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from truepixel_dagster.asset_keys import AD_LEADS, ATTRIBUTIONS, EVENTS
from truepixel_dagster.dead_letters.refusals import Refusals
from truepixel_dagster.dead_letters.topic import DeadLetters
from truepixel_dagster.events.decode import Undecodable
from truepixel_dagster.events.event import Event
from truepixel_dagster.events.origin import offset_text
from truepixel_dagster.orders.cluster import Settling
from truepixel_dagster.pipeline.background import BackgroundStages
from truepixel_dagster.pipeline.batches import AttributedBatch, FetchedBatch, IndexedBatch, Prefetched, TouchedBatch
from truepixel_dagster.pipeline.commits import Commits
from truepixel_dagster.pipeline.intake import Intake
from truepixel_dagster.pipeline.invariants import Contiguity, Order
from truepixel_dagster.pipeline.keyed_pool import KeyedPool
from truepixel_dagster.pipeline.lane_guard import LaneGuard
from truepixel_dagster.pipeline.processing import Processing
from truepixel_dagster.pipeline.rejections import Rejections
from truepixel_dagster.pipeline.run_metrics import RunMetrics
from truepixel_dagster.resources import Stores
from truepixel_dagster.source_log import LogWatch, keep_lost, keep_reached
from truepixel_dagster.stages import ad_lead, attribution, index
from truepixel_dagster.stages.index import Indexed
from truepixel_dagster.stages.refused import Refused, without
from truepixel_dagster.stages.settling import settling, with_visits
from truepixel_dagster.stages.stage import AD_LEAD, ATTRIBUTION, INDEX
from truepixel_dagster.stores.elasticsearch import ElasticsearchStore
from truepixel_dagster.stores.redis.leases import Lease
from truepixel_dagster.stores.shops import Shops
from truepixel_dagster.stream.commit_notes import Span
from truepixel_dagster.stream.consumer import EventConsumer
from truepixel_dagster.stream.micro_batch import MicroBatch, group_by_user


class LaneRunner:
    """Process micro-batches of one lane. Each method is one op; call them in the order of the stages.

    Arguments:
        processing: The rules and bounds of its work.
        stores: The stores that the stages write to.
        consumer: Reads the lane's partitions.
        dead_letters: The topic of dead letters.
        lease: The lane's lease.
        refusals: The lane's earlier rejections.
        watch: Detects that the topic is another log, or has more partitions.
    """

    def __init__(
        self,
        processing: Processing,
        stores: Stores,
        consumer: EventConsumer,
        dead_letters: DeadLetters,
        lease: Lease,
        refusals: Refusals,
        watch: LogWatch,
    ) -> None:
        self.metrics = RunMetrics()
        self._stores = stores
        self._consumer = consumer
        self._dead_letters = dead_letters
        self._lease = lease
        self._watch = watch
        self._shops = Shops(stores.mongodb)
        self._rules = processing.rules
        self._over = False
        self._guard = LaneGuard(lease, self.metrics)
        # The micro-batches in flight: one fetched, one in the pool, the pending ones, and one as a margin.
        under_way = processing.pool_pending + 3
        self._order = Order(self.metrics.order, users=under_way * processing.batch_messages)
        self._contiguity = Contiguity(self.metrics.contiguity)
        self._pool = KeyedPool(processing.pool_workers, processing.pool_pending)
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="read-ahead")
        self._intake = Intake(processing.sites, stores, refusals, self._shops)
        self._commits = Commits(consumer, dead_letters, refusals, lease, self.metrics, self._contiguity)
        self._rejections = Rejections(
            processing.dead_letter_share,
            stores,
            lease,
            refusals,
            dead_letters,
            self.metrics,
            self._guard.counting,
            self._contiguity,
        )
        self._background = BackgroundStages(
            self._guard,
            self._rules,
            stores,
            self._shops,
            self._pool,
            self._commits,
            self._rejections,
            self._order,
            self._contiguity,
        )

    def warnings(self) -> list[str]:
        """Return warnings for the operator: records that are read again, or were removed before they were read."""
        again = [
            f"the group's offset of partition {each.partition} was set back or deleted: records from offset"
            f" {offset_text(each.first)} to {offset_text(each.last)} are read again, which changes nothing"
            for each in self._consumer.redelivers().values()
        ]
        lost = [
            f"retention removed {count} messages of partition {partition} before they were read"
            for partition, count in self._consumer.taken_by_retention.items()
        ]
        return again + lost

    @property
    def failure(self) -> BaseException | None:
        """Return the error that stopped the lane; None while nothing has failed."""
        return self._guard.failure

    @property
    def unreported(self) -> Mapping[int, Sequence[Span]]:
        """Return the ranges that earlier runs committed and may not have reported to Dagster, by partition."""
        return self._commits.unreported

    def reported(self, *run_ids: str) -> None:
        """Note that Dagster shows the commits of earlier runs."""
        self._commits.reported(*run_ids)

    @property
    def elasticsearch(self) -> ElasticsearchStore:
        """Return the store of the event history."""
        return self._stores.elasticsearch

    def fetch(self) -> FetchedBatch | None:
        """Return the next micro-batch with its events; None when the lane was idle (and handed over) or was stopped."""
        if self._over or self.failure is not None:
            return None
        with self._guard.stage("fetch"):
            # Lanes divide partitions by number: a new partition may belong to another lane after this run.
            batch = None if self._watch.has_grown else self._consumer.fetch()
            self.keep_lost()
            if batch is None:
                self._hand_over()
                return None
            # The fetched messages may be from another log: check that before using them.
            self._watch.check()
            return self._taken(batch)

    def _taken(self, batch: MicroBatch) -> FetchedBatch:
        fetched_at = time.perf_counter()
        self.metrics.received = self.metrics.received or time.time()
        messages, decoded, redacted = self._intake.take(batch)
        self.metrics.redacted += redacted
        self.metrics.fetched(batch)
        self._contiguity.fetched(batch.messages)
        if len(messages) < len(batch.messages):
            shown = {message.origin for message in messages}
            # Redacted records need no further work.
            self._contiguity.dealt_with(each.origin for each in batch.messages if each.origin not in shown)
        self._commits.opened(batch)
        self._rejections.unreadable(batch, [item for item in decoded if isinstance(item, Undecodable)])
        events = tuple(item for item in decoded if isinstance(item, Event))
        self._shops.learn(events)
        return FetchedBatch(batch, messages, events, fetched_at)

    def keep_lost(self) -> None:
        """Store and count the records that retention removed before they were read; call it before any later commit."""
        found = self._consumer.lost()
        if found:
            keep_lost(self._stores.mongodb, found)
            self.metrics.lost_to_retention(found)

    def index(self, fetched: FetchedBatch) -> IndexedBatch:
        """Run stage 1; return the events that continue."""
        with self._guard.stage(INDEX):
            # Read in parallel with Elasticsearch's work. Versions reveal a concurrent change.
            stored = self._reader.submit(self._read_ahead, fetched.events)
            earlier = self._rejections.earlier(INDEX, fetched.events)
            indexed = index.run(without(fetched.events, earlier), self._stores.elasticsearch)
            self.metrics.indexed += len(indexed.events) - indexed.redelivered
            self.metrics.redelivered += indexed.redelivered
            self.metrics.duplicates += indexed.duplicates
            self.metrics.wrote(EVENTS, indexed.events)
            self._rejections.rejected(INDEX, fetched, indexed.refused, earlier)
            if indexed.duplicates:
                self._stopped_at_index(fetched, indexed, earlier)
            return IndexedBatch(fetched, indexed.events, stored)

    def ad_lead(self, indexed: IndexedBatch) -> TouchedBatch:
        """Run stage 2; it is complete before stage 3 begins."""
        with self._guard.stage(AD_LEAD):
            repeat, kept = self._rules.touch_repeat, self._rules.attribution.touches_kept
            earlier = self._rejections.earlier(AD_LEAD, indexed.events)
            users = group_by_user(without(indexed.events, earlier))
            stored = indexed.prefetched.result()
            leads = ad_lead.run(users, self._stores.mongodb, kept=kept, repeat=repeat, stored=stored.leads)
            self.metrics.touched += leads.added
            refused = self._rejections.not_counted_yet(leads.refused)
            self._rejections.rejected(AD_LEAD, indexed.fetched, refused, earlier)
            events = without(indexed.events, (*refused, *earlier))
            self.metrics.wrote(AD_LEADS, (event for event in events if event.ad))
            return TouchedBatch(indexed.fetched, events, leads, stored)

    def attribution(self, touched: TouchedBatch) -> AttributedBatch:
        """Run stage 3."""
        with self._guard.stage(ATTRIBUTION):
            earlier = self._rejections.earlier(ATTRIBUTION, touched.events)
            events = without(touched.events, earlier)
            stores, stored = self._stores, touched.prefetched.orders
            events_and_visits = with_visits(events, touched.leads.orders)
            rules = self._settling(touched)
            found = attribution.run(events_and_visits, rules, stores.mongodb, stores.elasticsearch, stored)
            self.metrics.latencies.append(1000 * (time.perf_counter() - touched.fetched.fetched_at))
            self.metrics.freshness.append(1000 * time.time() - touched.fetched.batch.oldest)
            self.metrics.orders += found.made
            self.metrics.statuses += found.changed
            refused = self._rejections.not_counted_yet(found.refused)
            self._rejections.rejected(ATTRIBUTION, touched.fetched, refused, earlier)
            events = without(events, refused)
            self.metrics.wrote(ATTRIBUTIONS, (event for event in events if event.order))
            self._order.took_effect(ATTRIBUTION, events)
            return AttributedBatch(touched.fetched, events, found.changes, found.users)

    def _settling(self, touched: TouchedBatch) -> Settling:
        """Return the data with which this batch's orders are settled."""
        redis = self._stores.redis
        # The applied offsets of the batch's own partitions must be known: read them once for each.
        applied = redis.known_applied() | redis.applied(sorted({event.origin.partition for event in touched.events}))
        days = self._shops.days(event.shop_id for event in touched.events)
        return settling(
            self._rules.attribution, touched.leads.touches, days, lambda p, offset: offset <= applied.get(p, -1)
        )

    def customer(self, done: AttributedBatch) -> None:
        """Run stage 4 in the background; each user always uses the same worker."""
        self._background.customer(done)

    def product_stats(self, done: AttributedBatch) -> None:
        """Run stage 5 in the background, batch after batch, because each one moves its partitions' applied offsets."""
        self._background.product_stats(done)

    def commit(self, fetched: FetchedBatch) -> None:
        """Declare that this micro-batch has no more work, and commit contiguously what has landed."""
        with self._guard.stage("commit"):
            self._commits.request(fetched.batch)

    def finish(self) -> RunMetrics:
        """Wait for the background stages, commit what has landed, and hand the lane over to the next run."""
        if not self._over:
            with self._guard.stage("finish"):
                self._hand_over()
        return self.metrics

    def close(self) -> None:
        """Stop the threads and close the connections; what has not landed stays uncommitted."""
        self._pool.close()
        self._commits.close()
        self._reader.shutdown(cancel_futures=True)
        self._lease.release()
        self._consumer.close()
        self._dead_letters.close()

    def _hand_over(self) -> None:
        """Hand over the lane. This run writes nothing more, so the next one need not wait for Dagster to end it."""
        self._pool.drain()
        self._commits.drain()
        self._commits.commit()
        self._commits.over_gaps()
        keep_reached(self._stores.mongodb, self._consumer.committed)
        # This run may still be killed before it has reported to Dagster, but until then other runs need not report.
        self._commits.handed_over()
        self.metrics.waiting = sum(self._consumer.lag().values())
        self._lease.release()
        self.metrics.ended = time.time()
        self._over = True

    def _read_ahead(self, events: Sequence[Event]) -> Prefetched:
        orders = attribution.read(events, self._stores.mongodb, self._stores.elasticsearch)
        return Prefetched(ad_lead.read(events, self._stores.mongodb), orders)

    def _stopped_at_index(self, fetched: FetchedBatch, indexed: Indexed, earlier: Sequence[Refused]) -> None:
        others = (*indexed.events, *(item.event for item in (*indexed.refused, *earlier)))
        stopped = {event.origin for event in fetched.events} - {event.origin for event in others}
        # If stage 1 has lost an event, that event is not a duplicate, so it is not done.
        if len(stopped) == indexed.duplicates:
            self._contiguity.dealt_with(stopped)
