"""Create topics, and read their offsets, lag and identity.

>>> from truepixel_dagster.stream.topics import bounds, create_topics, partition_count
>>> create_topics(settings.kafka())  # they exist already
[]
>>> partition_count(settings.kafka())
3
>>> bounds(settings.kafka())  # the first and the next offset of each partition
({0: 0, 1: 0, 2: 0}, {0: 0, 1: 0, 2: 0})
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

import msgspec
from confluent_kafka import (
    OFFSET_INVALID,
    ConsumerGroupTopicPartitions,
    IsolationLevel,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka import KafkaError as Code
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, OffsetSpec, ResourceType

from truepixel_dagster.access import KafkaAccess
from truepixel_dagster.events.event import DAY
from truepixel_dagster.stream.client_config import MAX_MESSAGE_BYTES, client_config
from truepixel_dagster.stream.errors import Denials, DisconnectLog, NoTopic, calling, denial, is_transient

DEAD_LETTER_DAYS = 30
# How long the client keeps retrying a broker that denies access.
LOOK_SECONDS = 1.0
# The id of a topic that was created before Kafka gave topics ids.
_NO_ID = "AAAAAAAAAAAAAAAAAAAAAA"


class PartitionLag(msgspec.Struct, frozen=True):
    """Hold first, next and committed offset (if there is one) of a partition, and its number of waiting messages.

    `high` is the end of what can be read: records of a transaction that is still open are beyond it. `lost` counts the
    offsets that retention removed before they were committed.
    `note` is stored beside the committed offset (`stream/commit_notes.py`).
    """

    partition: int
    low: int
    high: int
    committed: int | None
    lag: int
    lost: int = 0
    note: str = ""


class LogIdentity(msgspec.Struct, frozen=True):
    """Hold the ids of topic and cluster, which identify a log; empty if Kafka has none."""

    topic_id: str
    cluster_id: str
    partitions: int


class TopicDurability(msgspec.Struct, frozen=True):
    """Hold the fewest replicas of a partition, the least in-sync replicas, and whether other replicas may lead."""

    replicas: int
    min_in_sync: int
    unclean_election: bool


def topic_durability(kafka: KafkaAccess, name: str) -> TopicDurability:
    """Return the durability settings of a topic.

    Raises:
        NoTopic: It does not exist.
        KafkaError: Kafka does not answer or refuses.
    """

    def look() -> TopicDurability:
        admin, timeout = _admin(kafka), kafka.timeout
        _partitions(kafka, admin, timeout, name)  # raises if there is no such topic
        partitions = admin.list_topics(name, timeout=timeout).topics[name].partitions.values()
        (future,) = admin.describe_configs([ConfigResource(ResourceType.TOPIC, name)], request_timeout=timeout).values()
        config = {key: entry.value for key, entry in future.result().items()}
        return TopicDurability(
            min(len(partition.replicas) for partition in partitions),
            int(config["min.insync.replicas"]),
            config["unclean.leader.election.enable"] == "true",
        )

    return calling(kafka, look)


def create_topics(kafka: KafkaAccess) -> list[str]:
    """Create the topics of events and of dead letters if they do not exist; return the names of those created.

    Raises:
        KafkaError: Kafka does not answer or refuses.
    """
    # With three replicas or more, an acknowledged record survives the loss of one.
    in_sync = 2 if kafka.replication >= 3 else 1
    common = {
        "max.message.bytes": str(MAX_MESSAGE_BYTES),
        "min.insync.replicas": str(in_sync),
        "unclean.leader.election.enable": "false",
    }
    dead = {**common, "retention.ms": str(DEAD_LETTER_DAYS * DAY)}
    topics = [
        NewTopic(name, kafka.partitions, kafka.replication, config=config)
        for name, config in ((kafka.topic, common), (kafka.dead_topic, dead))
    ]

    def create() -> list[str]:
        admin = _admin(kafka)  # held: its futures end with it
        admin.list_topics(kafka.topic, kafka.timeout)  # raises if access is denied
        futures = admin.create_topics(topics, operation_timeout=kafka.timeout)
        return [name for name, future in futures.items() if _created(future)]

    return calling(kafka, create)


def _created(future: Any) -> bool:
    try:
        future.result()
    except KafkaException as error:
        if error.args[0].code() == Code.TOPIC_ALREADY_EXISTS:
            return False
        raise
    return True


def ping(kafka: KafkaAccess) -> None:
    """Check that Kafka answers, whether or not topics exist.

    Raises:
        KafkaError: Kafka does not answer, or denies access.
    """
    calling(kafka, lambda: _admin(kafka).list_topics(timeout=kafka.timeout))


def partition_count(kafka: KafkaAccess) -> int:
    """Return the number of partitions of the topic of events.

    Raises:
        NoTopic: It does not exist.
        KafkaUnavailable: Kafka does not answer.
    """
    return calling(kafka, lambda: len(_partitions(kafka, _admin(kafka), kafka.timeout, kafka.topic)))


def lag(kafka: KafkaAccess, timeout: float = 3.0, attempts: int = 2) -> list[PartitionLag]:
    """Return the lag of every partition of the topic of events, in their order.

    Arguments:
        kafka: Access to Kafka.
        timeout: Seconds for each of three requests.
        attempts: Tries after transient errors.

    Raises:
        NoTopic: It does not exist.
        KafkaUnavailable: Kafka does not answer in time.
    """

    def measure() -> list[PartitionLag]:
        admin = _admin(kafka)
        partitions = _partitions(kafka, admin, timeout, kafka.topic)
        low, high = _bounds(admin, partitions, timeout)
        request = [ConsumerGroupTopicPartitions(kafka.group, partitions)]
        (future,) = admin.list_consumer_group_offsets(request, request_timeout=timeout).values()
        committed = {entry.partition: entry for entry in future.result().topic_partitions}
        return [_lag(p.partition, low[p.partition], high[p.partition], committed[p.partition]) for p in partitions]

    return calling(kafka, measure, attempts=attempts)


def _lag(partition: int, low: int, high: int, committed: TopicPartition) -> PartitionLag:
    if committed.offset == OFFSET_INVALID:
        return PartitionLag(partition, low, high, None, high - low)
    offset, note = committed.offset, committed.metadata or ""
    return PartitionLag(partition, low, high, offset, max(0, high - max(offset, low)), max(0, low - offset), note)


class IdentityReader:
    """Read the identity of the topic of events repeatedly over one connection.

    Arguments:
        kafka: Access to Kafka.
    """

    def __init__(self, kafka: KafkaAccess) -> None:
        self._kafka = kafka
        self._admin = _admin(kafka)

    def read(self) -> LogIdentity:
        """Return the current identity of the topic.

        Raises:
            NoTopic: It does not exist.
            KafkaUnavailable: Kafka does not answer.
        """
        return calling(self._kafka, self._read)

    def _read(self) -> LogIdentity:
        name, timeout = self._kafka.topic, self._kafka.timeout
        cluster = self._admin.list_topics(name, timeout=timeout).cluster_id
        (future,) = self._admin.describe_topics(TopicCollection([name]), request_timeout=timeout).values()
        found = future.result()
        topic_id = str(found.topic_id)
        return LogIdentity("" if topic_id == _NO_ID else topic_id, cluster or "", len(found.partitions))


def reset_offsets(kafka: KafkaAccess, offsets: Mapping[int, int]) -> None:
    """Set the group's committed offsets, backward too; no consumer of the group may be active.

    Raises:
        KafkaError: Kafka does not answer or refuses.
    """

    def alter() -> None:
        admin = _admin(kafka)
        wanted = [TopicPartition(kafka.topic, partition, offset) for partition, offset in offsets.items()]
        request = [ConsumerGroupTopicPartitions(kafka.group, wanted)]
        futures = admin.alter_consumer_group_offsets(request, request_timeout=kafka.timeout)
        for future in futures.values():
            for entry in future.result().topic_partitions:
                if entry.error is not None:
                    raise KafkaException(entry.error)

    calling(kafka, alter)


def bounds(kafka: KafkaAccess, topic: str | None = None) -> tuple[dict[int, int], dict[int, int]]:
    """Return the first and the next offset of each partition of a topic, by default that of events.

    Raises:
        NoTopic: It does not exist.
        KafkaUnavailable: Kafka does not answer.
    """

    def look() -> tuple[dict[int, int], dict[int, int]]:
        admin = _admin(kafka)
        partitions = _partitions(kafka, admin, kafka.timeout, topic or kafka.topic)
        return _bounds(admin, partitions, kafka.timeout)

    return calling(kafka, look)


def delete_before(kafka: KafkaAccess, topic: str, offsets: Mapping[int, int]) -> None:
    """Delete the records of a topic's partitions below some offsets.

    Raises:
        KafkaError: Kafka does not answer, or denies access.
    """

    def delete() -> None:
        admin = _admin(kafka)
        wanted = [TopicPartition(topic, partition, offset) for partition, offset in offsets.items()]
        for future in admin.delete_records(wanted, request_timeout=kafka.timeout).values():
            future.result()

    if offsets:
        calling(kafka, delete)


def offsets_at(kafka: KafkaAccess, millis: int) -> dict[int, int]:
    """Return the first offset of each partition whose record was written at a time or later; else its end.

    Arguments:
        kafka: Access to Kafka.
        millis: The time, milliseconds since the epoch.

    Raises:
        NoTopic: It does not exist.
        KafkaUnavailable: Kafka does not answer.
    """

    def look() -> dict[int, int]:
        admin, timeout = _admin(kafka), kafka.timeout
        partitions = _partitions(kafka, admin, timeout, kafka.topic)
        _, high = _bounds(admin, partitions, timeout)
        futures = admin.list_offsets(
            dict.fromkeys(partitions, OffsetSpec.for_timestamp(millis)), request_timeout=timeout
        )
        found = {entry.partition: future.result().offset for entry, future in futures.items()}
        return {partition: offset if offset >= 0 else high[partition] for partition, offset in found.items()}

    return calling(kafka, look)


class _Admin(AdminClient):
    """Connect an admin client whose first request raises a denial as soon as librdkafka reports it."""

    def __init__(self, kafka: KafkaAccess) -> None:
        self._denials = Denials(kafka)
        self._disconnects = DisconnectLog()
        logger = logging.Logger("kafka")  # of this client alone
        logger.addHandler(self._disconnects)
        config: dict[str, Any] = {**client_config(kafka), "error_cb": self._denials, "logger": logger}
        super().__init__(config)

    def list_topics(self, topic: str | None = None, timeout: float = LOOK_SECONDS) -> Any:
        """Return the metadata of a topic.

        Raises:
            KafkaDenied: A broker denies access.
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
                    self._disconnects.check()
                    raise


def _admin(kafka: KafkaAccess) -> _Admin:
    return _Admin(kafka)


def _partitions(kafka: KafkaAccess, admin: AdminClient, timeout: float, name: str) -> list[TopicPartition]:
    found = admin.list_topics(name, timeout=timeout).topics[name]
    if found.error is not None and denial(found.error):
        raise KafkaException(found.error)
    if found.error is not None or not found.partitions:
        raise NoTopic(f"Kafka at {kafka.bootstrap} has no topic {name}: create it with `truepixel setup`")
    return [TopicPartition(name, partition) for partition in sorted(found.partitions)]


def _bounds(
    admin: AdminClient, partitions: list[TopicPartition], timeout: float
) -> tuple[dict[int, int], dict[int, int]]:
    """Return the first and the next readable offset by partition: not into a transaction that is still open."""
    found = []
    for spec in (OffsetSpec.earliest(), OffsetSpec.latest()):
        futures = admin.list_offsets(
            dict.fromkeys(partitions, spec), isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=timeout
        )
        found.append({entry.partition: future.result().offset for entry, future in futures.items()})
    return found[0], found[1]
