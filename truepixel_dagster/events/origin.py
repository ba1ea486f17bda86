"""The position of a record in Kafka, which distinguishes a redelivery from a duplicate.

    >>> from truepixel_dagster.events.origin import Origin, base_of
    >>> first, recreated = Origin("shop.events", 3, 57), Origin("shop.events", 3, base_of(1) + 2)
    >>> str(first), str(recreated), first < recreated
    ('shop.events/3/57', 'shop.events/3/2@1', True)

Offsets restart at 0 when a topic is deleted and created again, or moved to another cluster. Each such log has a number,
its generation, from 0. An origin's `offset` is Kafka's offset plus 2^40 for each earlier log. So a record of a new log
is above every record of an older one, and guards by offset need nothing else.
"""

from __future__ import annotations

import msgspec

# More records than a partition will ever hold. JSON's integers and Elasticsearch's long have room for 8,191 logs.
GENERATION = 1 << 40


class Origin(msgspec.Struct, frozen=True, order=True):
    """Hold topic, partition and offset of one Kafka record; the offset counts over all logs."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{offset_text(self.offset)}"


def base_of(generation: int) -> int:
    """Return the number that is added to Kafka's offsets in a log."""
    return generation * GENERATION


def kafka_offset(offset: int) -> int:
    """Return Kafka's own offset of a record."""
    return offset % GENERATION


def generation_of(offset: int) -> int:
    """Return the number of the log that holds a record."""
    return offset // GENERATION


def offset_text(offset: int) -> str:
    """Return Kafka's own offset, with `@` and the log's number for logs after the first: `57`, `57@1`."""
    generation = generation_of(offset)
    return f"{kafka_offset(offset)}@{generation}" if generation else str(offset)
