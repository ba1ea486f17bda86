"""Does Redis hold what the committed offsets say was counted?

An offset is committed only after its batch was counted in Redis, so a Redis whose applied offset is below an event that
is committed has lost what that event added. Not every committed record adds something: duplicates and dead letters of
the stages before the counters move no applied offset. So the event history decides.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import Any

from truepixel_dagster.dead_letters import topic as dead_letters
from truepixel_dagster.dead_letters.topic import COUNTED_AFTER
from truepixel_dagster.resources import Stores
from truepixel_dagster.settings import Settings
from truepixel_dagster.stages.index import EVENTS
from truepixel_dagster.stores.epoch import ADVICE, StateLost

Place = tuple[int, int]


def check_applied(settings: Settings, stores: Stores, committed: Mapping[int, int], base: int = 0) -> None:
    """Make sure that Redis has its epoch, and has counted every event below the committed offsets.

    Two requests where the last record of each partition was counted; a search in the history where it was not.

    Arguments:
        settings: The pipeline's settings.
        stores: Where.
        committed: The next offset to read by partition, as committed.
        base: Where the log begins: what an older log held beyond its committed offsets was never counted.

    Raises:
        StateLost: It has not.
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
            excused = _not_counted(settings, stores)
        if place not in excused:
            partition, offset = place
            raise StateLost(
                f"Redis ({settings.namespace}:applied) has counted partition {partition} up to offset"
                f" {applied.get(partition, -1)} only, and the event of offset {offset} is committed: it is an older"
                f" copy. {ADVICE}"
            )


def _indexed(stores: Stores, behind: Mapping[int, Place]) -> Iterator[Place]:
    """Where the events of some ranges of offsets stand: above the first offset, up to the second."""
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


def _not_counted(settings: Settings, stores: Stores) -> set[Place]:
    """The records that the stream did not count: dead letters of a stage before the counters, and those replayed."""
    letters = (dead.letter for dead in dead_letters.read(settings) if dead.letter.stage not in COUNTED_AFTER)
    return {(letter.origin.partition, letter.origin.offset) for letter in letters} | stores.redis.replayed()
