"""Where a record stands in Kafka: what tells a redelivery from a duplicate.

Offsets begin at 0 again when a topic is deleted and created again, or moved to another cluster. Each such log has a
number, its generation, from 0. An origin's `offset` is Kafka's offset plus 2^40 for each log before its own, so that a
record of a new log lies above every record of an older one, and whatever is guarded by offsets needs no more than that.
"""

from __future__ import annotations

import msgspec

# More records than a partition will ever hold. JSON's integers and Elasticsearch's long have room for 8,191 logs.
GENERATION = 1 << 40


class Origin(msgspec.Struct, frozen=True, order=True):
    """Topic, partition and offset of one Kafka record, its offset counted over all logs."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{offset_text(self.offset)}"


def base_of(generation: int) -> int:
    """What is added to Kafka's offsets in a log."""
    return generation * GENERATION


def kafka_offset(offset: int) -> int:
    """Kafka's own offset of a record."""
    return offset % GENERATION


def generation_of(offset: int) -> int:
    """The number of the log that holds a record."""
    return offset // GENERATION


def offset_text(offset: int) -> str:
    """Kafka's own offset, and `@` with the number of the log for those after the first: `57`, `57@1`."""
    generation = generation_of(offset)
    return f"{kafka_offset(offset)}@{generation}" if generation else str(offset)
