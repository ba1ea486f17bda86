"""What the stream has settled, so that a rebuild and the stream never both count a record, and never neither."""

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
    """The committed offset of each partition, the stage at which records wait as dead letters, and which came back.

    Every stage of a record below its partition's committed offset is done. Of one above it the stream may still be at
    work: whether it counts is told by the document that would hold it.
    """

    committed: Mapping[int, int]
    waiting: Mapping[tuple[int, int], str]
    returned: AbstractSet[tuple[int, int]]
    base: int = 0

    def is_committed(self, origin: Origin) -> bool:
        """Whether the stream is through with a record: with all of an older log, whatever it had not come to."""
        return origin.offset < self.base or origin.offset < self.committed.get(origin.partition, 0)

    def passed(self, stage: str, event: Event) -> bool:
        """Whether no dead letter of this stage or one before it keeps an event back."""
        stopped = self.waiting.get((event.origin.partition, event.origin.offset))
        return stopped is None or REJECTING.index(stopped) > REJECTING.index(stage)

    def has_returned(self, origin: Origin) -> bool:
        """Whether a record was a dead letter and has been replayed."""
        return (origin.partition, origin.offset) in self.returned


def read_stream_progress(log: EventsLog, stores: Stores) -> StreamProgress:
    """Ask Kafka and Redis. Memory grows with the number of dead letters, about 1 KiB each.

    Raises:
        KafkaUnavailable, Unavailable: A server does not answer.
    """
    committed = log.committed()
    letters = dead_letters.newest(dead_letters.read(log.settings))
    returned = stores.redis.replayed()
    at = {(origin.partition, origin.offset): letter.stage for origin, letter in letters.items()}
    return StreamProgress(
        committed, {key: stage for key, stage in at.items() if key not in returned}, returned, log.base
    )
