"""Is the topic of events the log that was processed? Its identity is kept in MongoDB, and compared with Kafka's.

A topic that was deleted and created again, moved to another cluster or cut off has records at offsets that were applied
before: the guards would skip them. So nothing is read before this has been looked at, and a lane looks again every
second. `adopt` accepts the topic as it is now as a new log, whose offsets lie above all that were ever applied.

Kept beside it: how far each partition was committed, when partitions were added, and what retention removed unread.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from pymongo import UpdateOne

from truepixel_dagster.events.origin import base_of, generation_of, kafka_offset, offset_text
from truepixel_dagster.resources import Stores
from truepixel_dagster.settings import Settings
from truepixel_dagster.stores import identities
from truepixel_dagster.stores.mongodb import IDENTITIES, MongoStore
from truepixel_dagster.stream import topics
from truepixel_dagster.stream.errors import ADOPT, LogChanged, truncated
from truepixel_dagster.stream.events_log import EventsLog
from truepixel_dagster.stream.micro_batch import OffsetRange
from truepixel_dagster.stream.topics import IdentityReader, LogIdentity, PartitionLag

TOPIC, LOST = "topic", "lost_records"
WATCH_SECONDS = 1.0


class PartitionChange(msgspec.Struct, frozen=True):
    """The topic was seen with more partitions than before: how many, when (ms), and each one's end by then."""

    count: int
    at: int
    ends: dict[str, int]


class KnownLog(msgspec.Struct, frozen=True):
    """What is kept of the topic of events; `began_at` in milliseconds since the epoch."""

    topic_id: str
    cluster_id: str
    partitions: int
    began_at: int = 0
    generation: int = 0
    changes: list[PartitionChange] = []
    reached: dict[str, int] = {}


class LostRange(msgspec.Struct, frozen=True):
    """Offsets that retention removed before they were committed, both ends included; found at (ms)."""

    partition: int
    first: int
    last: int
    found_at: int

    def __str__(self) -> str:
        first, last = offset_text(self.first), kafka_offset(self.last)
        return f"partition {self.partition}: {first}..{last}"


def known(store: MongoStore) -> KnownLog | None:
    """Return what is kept of the topic; None before the first `setup` or lane.

    Raises:
        Unavailable: MongoDB does not answer.
    """
    kept = identities.read(store, TOPIC)
    return None if kept is None else msgspec.convert(kept, KnownLog)


def remember(settings: Settings, store: MongoStore) -> KnownLog:
    """Keep the topic's identity unless one is kept already, and return the one that is kept.

    Raises:
        NoTopic: The topic does not exist.
        KafkaUnavailable, Unavailable: A server does not answer.
    """
    if kept := known(store):
        return kept
    new = _begun(IdentityReader(settings).read(), topics.bounds(settings)[1], 0)
    return msgspec.convert(identities.begin(store, TOPIC, msgspec.to_builtins(new)), KnownLog)


def checked(settings: Settings, stores: Stores, partitions: Sequence[PartitionLag] | None = None) -> EventsLog:
    """Return the topic of events, if it is the log that was processed; arguments and errors are those of `verified`."""
    return EventsLog(settings, verified(settings, stores, partitions).generation)


def verified(
    settings: Settings,
    stores: Stores,
    partitions: Sequence[PartitionLag] | None = None,
    reader: IdentityReader | None = None,
) -> KnownLog:
    """Return what is kept of the topic, if it is the log that was processed; the first look keeps its identity.

    Arguments:
        settings: The pipeline's settings.
        stores: MongoDB holds the identity, Redis the offsets that were applied.
        partitions: The lag, where it was measured already.
        reader: A connection to ask Kafka over; one of its own by default.

    Raises:
        LogChanged: It is another log, or was cut off; one line says what happened and what to do.
        NoTopic: It does not exist.
        KafkaUnavailable, Unavailable: A server does not answer.
    """
    kept = remember(settings, stores.mongodb)
    now = (reader or IdentityReader(settings)).read()
    compare(settings, kept, now)
    # Before Kafka's ends: a lane that is at work moves them, and never the other way round.
    applied = stores.redis.last_applied(range(max(now.partitions, kept.partitions)))
    _check_ends(settings, kept, applied, partitions or topics.lag(settings))
    if now.partitions > kept.partitions:
        _keep_partitions(settings, stores.mongodb, kept, now.partitions)
    return kept


def compare(settings: Settings, kept: KnownLog, now: LogIdentity) -> None:
    """Compare the identity that is kept with Kafka's; one that Kafka does not give says nothing.

    Raises:
        LogChanged: They differ.
    """
    where = f"Kafka topic {settings.topic} at {settings.kafka_bootstrap}"
    if kept.cluster_id and now.cluster_id and kept.cluster_id != now.cluster_id:
        raise LogChanged(
            f"{where} is in another cluster ({now.cluster_id}) than the records processed so far"
            f" ({kept.cluster_id}). {ADOPT}"
        )
    if kept.topic_id and now.topic_id and kept.topic_id != now.topic_id:
        raise LogChanged(
            f"{where} was deleted and created again: its id is {now.topic_id}, and records of {kept.topic_id} were"
            f" processed so far. {ADOPT}"
        )


def _check_ends(
    settings: Settings, kept: KnownLog, applied: Mapping[int, int], partitions: Sequence[PartitionLag]
) -> None:
    """Raise LogChanged where a partition ends below what was committed or applied."""
    base = base_of(kept.generation)
    reached = {}
    for entry in partitions:
        marks = (kept.reached.get(str(entry.partition), 0), applied.get(entry.partition, -1) + 1)
        own = [mark - base for mark in marks if mark > base]
        reached[entry.partition] = max([entry.committed or 0, *own])
    if all(reached[entry.partition] <= entry.high for entry in partitions):
        return
    # The lag was measured before: a lane may have gone on since.
    _, ends = topics.bounds(settings)
    for partition, mark in reached.items():
        if mark > ends.get(partition, mark):
            raise LogChanged(truncated(settings, partition, mark, ends[partition]))


def _keep_partitions(settings: Settings, store: MongoStore, kept: KnownLog, count: int) -> None:
    """Keep that partitions were added, and where the others ended by then; the first of several writers wins."""
    change = PartitionChange(count, _now(), _ends(topics.bounds(settings)[1], kept.generation))
    update = {"$set": {"partitions": count}, "$push": {"changes": msgspec.to_builtins(change)}}
    store.write(IDENTITIES, [UpdateOne({"_id": TOPIC, "partitions": kept.partitions}, update)])


def keep_reached(store: MongoStore, offsets: Mapping[int, int]) -> None:
    """Keep up to where partitions are committed, outside of Kafka.

    Raises:
        Unavailable: MongoDB does not answer.
    """
    if offsets:
        identities.raise_to(store, TOPIC, {f"reached.{partition}": offset for partition, offset in offsets.items()})


def keep_lost(store: MongoStore, ranges: Iterable[OffsetRange]) -> None:
    """Keep what retention removed before it was read; the same range again changes nothing.

    Raises:
        Unavailable: MongoDB does not answer.
    """
    found = {f"{each.partition}/{each.first}": each.last for each in ranges}
    if found:
        now = _now()
        identities.raise_to(store, LOST, {f"last.{place}": last for place, last in found.items()})
        identities.raise_to(store, LOST, {f"found_at.{place}": now for place in found})


def lost_records(store: MongoStore) -> list[LostRange]:
    """Return what retention removed before it was read, in order, ranges that meet as one.

    Raises:
        Unavailable: MongoDB does not answer.
    """
    kept = identities.read(store, LOST) or {"last": {}, "found_at": {}}
    ranges = []
    for place, last in kept["last"].items():
        partition, first = place.split("/")
        ranges.append(LostRange(int(partition), int(first), last, kept["found_at"].get(place, 0)))
    return merged(ranges)


def merged(ranges: Iterable[LostRange]) -> list[LostRange]:
    """Return ranges in order, those of a partition that meet or overlap as one."""
    result: list[LostRange] = []
    for new in sorted(ranges, key=lambda each: (each.partition, each.first)):
        old = result[-1] if result else None
        if old is None or old.partition != new.partition or new.first > old.last + 1:
            result.append(new)
        else:
            last, at = max(old.last, new.last), max(old.found_at, new.found_at)
            result[-1] = LostRange(old.partition, old.first, last, at)
    return result


def count_of(ranges: Iterable[LostRange]) -> int:
    """Return how many offsets the ranges have."""
    return sum(each.last - each.first + 1 for each in ranges)


class LogWatch:
    """Looks once a second whether the topic is still the log that a lane reads.

    Arguments:
        settings: Which topic.
        kept: The log that the lane was started for.
        partitions: How many partitions it had when they were shared out among the lanes.
        reader: A connection to ask Kafka over.
    """

    def __init__(self, settings: Settings, kept: KnownLog, partitions: int, reader: IdentityReader) -> None:
        self._settings = settings
        self._kept = kept
        self._partitions = partitions
        self._reader = reader
        self._looked_at = float("-inf")
        #: Whether the topic has more partitions than when the lane was started: its lanes are others now.
        self.has_grown = False

    def check(self) -> None:
        """Look, unless a look was made within the last second.

        Raises:
            LogChanged: It is another log.
            NoTopic: It does not exist any more.
            KafkaUnavailable: Kafka does not answer.
        """
        now = time.monotonic()
        if now - self._looked_at < WATCH_SECONDS:
            return
        found = self._reader.read()
        compare(self._settings, self._kept, found)
        self.has_grown = found.partitions > self._partitions
        self._looked_at = now


# --- A new log ---


class Adoption(msgspec.Struct, frozen=True):
    """What `adopt` does, or would do: the log that ends, the one that begins, and why."""

    reason: str
    before: KnownLog
    after: KnownLog


def plan_adoption(settings: Settings, stores: Stores) -> Adoption | None:
    """Return what it takes to accept the topic as it is now as a new log; None where it is the one that was processed.

    Raises:
        NoTopic: The topic does not exist.
        KafkaUnavailable, Unavailable: A server does not answer.
    """
    before = remember(settings, stores.mongodb)
    try:
        checked(settings, stores)
    except LogChanged as changed:
        reason = str(changed).removesuffix(f" {ADOPT}")
    else:
        return None
    # Redis knows of later logs than MongoDB where MongoDB was emptied or restored from an old backup.
    applied = [generation_of(offset) for offset in stores.redis.applied_now().values() if offset > 0]
    generation = max([before.generation, *applied]) + 1
    after = _begun(IdentityReader(settings).read(), topics.bounds(settings)[1], generation)
    return Adoption(reason, before, after)


def adopt(settings: Settings, stores: Stores, adoption: Adoption) -> None:
    """Begin a new log: its records are read from its beginning, and all of them are new to the guards.

    The caller owns the leases of all partitions. A crash in between is put right by doing it again.

    Raises:
        LogChanged: Somebody else began another log meanwhile.
        KafkaError, Unavailable: A server does not answer.
    """
    low, _ = topics.bounds(settings)
    # First: what the group committed of the old log must not be skipped in the new one.
    topics.reset_offsets(settings, low)
    new = msgspec.to_builtins(adoption.after)
    reached = {**adoption.before.reached}
    fields = {"$set": {**new, "reached": reached}, "$push": {"older": _summary(adoption.before)}}
    was = {"_id": TOPIC, "generation": adoption.before.generation}
    stores.mongodb.write(IDENTITIES, [UpdateOne(was, fields)])
    now = known(stores.mongodb)
    if now is None or (now.generation, now.topic_id) != (adoption.after.generation, adoption.after.topic_id):
        raise LogChanged(f"Kafka topic {settings.topic}: another log was begun meanwhile; look again")


def _begun(identity: LogIdentity, ends: Mapping[int, int], generation: int) -> KnownLog:
    now = _now()
    # What lies there already may be older than a change of partitions that nobody saw.
    change = PartitionChange(identity.partitions, now, _ends(ends, generation))
    return KnownLog(identity.topic_id, identity.cluster_id, identity.partitions, now, generation, [change])


def _summary(before: KnownLog) -> dict[str, Any]:
    kept: dict[str, Any] = msgspec.to_builtins(before)
    return {name: kept[name] for name in ("topic_id", "cluster_id", "generation", "began_at")} | {"ended_at": _now()}


def _ends(offsets: Mapping[int, int], generation: int) -> dict[str, int]:
    return {str(partition): base_of(generation) + offset for partition, offset in offsets.items()}


def _now() -> int:
    return int(time.time() * 1000)
