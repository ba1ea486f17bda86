"""The topics themselves: created, measured, read through."""

from __future__ import annotations

import logging
import operator
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

import msgspec
from confluent_kafka import (
    OFFSET_INVALID,
    Consumer,
    ConsumerGroupTopicPartitions,
    IsolationLevel,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka import KafkaError as Code
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, OffsetSpec, ResourceType

from truepixel_dagster.events.event import DAY, Message
from truepixel_dagster.events.origin import Origin
from truepixel_dagster.settings import Settings
from truepixel_dagster.stream.client_config import MAX_MESSAGE_BYTES, client_config
from truepixel_dagster.stream.errors import Denials, LastWords, NoTopic, calling, denial, is_transient, plain

DEAD_LETTER_DAYS = 30
# A broker that does not let us in is asked again and again by the client: for so long at most.
LOOK_SECONDS = 1.0
# A topic that was made before Kafka gave topics ids.
_NO_ID = "AAAAAAAAAAAAAAAAAAAAAA"


class PartitionLag(msgspec.Struct, frozen=True):
    """One partition: first and next offset, the committed one if there is one, and how many messages wait.

    `high` is the end of what can be read: records of a transaction that is still open lie beyond it. `lost` counts the
    offsets that retention removed before they were committed.
    `note` is what stands beside the committed offset (`stream/commit_notes.py`).
    """

    partition: int
    low: int
    high: int
    committed: int | None
    lag: int
    lost: int = 0
    note: str = ""


class LogIdentity(msgspec.Struct, frozen=True):
    """What tells one log from another of the same name: the ids of topic and cluster; empty where Kafka has none."""

    topic_id: str
    cluster_id: str
    partitions: int


class TopicDurability(msgspec.Struct, frozen=True):
    """How a topic keeps its records: the fewest replicas of a partition, how many must have a record, who may lead."""

    replicas: int
    min_in_sync: int
    unclean_election: bool


def topic_durability(settings: Settings, name: str) -> TopicDurability:
    """Ask Kafka how a topic keeps its records.

    Raises:
        NoTopic: It does not exist.
        KafkaError: Kafka does not answer or refuses.
    """

    def look() -> TopicDurability:
        admin, timeout = _admin(settings), settings.kafka_timeout
        _partitions(settings, admin, timeout, name)  # says it if there is no such topic
        partitions = admin.list_topics(name, timeout=timeout).topics[name].partitions.values()
        (future,) = admin.describe_configs([ConfigResource(ResourceType.TOPIC, name)], request_timeout=timeout).values()
        config = {key: entry.value for key, entry in future.result().items()}
        return TopicDurability(
            min(len(partition.replicas) for partition in partitions),
            int(config["min.insync.replicas"]),
            config["unclean.leader.election.enable"] == "true",
        )

    return calling(settings, look)


def create_topics(settings: Settings) -> list[str]:
    """Create the topics of events and of dead letters if they are not there; returns the names of those created.

    Raises:
        KafkaError: Kafka does not answer or refuses.
    """
    # With three replicas or more, an acknowledged record survives the loss of one.
    in_sync = 2 if settings.kafka_replication >= 3 else 1
    common = {
        "max.message.bytes": str(MAX_MESSAGE_BYTES),
        "min.insync.replicas": str(in_sync),
        "unclean.leader.election.enable": "false",
    }
    dead = {**common, "retention.ms": str(DEAD_LETTER_DAYS * DAY)}
    topics = [
        NewTopic(name, settings.kafka_partitions, settings.kafka_replication, config=config)
        for name, config in ((settings.topic, common), (settings.dead_topic, dead))
    ]

    def create() -> list[str]:
        admin = _admin(settings)  # held: its futures end with it
        admin.list_topics(settings.topic, settings.kafka_timeout)  # says it if we are not let in
        futures = admin.create_topics(topics, operation_timeout=settings.kafka_timeout)
        return [name for name, future in futures.items() if _created(future)]

    return calling(settings, create)


def _created(future: Any) -> bool:
    try:
        future.result()
    except KafkaException as error:
        if error.args[0].code() == Code.TOPIC_ALREADY_EXISTS:
            return False
        raise
    return True


def ping(settings: Settings) -> None:
    """Ask Kafka for an answer, whatever topics there are.

    Raises:
        KafkaError: Kafka does not answer, or does not let us in.
    """
    calling(settings, lambda: _admin(settings).list_topics(timeout=settings.kafka_timeout))


def partition_count(settings: Settings) -> int:
    """How many partitions the topic of events has.

    Raises:
        NoTopic: It does not exist.
        KafkaUnavailable: Kafka does not answer.
    """
    return calling(
        settings, lambda: len(_partitions(settings, _admin(settings), settings.kafka_timeout, settings.topic))
    )


def lag(settings: Settings, timeout: float = 3.0, attempts: int = 2) -> list[PartitionLag]:
    """The lag of every partition of the topic of events, by partition.

    Arguments:
        settings: Which topic and group.
        timeout: Seconds for each of three requests.
        attempts: Tries after transient errors.

    Raises:
        NoTopic: It does not exist.
        KafkaUnavailable: Kafka does not answer in time.
    """

    def measure() -> list[PartitionLag]:
        admin = _admin(settings)
        partitions = _partitions(settings, admin, timeout, settings.topic)
        low, high = _bounds(admin, partitions, timeout)
        request = [ConsumerGroupTopicPartitions(settings.group, partitions)]
        (future,) = admin.list_consumer_group_offsets(request, request_timeout=timeout).values()
        committed = {entry.partition: entry for entry in future.result().topic_partitions}
        return [_lag(p.partition, low[p.partition], high[p.partition], committed[p.partition]) for p in partitions]

    return calling(settings, measure, attempts=attempts)


def _lag(partition: int, low: int, high: int, committed: TopicPartition) -> PartitionLag:
    if committed.offset == OFFSET_INVALID:
        return PartitionLag(partition, low, high, None, high - low)
    offset, note = committed.offset, committed.metadata or ""
    return PartitionLag(partition, low, high, offset, max(0, high - max(offset, low)), max(0, low - offset), note)


class IdentityReader:
    """Asks Kafka for the identity of the topic of events, again and again over one connection.

    Arguments:
        settings: Which topic.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._admin = _admin(settings)

    def read(self) -> LogIdentity:
        """The identity of the topic as it is now.

        Raises:
            NoTopic: It does not exist.
            KafkaUnavailable: Kafka does not answer.
        """
        return calling(self._settings, self._read)

    def _read(self) -> LogIdentity:
        name, timeout = self._settings.topic, self._settings.kafka_timeout
        cluster = self._admin.list_topics(name, timeout=timeout).cluster_id
        (future,) = self._admin.describe_topics(TopicCollection([name]), request_timeout=timeout).values()
        found = future.result()
        topic_id = str(found.topic_id)
        return LogIdentity("" if topic_id == _NO_ID else topic_id, cluster or "", len(found.partitions))


def reset_offsets(settings: Settings, offsets: Mapping[int, int]) -> None:
    """Set the group's committed offsets, backward too; no consumer of the group may be at work.

    Raises:
        KafkaError: Kafka does not answer or refuses.
    """

    def alter() -> None:
        admin = _admin(settings)
        wanted = [TopicPartition(settings.topic, partition, offset) for partition, offset in offsets.items()]
        request = [ConsumerGroupTopicPartitions(settings.group, wanted)]
        futures = admin.alter_consumer_group_offsets(request, request_timeout=settings.kafka_timeout)
        for future in futures.values():
            for entry in future.result().topic_partitions:
                if entry.error is not None:
                    raise KafkaException(entry.error)

    calling(settings, alter)


def bounds(settings: Settings, topic: str | None = None) -> tuple[dict[int, int], dict[int, int]]:
    """First and next offset of each partition of a topic, that of events by default.

    Raises:
        NoTopic: It does not exist.
        KafkaUnavailable: Kafka does not answer.
    """

    def look() -> tuple[dict[int, int], dict[int, int]]:
        admin = _admin(settings)
        partitions = _partitions(settings, admin, settings.kafka_timeout, topic or settings.topic)
        return _bounds(admin, partitions, settings.kafka_timeout)

    return calling(settings, look)


def oldest_waiting(settings: Settings, partitions: Sequence[PartitionLag], seconds: float) -> dict[int, int]:
    """When the first message that waits in each partition was written, milliseconds since the epoch.

    Arguments:
        settings: Where.
        partitions: Their lag; those without one are left out.
        seconds: How long to wait for the messages; partitions whose message has not come by then are left out.

    Raises:
        KafkaError: Kafka refuses.
    """
    first = {entry.partition: max(entry.low, entry.committed or 0) for entry in partitions if entry.lag}
    if not first:
        return {}
    # One message of each is wanted: no more is fetched than comes with it.
    few = {"auto.offset.reset": "earliest", "queued.min.messages": 1, "fetch.message.max.bytes": 64 * 1024}
    found: dict[int, int] = {}
    end = time.monotonic() + seconds
    with closing(Consumer({**_reading(settings), **few})) as consumer:
        consumer.assign([TopicPartition(settings.topic, partition, offset) for partition, offset in first.items()])
        while len(found) < len(first) and time.monotonic() < end:
            for record in consumer.consume(len(first), timeout=0.1):
                error = record.error()
                if error and not is_transient(KafkaException(error)):
                    raise plain(settings, KafkaException(error))
                partition = int(record.partition() or 0)
                if error is None and partition not in found:
                    found[partition] = record.timestamp()[1]
                    consumer.incremental_unassign([TopicPartition(settings.topic, partition)])
    return found


def read_all(
    settings: Settings,
    topic: str | None = None,
    *,
    first: Mapping[int, int] | None = None,
    end: Mapping[int, int] | None = None,
) -> Iterator[Message]:
    """Every message of a topic as it stands now, each partition in offset order, outside of any group.

    Arguments:
        settings: Where.
        topic: The topic; the one of events by default.
        first: Where to begin in each partition; at its beginning by default.
        end: Where to stop in each partition, this offset not included; at its end by default.

    Raises:
        NoTopic: It does not exist.
        KafkaUnavailable: Kafka does not answer.
    """
    name = topic or settings.topic
    low, high = bounds(settings, name)
    low = {partition: max(start, (first or low).get(partition, start)) for partition, start in low.items()}
    high = {partition: min(stop, (end or high).get(partition, stop)) for partition, stop in high.items()}
    left = {partition: end for partition, end in high.items() if end > low[partition]}
    denials = Denials(settings)
    # The last offsets may hold no record (markers of transactions): only the end of the partition says so.
    config = {**_reading(settings), "error_cb": denials, "enable.partition.eof": True}
    with closing(Consumer(config)) as consumer:
        consumer.assign([TopicPartition(name, partition, low[partition]) for partition in left])
        while left:
            # It waits for all of them or for the whole time: the last ones of a topic are fewer.
            records: list[Any] = consumer.consume(500, timeout=0.1)
            denials.check()
            for record in records:
                error = record.error()
                if error and error.code() != Code._PARTITION_EOF:
                    raise plain(settings, KafkaException(error))
                if error is None and record.offset() < left.get(record.partition(), 0):
                    yield to_message(record)
            left = {p: end for p, end in left.items() if _position(consumer, name, p) < end}


def delete_before(settings: Settings, topic: str, offsets: Mapping[int, int]) -> None:
    """Delete the records of a topic's partitions below some offsets.

    Raises:
        KafkaError: Kafka does not answer, or does not let us.
    """

    def delete() -> None:
        admin = _admin(settings)
        wanted = [TopicPartition(topic, partition, offset) for partition, offset in offsets.items()]
        for future in admin.delete_records(wanted, request_timeout=settings.kafka_timeout).values():
            future.result()

    if offsets:
        calling(settings, delete)


def offsets_at(settings: Settings, millis: int) -> dict[int, int]:
    """The first offset of each partition whose record was written at a time or later; the end where none was.

    Arguments:
        settings: Where.
        millis: The time, milliseconds since the epoch.

    Raises:
        NoTopic: It does not exist.
        KafkaUnavailable: Kafka does not answer.
    """

    def look() -> dict[int, int]:
        admin, timeout = _admin(settings), settings.kafka_timeout
        partitions = _partitions(settings, admin, timeout, settings.topic)
        _, high = _bounds(admin, partitions, timeout)
        futures = admin.list_offsets(
            dict.fromkeys(partitions, OffsetSpec.for_timestamp(millis)), request_timeout=timeout
        )
        found = {entry.partition: future.result().offset for entry, future in futures.items()}
        return {partition: offset if offset >= 0 else high[partition] for partition, offset in found.items()}

    return calling(settings, look)


def read_at(settings: Settings, topic: str, offsets: Mapping[int, Sequence[int]]) -> Iterator[Message]:
    """Single messages of a topic, by partition and offset; those that retention has taken are left out.

    Raises:
        KafkaUnavailable: Kafka does not answer.
    """
    denials = Denials(settings)
    config = {**_reading(settings), "error_cb": denials, "auto.offset.reset": "earliest", "enable.partition.eof": True}
    with closing(Consumer(config)) as consumer:
        for partition, wanted in offsets.items():
            for stretch in stretches(wanted):
                consumer.assign([TopicPartition(topic, partition, stretch[0])])
                yield from _read_stretch(settings, consumer, frozenset(stretch), denials)


def stretches(offsets: Sequence[int], gap: int = 2000) -> list[list[int]]:
    """Offsets in order, cut where it is better to seek than to read on."""
    found: list[list[int]] = []
    for offset in sorted(offsets):
        if not found or offset - found[-1][-1] > gap:
            found.append([])
        found[-1].append(offset)
    return found


def _read_stretch(
    settings: Settings, consumer: Consumer, wanted: frozenset[int], denials: Denials
) -> Iterator[Message]:
    heard = time.monotonic()
    while True:
        records: list[Any] = consumer.consume(500, timeout=0.1)
        denials.check()
        if records:
            heard = time.monotonic()
        elif time.monotonic() - heard > 2 * settings.kafka_timeout:
            raise plain(settings, KafkaException(Code(Code._TIMED_OUT)))
        for record in records:
            error = record.error()
            if error and error.code() != Code._PARTITION_EOF:
                raise plain(settings, KafkaException(error))
            if error is None and record.offset() in wanted:
                yield to_message(record)
            if error or record.offset() >= max(wanted):
                return


def _reading(settings: Settings) -> dict[str, Any]:
    """A consumer outside of any group's progress, with small buffers."""
    return {
        **client_config(settings),
        "group.id": f"{settings.group}.reader",
        "enable.auto.commit": False,
        "auto.offset.reset": "error",
        "enable.partition.eof": False,
        "queued.max.messages.kbytes": 4096,
        "fetch.message.max.bytes": 1024 * 1024,
        "fetch.queue.backoff.ms": 20,
    }


def _position(consumer: Consumer, topic: str, partition: int) -> int:
    """Beyond the last record given out, or beyond the offsets without a record that end a partition."""
    (position,) = consumer.position([TopicPartition(topic, partition)])
    return int(position.offset)


# For a name that is not UTF-8 the client returns headers and leaves an exception behind. A plain call that is made
# often does not notice that, and whatever Python does next fails; a call through C always does.
_call_headers = operator.methodcaller("headers")


def to_message(record: Any, base: int = 0) -> Message:
    """A record as the client gives it, as ours.

    Arguments:
        record: The client's.
        base: What is added to offsets in its log (`events/origin.py`).
    """
    return Message(
        Origin(record.topic(), record.partition(), base + record.offset()),
        record.key(),
        record.value(),
        _headers(record),
        record.timestamp()[1],
    )


def _headers(record: Any) -> tuple[tuple[str, bytes | None], ...]:
    """A record's headers, without those whose name is not UTF-8: none of ours."""
    try:
        return tuple(_call_headers(record) or ())
    except SystemError:
        # The client has made its tuples by now, with a null pointer for such a name. Whatever touches that crashes the
        # process; a tuple's own text shows it.
        return tuple(header for header in record.headers() or () if not repr(header).startswith("(<NULL>"))


class _Admin(AdminClient):
    """An admin client whose first request tells why no broker lets us in, as soon as it is known."""

    def __init__(self, settings: Settings) -> None:
        self._denials = Denials(settings)
        self._last_words = LastWords()
        logger = logging.Logger("kafka")  # of this client alone
        logger.addHandler(self._last_words)
        config: dict[str, Any] = {**client_config(settings), "error_cb": self._denials, "logger": logger}
        super().__init__(config)

    def list_topics(self, topic: str | None = None, timeout: float = LOOK_SECONDS) -> Any:
        """Metadata of a topic.

        Raises:
            KafkaDenied: A broker does not let us in.
            KafkaException: None answers within the timeout.
        """
        end = time.monotonic() + timeout
        while True:
            try:
                return super().list_topics(topic, timeout=min(LOOK_SECONDS, max(0.1, end - time.monotonic())))
            except KafkaException as error:
                self.poll(0)
                self._denials.check()
                if not is_transient(error) or time.monotonic() >= end:
                    self._last_words.check()
                    raise


def _admin(settings: Settings) -> _Admin:
    return _Admin(settings)


def _partitions(settings: Settings, admin: AdminClient, timeout: float, name: str) -> list[TopicPartition]:
    found = admin.list_topics(name, timeout=timeout).topics[name]
    if found.error is not None and denial(found.error):
        raise KafkaException(found.error)
    if found.error is not None or not found.partitions:
        raise NoTopic(f"Kafka at {settings.kafka_bootstrap} has no topic {name}: create it with `truepixel setup`")
    return [TopicPartition(name, partition) for partition in sorted(found.partitions)]


def _bounds(
    admin: AdminClient, partitions: list[TopicPartition], timeout: float
) -> tuple[dict[int, int], dict[int, int]]:
    """First and next offset by partition, as far as they can be read: not into a transaction that is still open."""
    found = []
    for spec in (OffsetSpec.earliest(), OffsetSpec.latest()):
        futures = admin.list_offsets(
            dict.fromkeys(partitions, spec), isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=timeout
        )
        found.append({entry.partition: future.result().offset for entry, future in futures.items()})
    return found[0], found[1]
