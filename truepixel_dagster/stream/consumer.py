"""The Kafka side of a lane: fetches micro-batches from assigned partitions and commits their offsets."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from confluent_kafka import OFFSET_INVALID, Consumer, KafkaException, TopicPartition

from truepixel_dagster.settings import Settings
from truepixel_dagster.stream.client_config import MAX_MESSAGE_BYTES, client_config
from truepixel_dagster.stream.errors import Denials, calling, is_transient, plain
from truepixel_dagster.stream.micro_batch import Cutter, MicroBatch
from truepixel_dagster.stream.topics import to_message

# `consume` waits for all that it is asked for or for its whole timeout, so a linger is made of short calls.
POLL_SECONDS = 0.02
# The first fetch after an assignment takes up to a second: silence until then says nothing.
SILENCE_SECONDS = 15.0


class EventConsumer:
    """Reads the partitions of a lane, from their committed offsets on.

    Arguments:
        settings: Which topic, group and budgets.
        partitions: The partitions of the lane.

    Raises:
        KafkaError: Kafka does not answer, or has no such topic.
    """

    def __init__(self, settings: Settings, partitions: Sequence[int]) -> None:
        self._settings = settings
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
                "auto.offset.reset": "earliest",
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
        self._positions: dict[int, int] = {}
        self._committed: dict[int, int] = {}
        #: Messages that retention took before they were read, by partition.
        self.taken_by_retention: dict[int, int] = {}
        if partitions:
            self._assign(partitions)

    def fetch(self) -> MicroBatch | None:
        """The next micro-batch: full, or what has come when the linger is over; None when the lane is idle.

        Idle means that no message came for `settings.idle` seconds and none is waiting.

        Raises:
            KafkaDenied: Kafka lets us in no more.
            KafkaUnavailable: Messages wait and none can be fetched.
        """
        if not self._positions:
            return None
        started = time.monotonic()
        first_at = started if not self._cutter.empty else None
        while self._cutter.room:
            now = time.monotonic()
            if first_at is not None and now - first_at >= self._settings.linger:
                break
            if first_at is None and now - started >= self._settings.idle and self._is_idle(now - started):
                return None
            records = self._consumer.consume(self._cutter.room, timeout=POLL_SECONDS)
            self._denials.check()
            if records:
                self._cutter.add([to_message(record) for record in records if self._good(record)])
                first_at = first_at or (time.monotonic() if not self._cutter.empty else None)
        batch = self._cutter.take()
        for partition, offsets in batch.ranges.items():
            self._positions[partition] = offsets.last + 1
        return batch

    def commit(self, offsets: Mapping[int, int], guard: Callable[[], None] = lambda: None) -> None:
        """Commit the next offset to read of some partitions; never backward.

        Arguments:
            offsets: By partition.
            guard: Called before each try; it raises where the lane is no longer ours.

        Raises:
            KafkaUnavailable: No acknowledgement after all tries.
        """
        forward = {p: offset for p, offset in offsets.items() if offset > self._committed.get(p, -1)}
        if not forward:
            return
        wanted = [TopicPartition(self._settings.topic, p, offset) for p, offset in forward.items()]

        def commit() -> None:
            guard()
            for entry in self._consumer.commit(offsets=wanted, asynchronous=False) or ():
                if entry.error is not None:
                    raise KafkaException(entry.error)

        calling(self._settings, commit)
        self._committed.update(forward)

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
            low, _ = calling(self._settings, lambda entry=entry: self._bounds(entry.partition))  # type: ignore[misc]
            known = entry.offset != OFFSET_INVALID and entry.offset >= 0
            if known:
                self._committed[entry.partition] = entry.offset
            if known and entry.offset < low:
                self.taken_by_retention[entry.partition] = low - entry.offset
            self._positions[entry.partition] = max(low, entry.offset) if known else low
        self._consumer.assign([TopicPartition(topic, p, offset) for p, offset in self._positions.items()])

    def _bounds(self, partition: int) -> tuple[int, int]:
        entry = TopicPartition(self._settings.topic, partition)
        low, high = self._consumer.get_watermark_offsets(entry, timeout=self._settings.kafka_timeout)
        return low, high

    def _lag(self, partition: int) -> int:
        low, high = self._bounds(partition)
        return max(0, high - max(low, self._positions[partition]))

    def _is_idle(self, silence: float) -> bool:
        waiting = sum(self.lag().values())
        if waiting and silence >= SILENCE_SECONDS + self._settings.idle:
            # Offsets that hold no message for us (aborted transactions, compaction) are no lag to wait for.
            return True
        return waiting == 0

    def _good(self, record: Any) -> bool:
        error = record.error()
        if error is None:
            return True
        failure = KafkaException(error)
        if is_transient(failure):
            return False
        raise plain(self._settings, failure)
