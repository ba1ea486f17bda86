"""A lane from before it is ours until it is given back.

What can be looked at and planned while another run still has the lane is done then, so that between two runs nothing
but the lane changes hands.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from truepixel_dagster import durability
from truepixel_dagster.dead_letters.refusals import Refusals
from truepixel_dagster.dead_letters.topic import DeadLetters
from truepixel_dagster.events.origin import base_of
from truepixel_dagster.pipeline.memory import stay_small
from truepixel_dagster.pipeline.runner import LaneRunner
from truepixel_dagster.redis_state import check_applied
from truepixel_dagster.resources import Stores, open_stores
from truepixel_dagster.settings import Settings, check_memory, memory_limit
from truepixel_dagster.source_log import LogWatch, remember, verified
from truepixel_dagster.stores.errors import Unavailable
from truepixel_dagster.stores.leases import Lease
from truepixel_dagster.stream.consumer import EventConsumer
from truepixel_dagster.stream.errors import KafkaError
from truepixel_dagster.stream.lane import partitions_of
from truepixel_dagster.stream.topics import IdentityReader, PartitionLag, lag

# A slot too many is skipped, which costs little; a run without a slot left ends, and starting one costs much.
SLOTS_TO_GROW = 128
# Python's threads take turns: of its own 5 ms one that only reads a short answer waits out most.
SWITCH_SECONDS = 0.001


class LaneClaim:
    """A lane that a run is about to take.

    Arguments:
        settings: The pipeline's settings.
        stores: Where the stages will write.
        waiting: The lag of the lane's partitions.
        count: How many partitions the topic has.
        identity: A connection to ask Kafka which log the topic is.
        owner: The run's id.
        after: The run that has the lane, if one has.
    """

    def __init__(
        self,
        settings: Settings,
        stores: Stores,
        waiting: Sequence[PartitionLag],
        count: int,
        identity: IdentityReader,
        owner: str,
        after: str | None,
    ) -> None:
        partitions = [entry.partition for entry in waiting]
        self._settings = settings
        self._stores = stores
        self._partitions = partitions
        self._count = count
        self._identity = identity
        self._waiting = sum(entry.lag for entry in waiting)
        self._after = after
        client, name, seconds = stores.redis.client, settings.namespace, settings.lease
        epoch = stores.redis.expected_epoch
        self._lease = Lease(client, name, partitions, owner, seconds, epoch=epoch, applied=stores.redis.known_applied)
        self._place = Lease(client, name, partitions, owner, seconds, "next", epoch=epoch)

    @contextmanager
    def awaited(self) -> Iterator[None]:
        """Behind another run: be next, alive, for all to see, until the lane is taken or the block ends.

        Raises:
            LaneBusy: Another run is next.
            Unavailable: Redis does not answer.
        """
        if self._after is not None:
            self._place.acquire()
        try:
            yield
        finally:
            self._no_longer_next()

    def warnings(self) -> list[str]:
        """What an operator should know of the servers: settings of theirs that lose data."""
        try:
            facts = durability.ask(self._settings, self._stores)
        except (Unavailable, KafkaError) as error:
            # The stage that needs that server says so, if it is still away by then.
            return [f"settings of the servers were not looked at: {error}"]
        return durability.warnings(facts, self._settings)

    def slots(self) -> int:
        """How many micro-batches to plan for: what lay there and what may come meanwhile, up to the limit."""
        return min(self._settings.slots_per_run, self._waiting // self._settings.batch_messages + SLOTS_TO_GROW)

    @contextmanager
    def taken(self) -> Iterator[LaneRunner]:
        """The lane, owned until the block ends; waits for the run that has it.

        Raises:
            LaneBusy: Another run than the one waited for holds one of its partitions.
            LogChanged: The topic is not the log that was processed.
            StateLost: Redis does not hold what was counted up to the committed offsets.
            Unavailable, KafkaError: A server does not answer.
        """
        self._lease.acquire(self._after)
        self._no_longer_next()
        try:
            run = self._run()
        except BaseException:
            self._lease.release()
            raise
        try:
            with _undisturbed():
                yield run
        finally:
            run.close()

    def _run(self) -> LaneRunner:
        for store in self._stores:
            # A worker that slept past its lease, even in the middle of a stage, makes no further call.
            store.guard = self._lease.check
        buried = Refusals(self._stores.redis, self._partitions)
        # Again: the run that had the lane before has kept how far it came. Its id is looked at with the first messages.
        kept = remember(self._settings, self._stores.mongodb)
        reached = {int(partition): offset for partition, offset in kept.reached.items()}
        consumer = EventConsumer(self._settings, self._partitions, kept.generation, reached)
        try:
            check_applied(self._settings, self._stores, consumer.committed, base_of(kept.generation))
            buried.restore(self._settings, consumer.redelivers())
        except BaseException:
            consumer.close()
            raise
        watch = LogWatch(self._settings, kept, self._count, self._identity)
        letters = DeadLetters(self._settings)
        run = LaneRunner(self._settings, self._stores, consumer, letters, self._lease, buried, watch)
        run.keep_lost()
        return run

    def _no_longer_next(self) -> None:
        if self._after is not None:
            self._place.release()


@contextmanager
def claim_lane(
    settings: Settings, *, lane: int, lanes: int, owner: str, after: str | None = None
) -> Iterator[LaneClaim]:
    """A lane that is not ours yet.

    Arguments:
        settings: The pipeline's settings.
        lane: Which of the lanes, from 0.
        lanes: How many there are.
        owner: The run's id.
        after: The run that has the lane: it is waited for.

    Raises:
        LaneBusy: Another run waits for it.
        LogChanged: The topic is not the log that was processed.
        NotSetUp: Templates or indices are not as this version needs them.
        Unavailable, KafkaError: A server does not answer.
        SettingsError: The memory budgets do not fit the process's limit.
    """
    check_memory(settings, memory_limit())
    stay_small()
    entries = {entry.partition: entry for entry in lag(settings, settings.kafka_timeout, settings.retries)}
    waiting = [entries[partition] for partition in partitions_of(lane, lanes, len(entries))]
    with open_stores(settings) as stores:
        # An index that a document makes without its template gets fields that no search finds.
        stores.elasticsearch.check()
        identity = IdentityReader(settings)
        verified(settings, stores, list(entries.values()), identity)
        coming = LaneClaim(settings, stores, waiting, len(entries), identity, owner, after)
        with coming.awaited():
            yield coming


@contextmanager
def open_lane(
    settings: Settings, *, lane: int, lanes: int, owner: str, after: str | None = None
) -> Iterator[LaneRunner]:
    """A lane, owned until the block ends; arguments and errors are those of `claim_lane` and of taking it."""
    with (
        claim_lane(settings, lane=lane, lanes=lanes, owner=owner, after=after) as coming,
        coming.taken() as run,
    ):
        yield run


@contextmanager
def _undisturbed() -> Iterator[None]:
    # What is there by now stays: the collector need not go through all of Dagster for every few micro-batches.
    gc.freeze()
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
        gc.unfreeze()
