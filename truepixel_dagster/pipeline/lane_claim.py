"""Claim a lane, hold it, and give it back.

    >>> from truepixel_dagster.pipeline.lane_claim import open_lane
    >>> from truepixel_dagster.stream.producer import EventProducer
    >>> with EventProducer(settings.kafka()) as producer:
    ...     producer.send(b"shop:client", b'{"id": "e1", "name": "page_viewed", "clientId": "client"}')
    ...
    >>> with open_lane(settings, lane=0, lanes=1, owner="example") as lane:
    ...     while (fetched := lane.fetch()) is not None:
    ...         done = lane.attribution(lane.ad_lead(lane.index(fetched)))
    ...         lane.customer(done)
    ...         lane.product_stats(done)
    ...         lane.commit(fetched)
    ...     metrics = lane.finish()
    ...
    >>> metrics.messages, metrics.indexed
    (1, 1)

A run checks and plans as much as possible while another run still holds the lane, so that the handover itself only
passes on the lane.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from truepixel_dagster import durability
from truepixel_dagster.access import FetchLimits, KafkaAccess
from truepixel_dagster.dead_letters.refusals import Refusals
from truepixel_dagster.dead_letters.topic import DeadLetters, read
from truepixel_dagster.events.origin import base_of
from truepixel_dagster.pipeline.memory import stay_small
from truepixel_dagster.pipeline.memory_budget import check_memory, memory_limit
from truepixel_dagster.pipeline.processing import Processing, processing_of
from truepixel_dagster.pipeline.runner import LaneRunner
from truepixel_dagster.redis_state import check_applied
from truepixel_dagster.resources import Stores, open_stores
from truepixel_dagster.settings import Settings
from truepixel_dagster.source_log import LogWatch, remember, verified
from truepixel_dagster.stores.errors import Unavailable
from truepixel_dagster.stores.redis.leases import Lease
from truepixel_dagster.stream.consumer import EventConsumer
from truepixel_dagster.stream.errors import KafkaError
from truepixel_dagster.stream.lane import partitions_of
from truepixel_dagster.stream.topics import IdentityReader, PartitionLag, lag

# An unused planned batch is skipped, which costs little; a run that has used all of them ends, and starting the next
# run costs much.
BATCHES_TO_GROW = 128
# With Python's default switch interval of 5 ms, a thread that only reads a short answer mostly waits for the GIL.
SWITCH_SECONDS = 0.001


class LaneOptions(NamedTuple):
    """Hold the settings of a lane: access to Kafka, bounds and rules.

    `namespace` begins the keys in Redis; a lease lasts `lease` seconds without a heartbeat; a run plans at most
    `planned_batches`; a larger record than `dead_letter_bytes` gets a dead letter by reference.
    """

    kafka: KafkaAccess
    fetch_limits: FetchLimits
    processing: Processing
    namespace: str
    lease: float
    planned_batches: int
    dead_letter_bytes: int


class LaneClaim:
    """Claim a lane for a run.

    Arguments:
        options: The settings of the lane.
        stores: The stores that the stages write to.
        waiting: The lag of the lane's partitions.
        count: The topic's number of partitions.
        identity: A connection to Kafka that identifies the topic's log.
        owner: The run's id.
        after: The run that holds the lane, if there is one.
    """

    def __init__(
        self,
        options: LaneOptions,
        stores: Stores,
        waiting: Sequence[PartitionLag],
        count: int,
        identity: IdentityReader,
        owner: str,
        after: str | None,
    ) -> None:
        partitions = [entry.partition for entry in waiting]
        self._options = options
        self._stores = stores
        self._partitions = partitions
        self._count = count
        self._identity = identity
        self._waiting = sum(entry.lag for entry in waiting)
        self._after = after
        client, name, seconds = stores.redis.client, options.namespace, options.lease
        epoch = stores.redis.expected_epoch
        self._lease = Lease(client, name, partitions, owner, seconds, epoch=epoch, applied=stores.redis.known_applied)
        self._standby = Lease(client, name, partitions, owner, seconds, "next", epoch=epoch)

    @contextmanager
    def standing_by(self) -> Iterator[None]:
        """Hold the lease of the lane's standby run, if another run holds the lane, until it is taken or the block ends.

        Raises:
            LaneBusy: Another run is already standing by.
            Unavailable: Redis does not answer.
        """
        if self._after is not None:
            self._standby.acquire()
        try:
            yield
        finally:
            self._stop_standing_by()

    def warnings(self) -> list[str]:
        """Return warnings for the operator: settings of the servers that can lose data."""
        try:
            facts = durability.ask(self._options.kafka, self._stores)
        except (Unavailable, KafkaError) as error:
            # The stage that needs that server reports it, if it is still unreachable by then.
            return [f"the servers' durability settings could not be checked: {error}"]
        return durability.warnings(facts, self._options.kafka.replication)

    def planned_batches(self) -> int:
        """Return how many micro-batches to plan: the lag and what may arrive meanwhile, up to the limit."""
        waiting = self._waiting // self._options.fetch_limits.messages
        return min(self._options.planned_batches, waiting + BATCHES_TO_GROW)

    @contextmanager
    def taken(self) -> Iterator[LaneRunner]:
        """Take the lane, wait for the run that holds it, and own it until the block ends.

        Raises:
            LaneBusy: A run other than the awaited one holds one of its partitions.
            LogChanged: The topic is not the log that was processed.
            StateLost: Redis no longer holds the counts up to the committed offsets.
            Unavailable, KafkaError: A server does not answer.
        """
        self._lease.acquire(self._after)
        self._stop_standing_by()
        try:
            runner = self._runner()
        except BaseException:
            self._lease.release()
            raise
        try:
            with _short_pauses():
                yield runner
        finally:
            runner.close()

    def _runner(self) -> LaneRunner:
        for store in self._stores:
            # A worker that was paused past its lease, even in the middle of a stage, makes no further call.
            store.guard = self._lease.check
        options, kafka = self._options, self._options.kafka
        refusals = Refusals(self._stores.redis, self._partitions)
        # Read again: the previous run has stored its progress. The topic's id is checked with the first messages.
        kept = remember(kafka, self._stores.mongodb)
        reached = {int(partition): offset for partition, offset in kept.reached.items()}
        consumer = EventConsumer(kafka, options.fetch_limits, self._partitions, kept.generation, reached)
        try:
            check_applied(kafka, self._stores, consumer.committed, base_of(kept.generation))
            refusals.restore(read(kafka), consumer.redelivers())
        except BaseException:
            consumer.close()
            raise
        watch = LogWatch(kafka, kept, self._count, self._identity)
        dead_letters = DeadLetters(kafka, options.dead_letter_bytes)
        runner = LaneRunner(options.processing, self._stores, consumer, dead_letters, self._lease, refusals, watch)
        runner.keep_lost()
        return runner

    def _stop_standing_by(self) -> None:
        if self._after is not None:
            self._standby.release()


def lane_options(settings: Settings) -> LaneOptions:
    """Return a lane's options from the settings.

    Raises:
        SettingsError: The operator's additions to the tables of sources are invalid.
    """
    return LaneOptions(
        kafka=settings.kafka(),
        fetch_limits=settings.fetch_limits(),
        processing=processing_of(settings),
        namespace=settings.namespace,
        lease=settings.lease,
        planned_batches=settings.slots_per_run,
        dead_letter_bytes=settings.dead_letter_bytes,
    )


@contextmanager
def claim_lane(
    settings: Settings, *, lane: int, lanes: int, owner: str, after: str | None = None
) -> Iterator[LaneClaim]:
    """Return a claim to a lane.

    Arguments:
        settings: The pipeline's settings.
        lane: The lane's number, from 0.
        lanes: The number of lanes.
        owner: The run's id.
        after: The run that holds the lane: the claim waits for it.

    Raises:
        LaneBusy: Another run already waits for it.
        LogChanged: The topic is not the log that was processed.
        NotSetUp: Templates or indices do not match this version.
        Unavailable, KafkaError: A server does not answer.
        SettingsError: The memory budgets exceed the process's limit.
    """
    check_memory(settings, memory_limit())
    stay_small()
    entries = {entry.partition: entry for entry in lag(settings.kafka(), settings.kafka_timeout, settings.retries)}
    waiting = [entries[partition] for partition in partitions_of(lane, lanes, len(entries))]
    with open_stores(settings) as stores:
        # Without its template, an index created by a document gets fields that no search finds.
        stores.elasticsearch.check()
        identity = IdentityReader(settings.kafka())
        verified(settings.kafka(), stores, list(entries.values()), identity)
        claim = LaneClaim(lane_options(settings), stores, waiting, len(entries), identity, owner, after)
        with claim.standing_by():
            yield claim


@contextmanager
def open_lane(
    settings: Settings, *, lane: int, lanes: int, owner: str, after: str | None = None
) -> Iterator[LaneRunner]:
    """Open a lane and own it until the block ends; for arguments and errors see `claim_lane` and `LaneClaim.taken`."""
    with (
        claim_lane(settings, lane=lane, lanes=lanes, owner=owner, after=after) as claim,
        claim.taken() as runner,
    ):
        yield runner


@contextmanager
def _short_pauses() -> Iterator[None]:
    # Exempt existing objects, so that garbage collection does not traverse all of Dagster every few micro-batches.
    gc.freeze()
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
        gc.unfreeze()
