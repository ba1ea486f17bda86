"""Check that the topic of events is the log that was processed: MongoDB stores its identity, and Kafka's must match.

A topic that was deleted and created again, moved to another cluster or truncated has new records at offsets that were
applied before, and the guards would skip them. So this check precedes every read, and a lane repeats it every second.
`adopt` accepts the current topic as a new log, whose offsets are above all that were ever applied.

MongoDB also stores each partition's committed offset, when partitions were added, and what retention removed unread.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from truepixel_dagster.access import KafkaAccess
from truepixel_dagster.events.origin import base_of, generation_of, kafka_offset, offset_text
from truepixel_dagster.resources import Stores
from truepixel_dagster.stores import identities
from truepixel_dagster.stores.mongodb import IDENTITIES, MongoStore, UpdateOne
from truepixel_dagster.stream import topics
from truepixel_dagster.stream.errors import ADOPT, LogChanged, truncated
from truepixel_dagster.stream.events_log import EventsLog
from truepixel_dagster.stream.micro_batch import OffsetRange
from truepixel_dagster.stream.topics import IdentityReader, LogIdentity, PartitionLag

TOPIC, LOST = "topic", "lost_records"
WATCH_SECONDS = 1.0


class PartitionChange(msgspec.Struct, frozen=True):
    """Hold an increase of the number of partitions: the new number, when it was noticed (ms), and each end then."""

    count: int
    at: int
    ends: dict[str, int]


class KnownLog(msgspec.Struct, frozen=True):
    """Hold the stored facts about the topic of events. `began_at` is in milliseconds since the epoch."""

    topic_id: str
    cluster_id: str
    partitions: int
    began_at: int = 0
    generation: int = 0
    changes: list[PartitionChange] = []
    reached: dict[str, int] = {}


class LostRange(msgspec.Struct, frozen=True):
    """Hold offsets that retention removed before they were committed, both ends included. `found_at` is in ms."""

    partition: int
    first: int
    last: int
    found_at: int

    def __str__(self) -> str:
        first, last = offset_text(self.first), kafka_offset(self.last)
        return f"partition {self.partition}: {first}..{last}"


def known(store: MongoStore) -> KnownLog | None:
    """Return the stored facts about the topic; None before the first `setup` or lane.

    Raises:
        Unavailable: MongoDB does not answer.
    """
    kept = identities.read(store, TOPIC)
    return None if kept is None else msgspec.convert(kept, KnownLog)


def remember(kafka: KafkaAccess, store: MongoStore) -> KnownLog:
    """Store the topic's identity unless one is stored already, and return the stored one.

    Raises:
        NoTopic: The topic does not exist.
        KafkaUnavailable, Unavailable: A server does not answer.
    """
    if kept := known(store):
        return kept
    new = _begun(IdentityReader(kafka).read(), topics.bounds(kafka)[1], 0)
    return msgspec.convert(identities.begin(store, TOPIC, msgspec.to_builtins(new)), KnownLog)


def checked(kafka: KafkaAccess, stores: Stores, partitions: Sequence[PartitionLag] | None = None) -> EventsLog:
    """Return the topic of events after checking it; arguments and errors are those of `verified`."""
    return EventsLog(kafka, verified(kafka, stores, partitions).generation)


def verified(
    kafka: KafkaAccess,
    stores: Stores,
    partitions: Sequence[PartitionLag] | None = None,
    reader: IdentityReader | None = None,
) -> KnownLog:
    """Check that the topic is the log that was processed, and return what is stored; the first check stores it.

    Arguments:
        kafka: Access to Kafka.
        stores: MongoDB holds the identity, Redis the offsets that were applied.
        partitions: The lag, if it was measured already.
        reader: The connection to Kafka; a new one by default.

    Raises:
        LogChanged: The topic is another log, or was truncated; the message says what to do.
        NoTopic: The topic does not exist.
        KafkaUnavailable, Unavailable: A server does not answer.
    """
    kept = remember(kafka, stores.mongodb)
    now = (reader or IdentityReader(kafka)).read()
    compare(kafka, kept, now)
    # Read this before Kafka's ends: a running lane raises the applied offsets, never above the ends.
    applied = stores.redis.last_applied(range(max(now.partitions, kept.partitions)))
    _check_ends(kafka, kept, applied, partitions or topics.lag(kafka))
    if now.partitions > kept.partitions:
        _keep_partitions(kafka, stores.mongodb, kept, now.partitions)
    return kept


def compare(kafka: KafkaAccess, kept: KnownLog, now: LogIdentity) -> None:
    """Compare the stored identity with Kafka's; skip ids that Kafka does not report.

    Raises:
        LogChanged: They differ.
    """
    where = f"Kafka topic {kafka.topic} at {kafka.bootstrap}"
    if kept.cluster_id and now.cluster_id and kept.cluster_id != now.cluster_id:
        raise LogChanged(
            f"{where} is in another cluster ({now.cluster_id}) than the records processed so far"
            f" ({kept.cluster_id}). {ADOPT}"
        )
    if kept.topic_id and now.topic_id and kept.topic_id != now.topic_id:
        raise LogChanged(
            f"{where} was deleted and created again: its id is {now.topic_id}, and the records processed so far are"
            f" of {kept.topic_id}. {ADOPT}"
        )


def _check_ends(
    kafka: KafkaAccess, kept: KnownLog, applied: Mapping[int, int], partitions: Sequence[PartitionLag]
) -> None:
    """Raise LogChanged if a partition ends below a committed or applied offset."""
    base = base_of(kept.generation)
    reached = {}
    for entry in partitions:
        marks = (kept.reached.get(str(entry.partition), 0), applied.get(entry.partition, -1) + 1)
        own = [mark - base for mark in marks if mark > base]
        reached[entry.partition] = max([entry.committed or 0, *own])
    if all(reached[entry.partition] <= entry.high for entry in partitions):
        return
    # A lane may have made progress since the lag was measured.
    _, ends = topics.bounds(kafka)
    for partition, mark in reached.items():
        if mark > ends.get(partition, mark):
            raise LogChanged(truncated(kafka, partition, mark, ends[partition]))


def _keep_partitions(kafka: KafkaAccess, store: MongoStore, kept: KnownLog, count: int) -> None:
    """Store that partitions were added, and the ends of the others; the first of several writers wins."""
    change = PartitionChange(count, _now(), _ends(topics.bounds(kafka)[1], kept.generation))
    update = {"$set": {"partitions": count}, "$push": {"changes": msgspec.to_builtins(change)}}
    store.write(IDENTITIES, [UpdateOne({"_id": TOPIC, "partitions": kept.partitions}, update)])


def keep_reached(store: MongoStore, offsets: Mapping[int, int]) -> None:
    """Store the committed offsets outside of Kafka.

    Raises:
        Unavailable: MongoDB does not answer.
    """
    if offsets:
        identities.raise_to(store, TOPIC, {f"reached.{partition}": offset for partition, offset in offsets.items()})


def keep_lost(store: MongoStore, ranges: Iterable[OffsetRange]) -> None:
    """Store ranges that retention removed before they were read; a repeated range changes nothing.

    Raises:
        Unavailable: MongoDB does not answer.
    """
    found = {f"{each.partition}/{each.first}": each.last for each in ranges}
    if found:
        now = _now()
        identities.raise_to(store, LOST, {f"last.{place}": last for place, last in found.items()})
        identities.raise_to(store, LOST, {f"found_at.{place}": now for place in found})


def lost_records(store: MongoStore) -> list[LostRange]:
    """Return the ranges that retention removed before they were read, in order, with adjacent ranges joined.

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
    """Return ranges in order, with adjacent and overlapping ranges of a partition joined."""
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
    """Check once a second that the topic is still the log that a lane reads.

    Arguments:
        kafka: Access to Kafka.
        kept: The log that the lane was started for.
        partitions: The number of partitions when they were divided among the lanes.
        reader: The connection to Kafka.
    """

    def __init__(self, kafka: KafkaAccess, kept: KnownLog, partitions: int, reader: IdentityReader) -> None:
        self._kafka = kafka
        self._kept = kept
        self._partitions = partitions
        self._reader = reader
        self._looked_at = float("-inf")
        #: Whether partitions were added since the lane started, so that the lanes have changed.
        self.has_grown = False

    def check(self) -> None:
        """Check the topic, unless it was checked within the last second.

        Raises:
            LogChanged: The topic is another log.
            NoTopic: The topic does not exist any more.
            KafkaUnavailable: Kafka does not answer.
        """
        now = time.monotonic()
        if now - self._looked_at < WATCH_SECONDS:
            return
        found = self._reader.read()
        compare(self._kafka, self._kept, found)
        self.has_grown = found.partitions > self._partitions
        self._looked_at = now


# --- A new log ---


class Adoption(msgspec.Struct, frozen=True):
    """Hold what `adopt` does, or would do: the log that ends, the log that begins, and the reason."""

    reason: str
    before: KnownLog
    after: KnownLog


def plan_adoption(kafka: KafkaAccess, stores: Stores) -> Adoption | None:
    """Return the plan to accept the current topic as a new log; None if it is the log that was processed.

    Raises:
        NoTopic: The topic does not exist.
        KafkaUnavailable, Unavailable: A server does not answer.
    """
    before = remember(kafka, stores.mongodb)
    try:
        checked(kafka, stores)
    except LogChanged as changed:
        reason = str(changed).removesuffix(f" {ADOPT}")
    else:
        return None
    # Redis has offsets of later logs than MongoDB if MongoDB was emptied or restored from an old backup.
    applied = [generation_of(offset) for offset in stores.redis.applied_now().values() if offset > 0]
    generation = max([before.generation, *applied]) + 1
    after = _begun(IdentityReader(kafka).read(), topics.bounds(kafka)[1], generation)
    return Adoption(reason, before, after)


def adopt(kafka: KafkaAccess, stores: Stores, adoption: Adoption) -> None:
    """Begin a new log: it is read from its beginning, and all of its records are new to the guards.

    The caller owns the leases of all partitions. After a crash in between, run it again.

    Raises:
        LogChanged: Another process began a new log in between.
        KafkaError, Unavailable: A server does not answer.
    """
    low, _ = topics.bounds(kafka)
    # Reset first: the group's offsets of the old log must not skip records of the new one.
    topics.reset_offsets(kafka, low)
    new = msgspec.to_builtins(adoption.after)
    reached = {**adoption.before.reached}
    fields = {"$set": {**new, "reached": reached}, "$push": {"older": _summary(adoption.before)}}
    was = {"_id": TOPIC, "generation": adoption.before.generation}
    stores.mongodb.write(IDENTITIES, [UpdateOne(was, fields)])
    now = known(stores.mongodb)
    if now is None or (now.generation, now.topic_id) != (adoption.after.generation, adoption.after.topic_id):
        raise LogChanged(f"Kafka topic {kafka.topic}: another process began a new log in between. Run this again")


def _begun(identity: LogIdentity, ends: Mapping[int, int], generation: int) -> KnownLog:
    now = _now()
    # Existing records may be older than an unnoticed increase of partitions.
    change = PartitionChange(identity.partitions, now, _ends(ends, generation))
    return KnownLog(identity.topic_id, identity.cluster_id, identity.partitions, now, generation, [change])


def _summary(before: KnownLog) -> dict[str, Any]:
    kept: dict[str, Any] = msgspec.to_builtins(before)
    return {name: kept[name] for name in ("topic_id", "cluster_id", "generation", "began_at")} | {"ended_at": _now()}


def _ends(offsets: Mapping[int, int], generation: int) -> dict[str, int]:
    return {str(partition): base_of(generation) + offset for partition, offset in offsets.items()}


def _now() -> int:
    return int(time.time() * 1000)
