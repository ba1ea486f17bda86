"""Check that Redis holds the counts of all committed records.

An offset is committed only after its batch was counted in Redis. So if a committed event is above Redis's applied
offset, Redis has lost the event's counts. Duplicates, and dead letters of the stages before the counters, move no
applied offset, so the event history decides.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import Any

from truepixel_dagster.access import KafkaAccess
from truepixel_dagster.dead_letters import topic as dead_letters
from truepixel_dagster.dead_letters.topic import COUNTED_AFTER
from truepixel_dagster.resources import Stores
from truepixel_dagster.stages.index import EVENTS
from truepixel_dagster.stores.epoch import ADVICE, StateLost

Place = tuple[int, int]


def check_applied(kafka: KafkaAccess, stores: Stores, committed: Mapping[int, int], base: int = 0) -> None:
    """Check that Redis has its epoch and has counted every event below the committed offsets.

    This takes two requests if the last record of each partition was counted, and otherwise a search in the history.

    Arguments:
        kafka: Access to Kafka.
        stores: The stores to check.
        committed: The committed offsets: the next offset to read, by partition.
        base: The first offset of the log: uncommitted records of an older log were never counted.

    Raises:
        StateLost: Redis lacks its epoch, or the count of a committed event.
        KafkaError, Unavailable: A server does not answer.
    """
    applied = stores.redis.last_applied(sorted(committed))
    reached = {partition: max(applied.get(partition, -1), base - 1) for partition in committed}
    behind = {p: (reached[p], end - 1) for p, end in committed.items() if reached[p] < end - 1}
    if not behind:
        return
    excused: AbstractSet[Place] | None = None
    for place in _indexed(stores, behind):
        if excused is None:
            excused = _not_counted(kafka, stores)
        if place not in excused:
            partition, offset = place
            raise StateLost(
                f"Redis ({kafka.namespace}:applied) has counted partition {partition} only up to offset"
                f" {applied.get(partition, -1)}, but the event at offset {offset} is committed: it is an older copy."
                f" {ADVICE}"
            )


def _indexed(stores: Stores, behind: Mapping[int, Place]) -> Iterator[Place]:
    """Yield the positions of events within ranges of offsets, above the first offset and up to the second."""
    ranges: list[Any] = [
        {
            "bool": {
                "filter": [
                    {"term": {"kafka.partition": partition}},
                    {"range": {"kafka.offset": {"gt": after, "lte": last}}},
                ]
            }
        }
        for partition, (after, last) in behind.items()
    ]
    store = stores.elasticsearch
    store.refresh()
    for hit in store.scan(f"{EVENTS}-", {"bool": {"should": ranges, "minimum_should_match": 1}}, fields=["kafka"]):
        yield hit["_source"]["kafka"]["partition"], hit["_source"]["kafka"]["offset"]


def _not_counted(kafka: KafkaAccess, stores: Stores) -> set[Place]:
    """Return the records that the stream did not count: dead letters of earlier stages, and reprocessed ones."""
    letters = (dead.letter for dead in dead_letters.read(kafka) if dead.letter.stage not in COUNTED_AFTER)
    return {(letter.origin.partition, letter.origin.offset) for letter in letters} | stores.redis.replayed()
