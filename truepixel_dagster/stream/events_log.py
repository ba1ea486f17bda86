"""The topic of events as the pipeline reads it: every offset counted over all logs (`events/origin.py`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from truepixel_dagster.access import KafkaAccess
from truepixel_dagster.events.event import Message
from truepixel_dagster.events.origin import Origin, base_of
from truepixel_dagster.stream import reading, topics
from truepixel_dagster.stream.topics import PartitionLag


class EventsLog(msgspec.Struct, frozen=True):
    """One log of the topic of events. To read records or compare offsets, get it from `source_log.checked`."""

    kafka: KafkaAccess
    generation: int = 0

    @property
    def base(self) -> int:
        """Return the number that is added to Kafka's offsets."""
        return base_of(self.generation)

    def lag(self) -> list[PartitionLag]:
        """Return the same as `topics.lag`; offsets committed in an older log do not count."""
        return [self._shifted(entry) for entry in topics.lag(self.kafka)]

    def committed(self) -> dict[int, int]:
        """Return the committed offset of each partition; without one, the log's beginning."""
        return {entry.partition: entry.committed or self.base for entry in self.lag()}

    def ends(self) -> dict[int, int]:
        """Return the offset of the next record of each partition."""
        _, high = topics.bounds(self.kafka)
        return {partition: self.base + offset for partition, offset in high.items()}

    def offsets_at(self, millis: int) -> dict[int, int]:
        """Return the same as `topics.offsets_at`."""
        found = topics.offsets_at(self.kafka, millis)
        return {partition: self.base + offset for partition, offset in found.items()}

    def read_all(
        self, *, first: Mapping[int, int] | None = None, end: Mapping[int, int] | None = None
    ) -> Iterator[Message]:
        """Yield the same as `reading.read_all`."""
        found = reading.read_all(self.kafka, first=self._kafka(first), end=self._kafka(end))
        return map(self._counted, found)

    def read_at(self, offsets: Mapping[int, Sequence[int]]) -> Iterator[Message]:
        """Yield the same as `reading.read_at`; omit offsets of other logs."""
        base, own = self.base, {}
        for partition, wanted in offsets.items():
            if here := [offset - base for offset in wanted if offset >= base]:
                own[partition] = here
        return map(self._counted, reading.read_at(self.kafka, self.kafka.topic, own))

    def _shifted(self, entry: PartitionLag) -> PartitionLag:
        committed = None if entry.committed is None else self.base + entry.committed
        return msgspec.structs.replace(
            entry, low=self.base + entry.low, high=self.base + entry.high, committed=committed
        )

    def _kafka(self, offsets: Mapping[int, int] | None) -> dict[int, int] | None:
        if offsets is None:
            return None
        return {partition: max(0, offset - self.base) for partition, offset in offsets.items()}

    def _counted(self, message: Message) -> Message:
        if not self.base:
            return message
        origin = message.origin
        return msgspec.structs.replace(
            message, origin=Origin(origin.topic, origin.partition, self.base + origin.offset)
        )
