"""Make one store call per event and stage, on eight keyed threads a partition: `python -m benchmarks.peers.one_by_one`.

A user is always on the same thread, queues are bounded, and an offset is committed once all records up to it are
stored. An order's records may be of several users; the result does not depend on which of them is first.
"""

from __future__ import annotations

import threading
from contextlib import ExitStack, closing
from functools import partial

from benchmarks.peers.stages import Stages, Stopwatch
from truepixel_dagster.dead_letters.topic import DeadLetters
from truepixel_dagster.events.event import Event, Message
from truepixel_dagster.pipeline.keyed_pool import KeyedPool
from truepixel_dagster.pipeline.ledger import Ledger
from truepixel_dagster.resources import open_stores
from truepixel_dagster.settings import Settings, load_settings
from truepixel_dagster.stages import product_stats
from truepixel_dagster.stream.consumer import EventConsumer
from truepixel_dagster.stream.micro_batch import OffsetRange
from truepixel_dagster.stream.topics import partition_count

THREADS, PENDING = 8, 16


class Port:
    """Pass each message to the thread of its user, and commit contiguously."""

    def __init__(self, settings: Settings, stack: ExitStack) -> None:
        partitions = range(partition_count(settings.kafka()))
        self.consumer = stack.enter_context(
            closing(EventConsumer(settings.kafka(), settings.fetch_limits(), partitions))
        )
        self._letters = stack.enter_context(closing(DeadLetters(settings.kafka(), settings.dead_letter_bytes)))
        self._ledger = Ledger()
        self._lock = threading.Lock()
        self._pools: dict[int, KeyedPool] = {}
        self._stages: dict[int, Stages] = {}
        for partition in partitions:
            # Each partition has its own connections, so that no thread waits for another partition's.
            stores = stack.enter_context(open_stores(settings))
            # The threads of a partition finish in any order, so an applied offset cannot guard stage 5.
            self._stages[partition] = Stages(settings, stores, self._letters, product_stats.replay)
            self._pools[partition] = stack.enter_context(KeyedPool(THREADS, PENDING))

    def submit(self, message: Message) -> None:
        """Process a message after all earlier ones of its user; wait while the thread's queue is full."""
        partition, offset = message.origin.partition, message.origin.offset
        alone = {partition: OffsetRange(message.origin.topic, partition, offset, offset)}
        with self._lock:
            self._ledger.opened(alone)
        for event in self._stages[partition].decode([message]):
            self._pools[partition].submit(event.user, partial(self._work, event, alone))
            return
        self._landed(alone)

    def commit(self) -> None:
        """Commit the stored records, after their dead letters."""
        with self._lock:
            offsets = self._ledger.committable()
        self._letters.flush()
        self.consumer.commit(offsets)
        with self._lock:
            self._ledger.committed(offsets)

    def drain(self) -> None:
        """Wait until all records are stored."""
        for pool in self._pools.values():
            pool.drain()

    def _work(self, event: Event, alone: dict[int, OffsetRange]) -> None:
        self._stages[event.origin.partition].handle([event])
        self._landed(alone)

    def _landed(self, alone: dict[int, OffsetRange]) -> None:
        with self._lock:
            self._ledger.landed(alone)


def main() -> None:
    """Drain the topic."""
    watch = Stopwatch()
    with ExitStack() as stack:
        port = Port(load_settings(), stack)
        left = waiting = sum(port.consumer.lag().values())
        while left and (batch := port.consumer.fetch()):
            watch.received()
            for message in batch.messages:
                port.submit(message)
            left -= len(batch.messages)
            port.commit()
        port.drain()
        port.commit()
        watch.report(waiting - left)


if __name__ == "__main__":
    main()
