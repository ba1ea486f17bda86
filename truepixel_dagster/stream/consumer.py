"""The Kafka side of a lane: fetch micro-batches from its partitions, and commit their offsets.

>>> from truepixel_dagster.stream.consumer import EventConsumer
>>> from truepixel_dagster.stream.producer import EventProducer
>>> with EventProducer(settings.kafka()) as producer:
...     producer.send(b"shop:client", b"first", partition=2)
...
>>> consumer = EventConsumer(settings.kafka(), settings.fetch_limits(), partitions=[0, 1, 2])
>>> batch = consumer.fetch()
>>> consumer.commit({partition: offsets.last + 1 for partition, offsets in batch.ranges.items()})
>>> consumer.committed
{2: 1}
>>> consumer.fetch()  # None: the lane is idle
>>> consumer.close()
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from confluent_kafka import OFFSET_INVALID, Consumer, KafkaException, TopicPartition
from confluent_kafka import KafkaError as Code

from truepixel_dagster.access import FetchLimits, KafkaAccess
from truepixel_dagster.events.origin import base_of
from truepixel_dagster.stream.client_config import MAX_MESSAGE_BYTES, client_config
from truepixel_dagster.stream.errors import Denials, LogChanged, calling, is_transient, plain, truncated
from truepixel_dagster.stream.micro_batch import Cutter, MicroBatch, OffsetRange
from truepixel_dagster.stream.reading import to_message

# `consume` waits for all that it is asked for or for its whole timeout, so a linger is made of short calls.
POLL_SECONDS = 0.02
# The first fetch after an assignment takes up to a second: silence until then says nothing.
SILENCE_SECONDS = 15.0


class EventConsumer:
    """Read the partitions of a lane from their committed offsets on, without records of uncommitted transactions.

    All offsets in arguments and results are counted over all logs (`events/origin.py`).

    Arguments:
        kafka: Access to Kafka.
        limits: The bounds of a micro-batch and of waiting.
        partitions: The partitions of the lane.
        generation: The number of the topic's log.
        reached: The highest offset that is known to have been committed, by partition.

    Raises:
        LogChanged: The committed offset of a partition is beyond its end.
        KafkaError: Kafka does not answer, or has no such topic.
    """

    def __init__(
        self,
        kafka: KafkaAccess,
        limits: FetchLimits,
        partitions: Sequence[int],
        generation: int = 0,
        reached: Mapping[int, int] = MappingProxyType({}),
    ) -> None:
        self._kafka = kafka
        self._limits = limits
        self._reached = reached
        self._base = base_of(generation)
        self._cutter = Cutter(limits.messages, limits.bytes)
        # librdkafka counts its buffer for each partition.
        share = max(64, limits.prefetch_bytes // 1024 // max(1, len(partitions)))
        self._denials = Denials(kafka)
        self._consumer = Consumer(
            {
                **client_config(kafka),
                "error_cb": self._denials,
                "group.id": kafka.group,
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                # If the next offset does not exist, decide here whether retention removed it or the log was truncated.
                "auto.offset.reset": "error",
                # Offsets without a record (transaction markers) show only at a partition's end.
                "enable.partition.eof": True,
                # Skip records of aborted transactions; an open transaction may still be aborted.
                "isolation.level": "read_committed",
                "queued.max.messages.kbytes": share,
                # The limit per partition and answer counts compressed bytes; decompressed, it is many times as much.
                "fetch.message.max.bytes": min(128 * 1024, share * 1024),
                "fetch.max.bytes": MAX_MESSAGE_BYTES,
                "receive.message.max.bytes": 2 * MAX_MESSAGE_BYTES,
                "fetch.wait.max.ms": 100,
                # The pause after the buffer was full: with this small one, the default of a second stalls the lane.
                "fetch.queue.backoff.ms": 20,
            }
        )
        # By partition, in Kafka's offsets: the next offset to return, the next to receive, and the partition's end.
        self._positions: dict[int, int] = {}
        self._received: dict[int, int] = {}
        self._ends: dict[int, int] = {}
        self._committed: dict[int, int] = {}
        self._begun_at: dict[int, int] = {}
        #: The notes of the committed offsets, by partition (`stream/commit_notes.py`).
        self.notes: dict[int, str] = {}
        #: How many messages retention removed before they were read, by partition.
        self.taken_by_retention: Counter[int] = Counter()
        self._lost: list[OffsetRange] = []
        self._out_of_range: set[int] = set()
        if partitions:
            self._assign(partitions)

    def fetch(self) -> MicroBatch | None:
        """Return the next micro-batch when it is full or the linger has passed; None when the lane is idle.

        The lane is idle if no message arrived for `idle` seconds and none is waiting.

        Raises:
            KafkaDenied: Kafka denies access.
            KafkaUnavailable: Messages wait, and none can be fetched.
        """
        if not self._positions:
            return None
        started = time.monotonic()
        first_at = started if not self._cutter.empty else None
        while self._cutter.room:
            now = time.monotonic()
            if first_at is not None and now - first_at >= self._limits.linger:
                break
            if first_at is None and now - started >= self._limits.idle and self._is_idle(now - started):
                return None
            records = self._consumer.consume(self._cutter.room, timeout=POLL_SECONDS)
            self._denials.check()
            if records:
                self._cutter.add([to_message(record, self._base) for record in records if self._good(record)])
                # Only now: it fetches again from the offsets that these records have advanced.
                self._resume_in_range()
                first_at = first_at or (time.monotonic() if not self._cutter.empty else None)
        batch = self._cutter.take()
        for partition, offsets in batch.ranges.items():
            self._positions[partition] = offsets.last + 1 - self._base
        self._step_over()
        return batch

    @property
    def committed(self) -> dict[int, int]:
        """Return the committed offset of each partition that has one: the next offset to read."""
        return {partition: self._base + offset for partition, offset in self._committed.items()}

    def redelivers(self) -> dict[int, OffsetRange]:
        """Return the ranges that are read again although they were committed: the group's offsets were reset."""
        topic = self._kafka.topic
        return {
            partition: OffsetRange(topic, partition, self._base + offset, self._reached[partition] - 1)
            for partition, offset in self._begun_at.items()
            if self._base + offset < self._reached.get(partition, 0)
        }

    def lost(self) -> list[OffsetRange]:
        """Return the ranges that retention removed before they were read, since the last call."""
        found, self._lost = self._lost, []
        return found

    def without_record(self) -> dict[int, int]:
        """Return the next offset to read of the partitions with offsets without a record below it.

        Call this when all returned records have completed every stage: no record will commit these offsets.
        """
        self._step_over()
        beyond = {p: offset for p, offset in self._positions.items() if offset > self._committed.get(p, 0)}
        return {partition: self._base + offset for partition, offset in beyond.items()}

    def commit(
        self,
        offsets: Mapping[int, int],
        guard: Callable[[], None] = lambda: None,
        notes: Mapping[int, str] = MappingProxyType({}),
    ) -> None:
        """Commit the next offset to read of some partitions; never backward.

        Arguments:
            offsets: The offsets by partition.
            guard: Called before each try; it raises if this run has lost the lane.
            notes: The notes to store with them; by default the stored ones stay.

        Raises:
            KafkaUnavailable: No acknowledgement after all tries.
        """
        own = {p: offset - self._base for p, offset in offsets.items()}
        forward = {p: offset for p, offset in own.items() if offset > self._committed.get(p, -1)}
        if not forward:
            return
        self._commit(forward, guard, notes)
        self._committed.update(forward)

    def annotate(self, notes: Mapping[int, str], guard: Callable[[], None] = lambda: None) -> None:
        """Replace the notes of committed offsets, which do not change.

        Raises:
            KafkaUnavailable: No acknowledgement after all tries.
        """
        changed = {p: note for p, note in notes.items() if p in self._committed and note != self.notes.get(p, "")}
        if changed:
            self._commit({p: self._committed[p] for p in changed}, guard, changed)

    def _commit(self, offsets: Mapping[int, int], guard: Callable[[], None], notes: Mapping[int, str]) -> None:
        topic = self._kafka.topic
        beside = {p: notes.get(p, self.notes.get(p, "")) for p in offsets}
        wanted = [TopicPartition(topic, p, offset, beside[p]) for p, offset in offsets.items()]

        def commit() -> None:
            guard()
            for entry in self._consumer.commit(offsets=wanted, asynchronous=False) or ():
                if entry.error is not None:
                    raise KafkaException(entry.error)

        calling(self._kafka, commit)
        self.notes.update(beside)

    def lag(self) -> dict[int, int]:
        """Return the number of messages beyond the returned ones, by partition.

        Raises:
            KafkaUnavailable: No answer after all tries.
        """
        return calling(self._kafka, lambda: {p: self._lag(p) for p in self._positions})

    def close(self) -> None:
        """Disconnect from Kafka."""
        self._consumer.close()

    def _assign(self, partitions: Sequence[int]) -> None:
        topic, timeout = self._kafka.topic, self._kafka.timeout
        wanted = [TopicPartition(topic, partition) for partition in partitions]
        for entry in calling(self._kafka, lambda: self._consumer.committed(wanted, timeout=timeout)):
            if entry.offset != OFFSET_INVALID and entry.offset >= 0:
                self._committed[entry.partition] = entry.offset
                self.notes[entry.partition] = entry.metadata or ""
        for partition in partitions:
            self._positions[partition] = self._received[partition] = self._begin(partition)
        self._begun_at = dict(self._positions)
        self._read_on()

    def _begin(self, partition: int) -> int:
        """Return the offset from which to read a partition: the committed one, or the beginning."""
        low, high = calling(self._kafka, lambda: self._bounds(partition))
        # A group that has lost its offsets reads the remaining records again; the removed ones had been read.
        unknown = min(low, max(0, self._reached.get(partition, self._base + low) - self._base))
        return self._within(partition, self._committed.get(partition, unknown), low, high)

    def _within(self, partition: int, offset: int, low: int, high: int) -> int:
        """Return an offset, or the first remaining one above it; note what retention removed in between.

        Raises:
            LogChanged: The offset is beyond the end.
        """
        if offset > high:
            raise LogChanged(truncated(self._kafka, partition, offset, high))
        if offset < low:
            first, last = self._base + offset, self._base + low - 1
            self._lost.append(OffsetRange(self._kafka.topic, partition, first, last))
            self.taken_by_retention[partition] += low - offset
        return max(offset, low)

    def _resume_in_range(self) -> None:
        """Continue where the next offset no longer exists: retention has removed it, or the log was truncated."""
        if not self._out_of_range:
            return
        for partition in self._out_of_range:
            low, high = calling(self._kafka, lambda: self._bounds(partition))  # noqa: B023 (called at once)
            self._received[partition] = self._within(partition, self._received[partition], low, high)
        self._out_of_range.clear()
        self._read_on()

    def _read_on(self) -> None:
        """Fetch every partition from its next offset; the client fetches again what it has already buffered."""
        topic = self._kafka.topic
        self._consumer.assign([TopicPartition(topic, p, offset) for p, offset in self._received.items()])

    def _step_over(self) -> None:
        """Skip offsets without a record, unless records below them have not been returned."""
        for partition, offset in self._positions.items():
            if self._cutter.empty or self._received[partition] <= offset:
                self._positions[partition] = max(offset, self._received[partition], self._ends.get(partition, 0))

    def _bounds(self, partition: int) -> tuple[int, int]:
        entry = TopicPartition(self._kafka.topic, partition)
        low, high = self._consumer.get_watermark_offsets(entry, timeout=self._kafka.timeout)
        return low, high

    def _lag(self, partition: int) -> int:
        low, high = self._bounds(partition)
        return max(0, high - max(low, self._positions[partition]))

    def _is_idle(self, silence: float) -> bool:
        self._step_over()
        # If waiting messages do not arrive in this time, leave them to the next run.
        return sum(self.lag().values()) == 0 or silence >= SILENCE_SECONDS + self._limits.idle

    def _good(self, record: Any) -> bool:
        """Return whether it is a record and not an event of the client."""
        error, partition = record.error(), record.partition()
        if error is None:
            self._received[partition] = record.offset() + 1
            return True
        if error.code() == Code._PARTITION_EOF:
            self._ends[partition] = record.offset()
            return False
        if error.code() in (Code._AUTO_OFFSET_RESET, Code.OFFSET_OUT_OF_RANGE):
            self._out_of_range.add(partition)
            return False
        failure = KafkaException(error)
        if is_transient(failure):
            return False
        raise plain(self._kafka, failure)
