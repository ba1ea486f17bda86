"""The Kafka side of a lane: fetches micro-batches from assigned partitions and commits their offsets."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from confluent_kafka import OFFSET_INVALID, Consumer, KafkaException, TopicPartition
from confluent_kafka import KafkaError as Code

from truepixel_dagster.events.origin import base_of
from truepixel_dagster.settings import Settings
from truepixel_dagster.stream.client_config import MAX_MESSAGE_BYTES, client_config
from truepixel_dagster.stream.errors import Denials, LogChanged, calling, is_transient, plain, truncated
from truepixel_dagster.stream.micro_batch import Cutter, MicroBatch, OffsetRange
from truepixel_dagster.stream.reading import to_message

# `consume` waits for all that it is asked for or for its whole timeout, so a linger is made of short calls.
POLL_SECONDS = 0.02
# The first fetch after an assignment takes up to a second: silence until then says nothing.
SILENCE_SECONDS = 15.0


class EventConsumer:
    """Reads the partitions of a lane, from their committed offsets on; only what committed transactions wrote.

    All offsets that it takes and gives are counted over all logs (`events/origin.py`).

    Arguments:
        settings: Which topic, group and budgets.
        partitions: The partitions of the lane.
        generation: The number of the log that the topic is.
        reached: By partition the offset up to which records were once committed, where that is known.

    Raises:
        LogChanged: The committed offset of a partition lies beyond its end.
        KafkaError: Kafka does not answer, or has no such topic.
    """

    def __init__(
        self,
        settings: Settings,
        partitions: Sequence[int],
        generation: int = 0,
        reached: Mapping[int, int] = MappingProxyType({}),
    ) -> None:
        self._settings = settings
        self._reached = reached
        self._base = base_of(generation)
        self._cutter = Cutter(settings.batch_messages, settings.batch_bytes)
        # What the client may buffer is counted for each partition.
        share = max(64, settings.prefetch_bytes // 1024 // max(1, len(partitions)))
        self._denials = Denials(settings)
        self._consumer = Consumer(
            {
                **client_config(settings),
                "error_cb": self._denials,
                "group.id": settings.group,
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                # Retention may remove what is to be read next, and a log may be cut off: which it is, we look at.
                "auto.offset.reset": "error",
                # Offsets that hold no record (transactions) come to light only at a partition's end.
                "enable.partition.eof": True,
                # What a transaction took back never happened; one that is still open may be taken back.
                "isolation.level": "read_committed",
                "queued.max.messages.kbytes": share,
                # Of each partition in one answer, compressed: decompressed it is many times as much.
                "fetch.message.max.bytes": min(128 * 1024, share * 1024),
                "fetch.max.bytes": MAX_MESSAGE_BYTES,
                "receive.message.max.bytes": 2 * MAX_MESSAGE_BYTES,
                "fetch.wait.max.ms": 100,
                # How long a full buffer is left alone: with one this small, the default of a second starves the lane.
                "fetch.queue.backoff.ms": 20,
            }
        )
        # By partition, as Kafka counts: what is given out next, what comes next, and what a partition's end is.
        self._positions: dict[int, int] = {}
        self._received: dict[int, int] = {}
        self._ends: dict[int, int] = {}
        self._committed: dict[int, int] = {}
        self._begun_at: dict[int, int] = {}
        #: What stands beside the committed offsets, by partition (`stream/commit_notes.py`).
        self.notes: dict[int, str] = {}
        #: How many messages retention removed before they were read, by partition.
        self.taken_by_retention: Counter[int] = Counter()
        self._lost: list[OffsetRange] = []
        self._out_of_range: set[int] = set()
        self._interrupted = threading.Event()
        if partitions:
            self._assign(partitions)

    def fetch(self) -> MicroBatch | None:
        """The next micro-batch: full, or what has come when the linger is over; None when the lane is idle.

        Idle means that no message came for `settings.idle` seconds and none is waiting.

        Raises:
            KafkaDenied: Kafka denies access.
            KafkaUnavailable: Messages wait and none can be fetched.
        """
        if not self._positions:
            return None
        started = time.monotonic()
        first_at = started if not self._cutter.empty else None
        while self._cutter.room and not self._interrupted.is_set():
            now = time.monotonic()
            if first_at is not None and now - first_at >= self._settings.linger:
                break
            if first_at is None and now - started >= self._settings.idle and self._is_idle(now - started):
                return None
            records = self._consumer.consume(self._cutter.room, timeout=POLL_SECONDS)
            self._denials.check()
            if records:
                self._cutter.add([to_message(record, self._base) for record in records if self._good(record)])
                # Not before the last of them is noted: it fetches again from what was noted.
                self._resume_in_range()
                first_at = first_at or (time.monotonic() if not self._cutter.empty else None)
        batch = self._cutter.take()
        for partition, offsets in batch.ranges.items():
            self._positions[partition] = offsets.last + 1 - self._base
        self._step_over()
        return batch

    def has_waiting(self, count: int) -> bool:
        """Return whether at least so many messages wait, as far as the client knows: this asks no server."""
        return sum(self._known_lag(partition) for partition in self._positions) >= count

    def give_back(self, batch: MicroBatch) -> None:
        """Take a micro-batch back that was fetched last and not processed."""
        self._cutter.put_back(batch)
        for partition, offsets in batch.ranges.items():
            self._positions[partition] = offsets.first - self._base

    def interrupt(self) -> None:
        """Make the fetch of another thread return at once with what it has."""
        self._interrupted.set()

    @property
    def committed(self) -> dict[int, int]:
        """The next offset to read by partition, where one is known to be committed."""
        return {partition: self._base + offset for partition, offset in self._committed.items()}

    def redelivers(self) -> dict[int, OffsetRange]:
        """What is about to be read though it was committed before: the group's offsets were set back, or deleted."""
        topic = self._settings.topic
        return {
            partition: OffsetRange(topic, partition, self._base + offset, self._reached[partition] - 1)
            for partition, offset in self._begun_at.items()
            if self._base + offset < self._reached.get(partition, 0)
        }

    def lost(self) -> list[OffsetRange]:
        """What retention removed before it was read, since this was last asked."""
        found, self._lost = self._lost, []
        return found

    def without_record(self) -> dict[int, int]:
        """The next offset to read of each partition in which only offsets without a record come before it.

        Of use when all that was given out has landed: no record will ever have these offsets committed.
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
            offsets: By partition.
            guard: Called before each try; it raises where the lane is no longer ours.
            notes: What is to stand beside them; what stands there by default.

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
        """Have other notes stand beside the committed offsets, which stay; only where something is committed.

        Raises:
            KafkaUnavailable: No acknowledgement after all tries.
        """
        changed = {p: note for p, note in notes.items() if p in self._committed and note != self.notes.get(p, "")}
        if changed:
            self._commit({p: self._committed[p] for p in changed}, guard, changed)

    def _commit(self, offsets: Mapping[int, int], guard: Callable[[], None], notes: Mapping[int, str]) -> None:
        topic = self._settings.topic
        beside = {p: notes.get(p, self.notes.get(p, "")) for p in offsets}
        wanted = [TopicPartition(topic, p, offset, beside[p]) for p, offset in offsets.items()]

        def commit() -> None:
            guard()
            for entry in self._consumer.commit(offsets=wanted, asynchronous=False) or ():
                if entry.error is not None:
                    raise KafkaException(entry.error)

        calling(self._settings, commit)
        self.notes.update(beside)

    def lag(self) -> dict[int, int]:
        """Messages that wait beyond those given out, by partition.

        Raises:
            KafkaUnavailable: No answer after all tries.
        """
        return calling(self._settings, lambda: {p: self._lag(p) for p in self._positions})

    def close(self) -> None:
        """Leave Kafka."""
        self._consumer.close()

    def _assign(self, partitions: Sequence[int]) -> None:
        topic, timeout = self._settings.topic, self._settings.kafka_timeout
        wanted = [TopicPartition(topic, partition) for partition in partitions]
        for entry in calling(self._settings, lambda: self._consumer.committed(wanted, timeout=timeout)):
            if entry.offset != OFFSET_INVALID and entry.offset >= 0:
                self._committed[entry.partition] = entry.offset
                self.notes[entry.partition] = entry.metadata or ""
        for partition in partitions:
            self._positions[partition] = self._received[partition] = self._begin(partition)
        self._begun_at = dict(self._positions)
        self._read_on()

    def _begin(self, partition: int) -> int:
        """Where a partition is read from: what was committed, or its beginning."""
        low, high = calling(self._settings, lambda: self._bounds(partition))
        # A group that has lost its offsets reads again what is left; what is not left was read, up to there.
        unknown = min(low, max(0, self._reached.get(partition, self._base + low) - self._base))
        return self._within(partition, self._committed.get(partition, unknown), low, high)

    def _within(self, partition: int, offset: int, low: int, high: int) -> int:
        """An offset to read from, or the first one that is left; what retention removed in between is kept in mind.

        Raises:
            LogChanged: It lies beyond the end.
        """
        if offset > high:
            raise LogChanged(truncated(self._settings, partition, offset, high))
        if offset < low:
            first, last = self._base + offset, self._base + low - 1
            self._lost.append(OffsetRange(self._settings.topic, partition, first, last))
            self.taken_by_retention[partition] += low - offset
        return max(offset, low)

    def _resume_in_range(self) -> None:
        """Where the next offset is none of a partition's, retention has removed it, or the log was cut off."""
        if not self._out_of_range:
            return
        for partition in self._out_of_range:
            low, high = calling(self._settings, lambda: self._bounds(partition))  # noqa: B023 (called at once)
            self._received[partition] = self._within(partition, self._received[partition], low, high)
        self._out_of_range.clear()
        self._read_on()

    def _read_on(self) -> None:
        """Fetch from what comes next in every partition; what the client has fetched ahead it fetches again."""
        topic = self._settings.topic
        self._consumer.assign([TopicPartition(topic, p, offset) for p, offset in self._received.items()])

    def _step_over(self) -> None:
        """Pass offsets that hold no record, where nothing before them waits to be given out."""
        for partition, offset in self._positions.items():
            if self._cutter.empty or self._received[partition] <= offset:
                self._positions[partition] = max(offset, self._received[partition], self._ends.get(partition, 0))

    def _bounds(self, partition: int) -> tuple[int, int]:
        entry = TopicPartition(self._settings.topic, partition)
        low, high = self._consumer.get_watermark_offsets(entry, timeout=self._settings.kafka_timeout)
        return low, high

    def _lag(self, partition: int) -> int:
        low, high = self._bounds(partition)
        return max(0, high - max(low, self._positions[partition]))

    def _known_lag(self, partition: int) -> int:
        entry = TopicPartition(self._settings.topic, partition)
        _, high = self._consumer.get_watermark_offsets(entry, cached=True)
        return max(0, high - self._positions[partition])

    def _is_idle(self, silence: float) -> bool:
        self._step_over()
        # What waits and does not come in all that time is the next run's to wait for.
        return sum(self.lag().values()) == 0 or silence >= SILENCE_SECONDS + self._settings.idle

    def _good(self, record: Any) -> bool:
        """Whether it is a record, and not something that the client has to say."""
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
        raise plain(self._settings, failure)
