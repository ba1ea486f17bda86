"""Which records the stream has processed, so that exactly one of a rebuild and the stream counts each record."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet

import msgspec

from truepixel_dagster.dead_letters import topic as dead_letters
from truepixel_dagster.events.event import Event
from truepixel_dagster.events.origin import Origin
from truepixel_dagster.resources import Stores
from truepixel_dagster.stages.stage import REJECTING
from truepixel_dagster.stream.events_log import EventsLog


class StreamProgress(msgspec.Struct, frozen=True):
    """Hold the committed offset of each partition, the stages that rejected records, and the reprocessed records.

    `waiting` has the stage of each waiting dead letter, `returned` the reprocessed ones, both by partition and offset.
    A record below its partition's committed offset has passed every stage. The stream may still be processing a record
    above it: the document that would count it says whether it counts.
    """

    committed: Mapping[int, int]
    waiting: Mapping[tuple[int, int], str]
    returned: AbstractSet[tuple[int, int]]
    base: int = 0

    def is_committed(self, origin: Origin) -> bool:
        """Return whether the stream has finished with a record. It has finished with every record of an older log."""
        return origin.offset < self.base or origin.offset < self.committed.get(origin.partition, 0)

    def passed(self, stage: str, event: Event) -> bool:
        """Return whether an event has no waiting dead letter of this stage or an earlier one."""
        stopped = self.waiting.get((event.origin.partition, event.origin.offset))
        return stopped is None or REJECTING.index(stopped) > REJECTING.index(stage)

    def has_returned(self, origin: Origin) -> bool:
        """Return whether a record was a dead letter and has been reprocessed."""
        return (origin.partition, origin.offset) in self.returned


def read_stream_progress(log: EventsLog, stores: Stores) -> StreamProgress:
    """Read the stream's progress from Kafka and Redis. Memory grows by about 1 KiB for each dead letter.

    Raises:
        KafkaUnavailable, Unavailable: A server does not answer.
    """
    committed = log.committed()
    letters = dead_letters.newest(dead_letters.read(log.kafka))
    returned = stores.redis.replayed()
    at = {(origin.partition, origin.offset): letter.stage for origin, letter in letters.items()}
    return StreamProgress(
        committed, {key: stage for key, stage in at.items() if key not in returned}, returned, log.base
    )
