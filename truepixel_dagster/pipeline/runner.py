"""One run of a lane: micro-batches through the five stages, the same whether Dagster's ops or a bare loop calls them.

Fetch, index, ad_lead and attribution follow one after the other; customer and product_stats run in the background, in a
bounded pool where a user is always on the same worker, beside the next micro-batch; the offsets are committed when all
of it has landed.
The first failure, wherever it happens, stops the lane: nothing is fetched, written or committed after it.

What was refused once stays refused until its dead letter comes back, also when the batch runs again
(`dead_letters/refusals.py`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

from truepixel_dagster.asset_keys import AD_LEADS, ATTRIBUTIONS, CUSTOMERS, EVENTS
from truepixel_dagster.dead_letters import policy
from truepixel_dagster.dead_letters.refusals import Buried
from truepixel_dagster.dead_letters.topic import DeadLetters
from truepixel_dagster.events.decode import Undecodable, decode
from truepixel_dagster.events.event import Event, Message
from truepixel_dagster.events.identifiers import shop_and_client
from truepixel_dagster.events.origin import Origin, offset_text
from truepixel_dagster.events.privacy_request import PrivacyRequest, is_privacy_request, requested, stripped
from truepixel_dagster.events.shop_time import ShopDays
from truepixel_dagster.events.sites import Sites
from truepixel_dagster.orders.cluster import Settling
from truepixel_dagster.orders.counts import Counted
from truepixel_dagster.pipeline.invariants import LAST_STAGES, Contiguity, Order
from truepixel_dagster.pipeline.keyed_pool import KeyedPool
from truepixel_dagster.pipeline.ledger import Ledger
from truepixel_dagster.pipeline.run_metrics import Tally
from truepixel_dagster.resources import Stores, sites_of
from truepixel_dagster.settings import Settings
from truepixel_dagster.source_log import LogWatch, keep_lost, keep_reached
from truepixel_dagster.stages import ad_lead, attribution, customer, index, product_stats
from truepixel_dagster.stages.index import Indexed
from truepixel_dagster.stages.product_stats import Counting
from truepixel_dagster.stages.refused import Refused
from truepixel_dagster.stages.settling import rules_of, settling, with_visits
from truepixel_dagster.stores import mongodb, privacy_requests
from truepixel_dagster.stores.elasticsearch import ElasticsearchStore
from truepixel_dagster.stores.leases import Lease
from truepixel_dagster.stores.redactions import Redactions
from truepixel_dagster.stores.shops import Shops
from truepixel_dagster.stream.commit_notes import UNKNOWN, Span, read_note, write_note
from truepixel_dagster.stream.consumer import EventConsumer
from truepixel_dagster.stream.micro_batch import MicroBatch, group_by_user


class LaneStopped(Exception):
    """An earlier failure stopped the lane."""


class TooManyDeadLetters(Exception):
    """Most clients of a batch would have dead letters: an outage or a bad deploy, not poison."""


class Slot(NamedTuple):
    """A micro-batch on its way: as received, its messages as they may be read, and the events that they mean."""

    batch: MicroBatch
    messages: tuple[Message, ...]
    events: tuple[Event, ...]
    fetched_at: float


class Stored(NamedTuple):
    """What the stores hold of a micro-batch's users and orders before its stages 2 and 3."""

    leads: Mapping[str, dict[str, Any]]
    orders: attribution.Prefetched


class Known(NamedTuple):
    """After stage 1: the events that run on, and what is being read for the next stages."""

    slot: Slot
    events: tuple[Event, ...]
    stored: Future[Stored]


class Led(NamedTuple):
    """After stage 2."""

    slot: Slot
    events: tuple[Event, ...]
    leads: ad_lead.Leads
    stored: Stored


class Sorted(NamedTuple):
    """After stage 3: the events that run on, what they change in product statistics, and whose orders they concern."""

    slot: Slot
    events: tuple[Event, ...]
    changes: Mapping[Origin, Counted]
    concerns: Mapping[str, attribution.Concern]


class LaneRun:
    """Drives micro-batches of one lane. Each method is one op; call them in the order of the stages."""

    def __init__(
        self,
        settings: Settings,
        stores: Stores,
        consumer: EventConsumer,
        dead_letters: DeadLetters,
        lease: Lease,
        buried: Buried,
        watch: LogWatch,
    ) -> None:
        self.tally = Tally()
        self.failure: BaseException | None = None
        self._settings = settings
        self._stores = stores
        self._consumer = consumer
        self._dead_letters = dead_letters
        self._lease = lease
        self._buried = buried
        self._watch = watch
        self._sites = sites_of(settings)
        self._redactions = Redactions(stores.mongodb, self._sites)
        self._shops = Shops(stores.mongodb)
        self._ledger = Ledger()
        # One in hand, one at work in the pool, those that wait for it, and one for good measure.
        under_way = settings.pool_pending + 3
        self._order = Order(self.tally.order, users=under_way * settings.batch_messages)
        self._contiguity = Contiguity(self.tally.contiguity)
        self._pool = KeyedPool(settings.pool_workers, settings.pool_pending)
        self._commits = KeyedPool(workers=1, pending=1)
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="read-ahead")
        self._to_commit = False
        #: What runs before this one committed and Dagster may not have been told, by partition.
        self.unreported = {p: spans for p, note in consumer.notes.items() if (spans := read_note(note))}
        # Where the group's offsets were deleted, their notes were, too.
        self.unreported |= {p: (UNKNOWN,) for p in consumer.redelivers() if p not in consumer.notes}
        self._over = False
        self._lock = threading.Lock()
        self._burying = threading.Lock()
        self._unlanded: dict[int, int] = {}
        self._committed: dict[int, int] = {}
        self._rules = rules_of(settings)

    def warnings(self) -> list[str]:
        """What an operator should know of the lane: records that are read again, or were gone before they were read."""
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
    def elasticsearch(self) -> ElasticsearchStore:
        """Where the event history is."""
        return self._stores.elasticsearch

    def reported(self, *run_ids: str) -> None:
        """Dagster knows what runs before this one committed: the notes beside the offsets need not name them."""
        kept = {p: tuple(span for span in spans if span.run not in run_ids) for p, spans in self.unreported.items()}
        self.unreported = kept
        # At once and for all partitions: a run that commits to some of them and dies would leave a part to be reported.
        self._consumer.annotate(self._notes({}), guard=self._lease.confirm)

    def fetch(self) -> Slot | None:
        """The next micro-batch with its events; None when the lane was idle, and so was handed over, or was stopped."""
        if self._over or self.failure is not None:
            return None
        with self._stage("fetch"):
            # Lanes share partitions out by their number: one more is some lane's after this run.
            batch = None if self._watch.has_grown else self._consumer.fetch()
            self.keep_lost()
            if batch is None:
                self._hand_over()
                return None
            # What was fetched may be of another log: nothing is made of it before that has been looked at.
            self._watch.check()
            return self._slot(batch)

    def _slot(self, batch: MicroBatch) -> Slot:
        fetched_at = time.perf_counter()
        self.tally.received = self.tally.received or time.time()
        messages, decoded = self._read(batch)
        self.tally.fetched(batch)
        self._contiguity.fetched(batch.messages)
        if len(messages) < len(batch.messages):
            shown = {message.origin for message in messages}
            # What may not be read any more is done with.
            self._contiguity.dealt_with(each.origin for each in batch.messages if each.origin not in shown)
        with self._lock:
            self._ledger.opened(batch.ranges)
            self._unlanded[id(batch)] = 1
        self._bury_unreadable(batch, [item for item in decoded if isinstance(item, Undecodable)])
        events = tuple(item for item in decoded if isinstance(item, Event))
        self._shops.learn(events)
        return Slot(batch, messages, events, fetched_at)

    def keep_lost(self) -> None:
        """Keep and count what retention removed before it was read; before anything beyond it is committed."""
        found = self._consumer.lost()
        if found:
            keep_lost(self._stores.mongodb, found)
            self.tally.lost_to_retention(found)

    def index(self, slot: Slot) -> Known:
        """Stage 1; the events that run on."""
        with self._stage("index"):
            # Beside Elasticsearch's work. Who changes any of it meanwhile is noticed by its version.
            stored = self._reader.submit(self._read_ahead, slot.events)
            stuck = self._buried.among("index", slot.events)
            indexed = index.run(_without(slot.events, stuck), self._stores.elasticsearch)
            self.tally.indexed += len(indexed.events) - indexed.replays
            self.tally.replays += indexed.replays
            self.tally.duplicates += indexed.duplicates
            self.tally.wrote(EVENTS, indexed.events)
            self._bury_refused("index", slot, indexed.refused, stuck)
            if indexed.duplicates:
                self._stopped_at_index(slot, indexed, stuck)
            return Known(slot, indexed.events, stored)

    def ad_lead(self, known: Known) -> Led:
        """Stage 2; complete before stage 3 begins."""
        with self._stage("ad_lead"):
            repeat = int(self._settings.touch_repeat * 1000)
            kept = self._settings.touches_kept
            stuck = self._buried.among("ad_lead", known.events)
            users = group_by_user(_without(known.events, stuck))
            stored = known.stored.result()
            leads = ad_lead.run(users, self._stores.mongodb, kept=kept, repeat=repeat, stored=stored.leads)
            self.tally.touched += leads.added
            refused = self._not_through(leads.refused)
            self._bury_refused("ad_lead", known.slot, refused, stuck)
            events = _without(known.events, (*refused, *stuck))
            self.tally.wrote(AD_LEADS, (event for event in events if event.ad))
            return Led(known.slot, events, leads, stored)

    def attribution(self, led: Led) -> Sorted:
        """Stage 3."""
        with self._stage("attribution"):
            stuck = self._buried.among("attribution", led.events)
            events = _without(led.events, stuck)
            stores, stored = self._stores, led.stored.orders
            told = with_visits(events, led.leads.orders)
            found = attribution.run(told, self._settling(led), stores.mongodb, stores.elasticsearch, stored)
            self.tally.latencies.append(1000 * (time.perf_counter() - led.slot.fetched_at))
            self.tally.freshness.append(1000 * time.time() - led.slot.batch.oldest)
            self.tally.orders += found.made
            self.tally.statuses += found.changed
            refused = self._not_through(found.refused)
            self._bury_refused("attribution", led.slot, refused, stuck)
            events = _without(events, refused)
            self.tally.wrote(ATTRIBUTIONS, (event for event in events if event.order))
            self._order.took_effect("attribution", events)
            return Sorted(led.slot, events, found.changes, found.users)

    def _settling(self, led: Led) -> Settling:
        """By what this batch's orders are settled."""
        redis = self._stores.redis
        # Of the batch's own partitions it must be known what is applied: read once for each.
        applied = redis.known_applied() | redis.applied(sorted({event.origin.partition for event in led.events}))
        days = self._days_of(led.events)
        return settling(self._rules, led.leads.touches, days, lambda p, offset: offset <= applied.get(p, -1))

    def _days_of(self, events: Sequence[Event]) -> ShopDays:
        """What tells the days of the shops of events."""
        return self._shops.days(event.shop_id for event in events)

    def customer(self, done: Sorted) -> None:
        """Stage 4, in the background; a user is always on the same worker."""
        stuck = self._buried.among("customer", done.events)
        of_orders = self._buried.among("orders", done.events)
        if stuck or of_orders:
            with self._stage("customer"):
                self._bury_refused("orders", done.slot, (), of_orders)
                self._bury_refused("customer", done.slot, (), stuck)
        shares: dict[int, dict[str, list[Event]]] = {}
        for user, mine in group_by_user(_without(done.events, stuck)).items():
            shares.setdefault(self._pool.worker_of(user), {})[user] = mine
        # An order's client is often another than who its webhook is keyed by.
        for user in done.concerns:
            shares.setdefault(self._pool.worker_of(user), {}).setdefault(user, [])
        for share in shares.values():
            self._background("customer", done.slot, next(iter(share)), partial(self._customer, done, share))

    def product_stats(self, done: Sorted) -> None:
        """Stage 5, in the background; batch after batch, because each moves its partitions' applied offsets."""
        self._background("product_stats", done.slot, "product_stats", partial(self._product_stats, done))

    def commit(self, slot: Slot) -> None:
        """Say that nothing more will come of this micro-batch, and have what has landed without a gap committed."""
        with self._stage("commit"):
            self._landed(slot.batch)
            self._commits.raise_failure()
            with self._lock:
                # One that has not begun commits this as well: the first waits for its coordinator, the stages do not.
                waits, self._to_commit = self._to_commit, True
            if not waits:
                self._commits.submit("", self._commit)

    def finish(self) -> Tally:
        """Wait for the background stages, commit what they landed, and let the next run have the lane."""
        if not self._over:
            with self._stage("finish"):
                self._hand_over()
        return self.tally

    def close(self) -> None:
        """End the threads and connections; what has not landed stays uncommitted."""
        self._pool.close()
        self._commits.close()
        self._reader.shutdown(cancel_futures=True)
        self._lease.release()
        self._consumer.close()
        self._dead_letters.close()

    def _hand_over(self) -> None:
        """Nothing is written after this: who waits for the lane need not wait for Dagster's end of this run."""
        self._pool.drain()
        self._commits.drain()
        self._commit()
        self._commit_over_gaps()
        keep_reached(self._stores.mongodb, self._consumer.committed)
        # This run may still be killed before it has told Dagster, but it can tell: nobody else may by then.
        notes = self._notes(self._committed, handed_over=True)
        self._consumer.annotate(notes, guard=self._lease.confirm)
        self.tally.waiting = sum(self._consumer.lag().values())
        self._lease.release()
        self.tally.ended = time.time()
        self._over = True

    def _read_ahead(self, events: Sequence[Event]) -> Stored:
        orders = attribution.read(events, self._stores.mongodb, self._stores.elasticsearch)
        return Stored(ad_lead.read(events, self._stores.mongodb), orders)

    def _customer(self, done: Sorted, share: Mapping[str, Sequence[Event]]) -> None:
        own = {user: mine for user, mine in share.items() if mine}
        concerns = {user: done.concerns[user] for user in share if user in done.concerns}
        refused = customer.run(own, concerns, self._stores.mongodb)
        events = [event for mine in share.values() for event in mine]
        with self._lock:
            self.tally.customers += len(share)
            self.tally.wrote(CUSTOMERS, events)
        self._order.took_effect("customer", events)
        self._bury_refused("customer", done.slot, refused.own)
        self._bury_refused("orders", done.slot, refused.of_orders)
        self._contiguity.dealt_with((event.origin for event in events), ("customer",))

    def _product_stats(self, done: Sorted) -> None:
        days = self._days_of(done.events)
        counting = Counting(days.day, days.week, self._settings.products_per_event)
        counted = product_stats.run(done.events, done.changes, self._stores.redis, counting)
        self._contiguity.dealt_with((event.origin for event in done.events), ("product_stats",))
        with self._lock:
            self.tally.counted += counted

    def _background(self, name: str, slot: Slot, key: str, task: Callable[[], None]) -> None:
        def run() -> None:
            self._lease.check()
            started = time.perf_counter()
            task()
            with self._lock:
                self.tally.stage_seconds[name] += time.perf_counter() - started
            self._landed(slot.batch)

        with self._stage(f"{name} (waiting)"):
            with self._lock:
                self._unlanded[id(slot.batch)] += 1
            self._pool.submit(key, run)

    def _landed(self, batch: MicroBatch) -> None:
        """Count one of the batch's parts as done; with the last one its offsets may be committed."""
        with self._lock:
            self._unlanded[id(batch)] -= 1
            if self._unlanded[id(batch)] == 0:
                del self._unlanded[id(batch)]
                self._ledger.landed(batch.ranges)

    def _commit(self) -> None:
        with self._lock:
            self._to_commit = False
            offsets = self._ledger.committable()
        if offsets:
            # What landed has its letters sent: they are acknowledged before its offsets are.
            self._dead_letters.flush()
            self._contiguity.committing(offsets)
            self._committed.update(offsets)
            self._consumer.commit(offsets, guard=self._lease.confirm, notes=self._notes(offsets))
            self.tally.committed = time.time()
            with self._lock:
                self._ledger.committed(offsets)
            self._buried.forget(offsets)

    def _commit_over_gaps(self) -> None:
        """Commit the offsets at a partition's end that hold no record: nothing that lands ever would."""
        offsets = self._consumer.without_record()
        # Where something has not landed, the ledger would say how far.
        if offsets and not self._ledger.pending:
            self._contiguity.without_record(offsets)
            self._contiguity.committing(offsets)
            self._consumer.commit(offsets, guard=self._lease.confirm)

    def _notes(self, offsets: Mapping[int, int], *, handed_over: bool = False) -> dict[int, str]:
        """What stands beside committed offsets: which runs Dagster may not have been told of, this one the last."""
        spans = {p: list(self.unreported.get(p, ())) for p in {*self._consumer.notes, *offsets}}
        for partition, end in offsets.items():
            first = self.tally.ranges[partition].first
            spans[partition].append(Span(self._lease.owner, first, end, handed_over))
        return {partition: write_note(own) for partition, own in spans.items()}

    def _read(self, batch: MicroBatch) -> tuple[tuple[Message, ...], list[Event | Undecodable]]:
        """The batch's messages as they may be read, and what they mean."""
        asking = [message for message in batch.messages if is_privacy_request(message)]
        refused = self._keep_requests(asking) if asking else {}
        received = [stripped(message) for message in batch.messages] if asking else batch.messages
        messages = self._readable(received)
        sites = self._sites.with_shops(self._shops.read({shop_and_client(message)[0] for message in messages}))
        return messages, [self._decode(message, refused, sites) for message in messages]

    def _keep_requests(self, webhooks: Sequence[Message]) -> dict[Origin, str]:
        """Keep what webhooks about personal data ask for; why those that ask for nothing are refused."""
        asked: dict[str, PrivacyRequest] = {}
        refused: dict[Origin, str] = {}
        for message in webhooks:
            try:
                asked[str(message.origin)] = requested(message)
            except ValueError as error:
                refused[message.origin] = str(error)
        privacy_requests.keep(self._stores.mongodb, asked)
        return refused

    def _readable(self, received: Sequence[Message]) -> tuple[Message, ...]:
        """Messages without what is to be forgotten."""
        views = self._redactions.views(received)
        self.tally.redacted += sum(view is not message for view, message in zip(views, received))
        return tuple(view for view in views if view)

    def _decode(self, message: Message, refused: Mapping[Origin, str], sites: Sites) -> Event | Undecodable:
        stuck = self._buried.reason("decode", message.origin) or refused.get(message.origin)
        return decode(message, sites) if stuck is None else Undecodable(message, stuck)

    def _bury_unreadable(self, batch: MicroBatch, unreadable: Sequence[Undecodable]) -> None:
        if not unreadable:
            return
        new = [item for item in unreadable if self._buried.reason("decode", item.message.origin) is None]
        self._check_clients(batch.messages, {item.message.origin: item.reason for item in new})
        self._bury("decode", [(item.message, item.reason) for item in unreadable])

    def _bury_refused(self, stage: str, slot: Slot, refused: Sequence[Refused], stuck: Sequence[Refused] = ()) -> None:
        """Make dead letters of what is refused now and of what was before."""
        if not refused and not stuck:
            return
        self._check_clients(slot.batch.messages, {item.event.origin: item.reason for item in refused})
        by_origin = {message.origin: message for message in slot.messages}
        # The newest letter of a record counts, and one of stage customer brings back what one of orders would.
        with self._burying:
            kept = [item for item in refused if not self._stays_with_customer(stage, item.event.origin)]
            self._bury(stage, [(by_origin[item.event.origin], item.reason) for item in (*kept, *stuck)])

    def _stays_with_customer(self, stage: str, origin: Origin) -> bool:
        return stage == "orders" and self._buried.reason("customer", origin) is not None

    def _stopped_at_index(self, slot: Slot, indexed: Indexed, stuck: Sequence[Refused]) -> None:
        others = (*indexed.events, *(item.event for item in (*indexed.refused, *stuck)))
        stopped = {event.origin for event in slot.events} - {event.origin for event in others}
        # An event that stage 1 has lost is no duplicate: it is not dealt with.
        if len(stopped) == indexed.duplicates:
            self._contiguity.dealt_with(stopped)

    def _not_through(self, refused: Sequence[Refused]) -> Sequence[Refused]:
        """Without the events that an earlier run of the batch brought to the counters.

        They have stages 2 and 3 behind them, and a letter would have them counted once more when it comes back.
        """
        if not refused:
            return ()
        offsets = self._stores.redis.applied(sorted({item.event.origin.partition for item in refused}))
        profiles = self._stores.mongodb.read(mongodb.CUSTOMERS, {item.event.user for item in refused})
        return [
            item
            for item in refused
            if item.event.origin.offset > offsets[item.event.origin.partition]
            and not customer.is_applied(profiles.get(item.event.user, {}), item.event.origin)
        ]

    def _bury(self, stage: str, letters: Sequence[tuple[Message, str]]) -> None:
        if not letters:
            return
        # A worker that lost its lane must not bury what the new one brings through.
        self._lease.confirm()
        self._buried.mark(stage, {message.origin: reason for message, reason in letters})
        for message, reason in letters:
            self._dead_letters.send(message, error=reason, stage=stage)
        with self._lock:
            self.tally.dead_letters[stage] += len(letters)
        # What customer refuses is counted in the product statistics all the same.
        past = {"orders": (), "customer": ("customer",)}.get(stage, LAST_STAGES)
        self._contiguity.dealt_with((message.origin for message, _ in letters), past)

    def _check_clients(self, received: Sequence[Message], refused: Mapping[Origin, str]) -> None:
        if len(refused) <= policy.FLOOR:
            return
        bad = [message for message in received if message.origin in refused]
        clients, failing = policy.failing(received, bad)
        if policy.is_outage(clients, failing, self._settings.dead_letter_share, self._known):
            example = next(iter(refused.values()))
            raise TooManyDeadLetters(
                f"{len(failing)} of {len(clients)} clients of a batch would have dead letters, such as: {example}. That"
                " looks like an outage or a bad deploy; nothing was committed. If they really are bad, set"
                " TRUEPIXEL_DEAD_LETTER_SHARE=1"
            )

    def _known(self, clients: AbstractSet[str]) -> AbstractSet[str] | None:
        """The clients that have a profile; None where nobody has one yet."""
        store = self._stores.mongodb
        found = frozenset(store.ids(mongodb.CUSTOMERS, {"_id": {"$in": sorted(clients)}}))
        is_new = not found and next(store.ids(mongodb.CUSTOMERS, {}), None) is None
        return None if is_new else found

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        if self.failure is not None:
            raise LaneStopped(f"the lane was stopped by: {self.failure}") from self.failure
        started = time.perf_counter()
        try:
            self._lease.check()
            yield
        except BaseException as error:
            self.failure = error
            raise
        finally:
            with self._lock:
                self.tally.stage_seconds[name] += time.perf_counter() - started


def _without(events: tuple[Event, ...], refused: Sequence[Refused]) -> tuple[Event, ...]:
    if not refused:
        return events
    gone = {item.event.origin for item in refused}
    return tuple(event for event in events if event.origin not in gone)
