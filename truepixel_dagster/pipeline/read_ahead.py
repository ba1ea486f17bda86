"""Read the next micro-batch of a lane, and run its stage 1, while the one before it is in the later stages.

This happens only while full micro-batches wait that the run has planned; near the head of the topic a lane processes
one micro-batch at a time, for latency. Order stays as it is: micro-batches are read one after the other, stage 1 begins
when stage 1 of the micro-batch before is complete, and no later stage runs ahead. What was read ahead and is not
processed stays uncommitted: the next run reads it again, and recognizes the events that are already in the history as
redeliveries.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

from truepixel_dagster.events.event import Event
from truepixel_dagster.pipeline.intake import Intake, Taken
from truepixel_dagster.source_log import LogWatch
from truepixel_dagster.stages.index import Indexed
from truepixel_dagster.stream.consumer import EventConsumer
from truepixel_dagster.stream.micro_batch import MicroBatch

# A micro-batch is read ahead only beside one that has at most this share of the permitted bytes: a quarter.
SMALL_SHARE = 4


class ReadBatch(NamedTuple):
    """Hold a micro-batch as read from Kafka, and its messages after redaction with their events.

    `read_at` is a value of `time.perf_counter`, in seconds.
    """

    batch: MicroBatch
    taken: Taken
    read_at: float

    @property
    def events(self) -> tuple[Event, ...]:
        """Return the events, in order."""
        return tuple(item for item in self.taken.decoded if isinstance(item, Event))


class Next(NamedTuple):
    """Hold the next micro-batch, and its stage 1 if that runs ahead."""

    read: ReadBatch
    indexed: Future[Indexed] | None


class ReadAhead:
    """Give the micro-batches of a lane, read ahead where that pays.

    Arguments:
        consumer: Reads the lane's partitions.
        watch: Notices that the topic is another log, or has grown.
        intake: Turns messages into events.
        index: Runs stage 1 for the events of a micro-batch.
        messages: The most messages of a micro-batch.
        size: The most bytes of a micro-batch.
    """

    def __init__(
        self,
        consumer: EventConsumer,
        watch: LogWatch,
        intake: Intake,
        index: Callable[[Sequence[Event]], Indexed],
        messages: int,
        size: int,
    ) -> None:
        self._consumer = consumer
        self._watch = watch
        self._intake = intake
        self._index = index
        self._messages = messages
        self._size = size
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="read-ahead")
        self._read: Future[ReadBatch | None] | None = None
        self._indexed: Future[Indexed] | None = None
        self._planned = 0
        self._closed = threading.Event()

    def plan(self, micro_batches: int) -> None:
        """Set how many more micro-batches will be asked for: what runs ahead is one of these."""
        self._planned = micro_batches

    def next(self) -> Next | None:
        """Return the next micro-batch; None when the lane is idle, or when partitions were added to the topic.

        Raises:
            LogChanged: The topic is another log.
            KafkaError, Unavailable: A server does not answer.
        """
        self._planned -= 1
        ahead, indexed = self._taken()
        read = ahead.result() if ahead else self._read_now()
        return Next(read, indexed) if read else None

    def read_next(self, batch: MicroBatch) -> bool:
        """Begin to read the micro-batch after this one, if a full one waits and this one is small."""
        if self._planned <= 0 or batch.size > self._size // SMALL_SHARE:
            return False
        if not self._consumer.has_waiting(self._messages):
            return False
        self._read = self._threads.submit(self._read_now)
        return True

    def index_next(self) -> None:
        """Begin stage 1 of the micro-batch that is read ahead, if any; call it when stage 1 of this one is complete."""
        if self._read is not None:
            self._indexed = self._threads.submit(self._index_when_read, self._read)

    def give_back(self) -> None:
        """Give the micro-batch that was read ahead, if any, back to the consumer."""
        ahead, indexed = self._taken()
        read = ahead.result() if ahead else None
        if indexed is not None:
            indexed.exception()
        if read is not None:
            self._consumer.give_back(read.batch)

    def close(self) -> None:
        """Stop the threads: they begin nothing more."""
        self._closed.set()
        self._consumer.interrupt()
        self._threads.shutdown(cancel_futures=True)

    def _taken(self) -> tuple[Future[ReadBatch | None] | None, Future[Indexed] | None]:
        read, self._read = self._read, None
        indexed, self._indexed = self._indexed, None
        return read, indexed

    def _read_now(self) -> ReadBatch | None:
        # Lanes divide partitions by number: a new partition may belong to another lane after this run.
        batch = None if self._watch.has_grown else self._consumer.fetch()
        if batch is None or self._closed.is_set():
            return None
        read_at = time.perf_counter()
        # The messages may be from another log: check that before using them.
        self._watch.check()
        return ReadBatch(batch, self._intake.take(batch), read_at)

    def _index_when_read(self, reading: Future[ReadBatch | None]) -> Indexed:
        read = reading.result()
        return self._index(() if read is None or self._closed.is_set() else read.events)
