"""One store call per event and stage, on eight keyed threads a partition: `python -m benchmarks.peers.one_by_one`.

A user is always on the same thread, queues are bounded, and an offset is committed once all up to it has landed.
An order is counted under its partition's first sighting, and its sightings may be of several users: so one waits for
those before it.
"""

from __future__ import annotations

import threading
from contextlib import ExitStack, closing
from functools import partial

from benchmarks.peers.stages import Stages, Stopwatch
from truepixel_dagster.events.event import Event, Message
from truepixel_dagster.resources import open_stores
from truepixel_dagster.settings import Settings, load_settings
from truepixel_dagster.stages import product_stats
from truepixel_dagster.stream.consumer import EventConsumer
from truepixel_dagster.stream.dead_letters import DeadLetters
from truepixel_dagster.stream.keyed_pool import KeyedPool
from truepixel_dagster.stream.ledger import Ledger
from truepixel_dagster.stream.micro_batch import OffsetRange
from truepixel_dagster.stream.topics import partition_count

THREADS, PENDING = 8, 16
# A thread that fails leaves others waiting for it.
MOST_SECONDS = 60


class Port:
    """Hands each message to the thread of its user, and commits what has landed without a gap."""

    def __init__(self, settings: Settings, stack: ExitStack) -> None:
        partitions = range(partition_count(settings))
        self.consumer = stack.enter_context(closing(EventConsumer(settings, partitions)))
        self._letters = stack.enter_context(closing(DeadLetters(settings)))
        self._ledger = Ledger()
        self._lock = threading.Lock()
        self._sighted: dict[tuple[int, str | None], threading.Event] = {}
        self._pools: dict[int, KeyedPool] = {}
        self._stages: dict[int, Stages] = {}
        for partition in partitions:
            # Connections for each partition, so that no thread waits for another one's.
            stores = stack.enter_context(open_stores(settings))
            # The threads of a partition finish in no order, which its applied offset could not tell.
            self._stages[partition] = Stages(settings, stores, self._letters, product_stats.replay)
            self._pools[partition] = stack.enter_context(KeyedPool(THREADS, PENDING))

    def submit(self, message: Message) -> None:
        """Have a message worked on after all earlier ones of its user; waits while the thread's queue is full."""
        partition, offset = message.origin.partition, message.origin.offset
        alone = {partition: OffsetRange(message.origin.topic, partition, offset, offset)}
        with self._lock:
            self._ledger.opened(alone)
        for event in self._stages[partition].decode([message]):
            before, done = self._turn(event)
            self._pools[partition].submit(event.user, partial(self._work, event, before, done, alone))
            return
        self._landed(alone)

    def commit(self) -> None:
        """Commit what has landed, after its dead letters."""
        with self._lock:
            offsets = self._ledger.committable()
        self._letters.flush()
        self.consumer.commit(offsets)
        with self._lock:
            self._ledger.committed(offsets)
        self._sighted = {key: done for key, done in self._sighted.items() if not done.is_set()}

    def drain(self) -> None:
        """Wait until everything has landed."""
        for pool in self._pools.values():
            pool.drain()

    def _turn(self, event: Event) -> tuple[threading.Event | None, threading.Event]:
        """The end of the order's sighting before this one, if it is one, and its own end."""
        done = threading.Event()
        if event.order is None or not event.order.sighting:
            return None, done
        key = event.origin.partition, event.attribution_id
        before, self._sighted[key] = self._sighted.get(key), done
        return before, done

    def _work(
        self, event: Event, before: threading.Event | None, done: threading.Event, alone: dict[int, OffsetRange]
    ) -> None:
        if before is not None and not before.wait(MOST_SECONDS):
            raise RuntimeError(f"the sighting before {event.origin} does not come to an end")
        self._stages[event.origin.partition].handle([event])
        done.set()
        self._landed(alone)

    def _landed(self, alone: dict[int, OffsetRange]) -> None:
        with self._lock:
            self._ledger.landed(alone)


def main() -> None:
    """Drain what lies in the topic."""
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
