"""Read messages of a topic outside of any group: all of them, a range, or single ones.

>>> from truepixel_dagster.stream.producer import EventProducer
>>> from truepixel_dagster.stream.reading import read_all, read_at
>>> with EventProducer(settings.kafka()) as producer:
...     producer.send(b"shop:client", b"first", partition=2)
...     producer.send(b"shop:client", b"second", partition=2)
...
>>> [message.value for message in read_all(settings.kafka())]
[b'first', b'second']
>>> [message.value for message in read_at(settings.kafka(), settings.topic, {2: [1]})]
[b'second']
"""

from __future__ import annotations

import operator
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka import KafkaError as Code

from truepixel_dagster.access import KafkaAccess
from truepixel_dagster.events.event import Message
from truepixel_dagster.events.origin import Origin
from truepixel_dagster.stream.client_config import client_config
from truepixel_dagster.stream.errors import Denials, is_transient, plain
from truepixel_dagster.stream.topics import PartitionLag, bounds


def oldest_waiting(kafka: KafkaAccess, partitions: Sequence[PartitionLag], seconds: float) -> dict[int, int]:
    """Return when the first waiting message of each partition was written, milliseconds since the epoch.

    Arguments:
        kafka: Access to Kafka.
        partitions: The lag of partitions; partitions without lag are omitted.
        seconds: How long to wait for the messages; partitions whose message was not read by then are omitted.

    Raises:
        KafkaError: Kafka refuses.
    """
    first = {entry.partition: max(entry.low, entry.committed or 0) for entry in partitions if entry.lag}
    if not first:
        return {}
    # Only one message of each partition is needed.
    few = {"auto.offset.reset": "earliest", "queued.min.messages": 1, "fetch.message.max.bytes": 64 * 1024}
    found: dict[int, int] = {}
    end = time.monotonic() + seconds
    with closing(Consumer({**_reading(kafka), **few})) as consumer:
        consumer.assign([TopicPartition(kafka.topic, partition, offset) for partition, offset in first.items()])
        while len(found) < len(first) and time.monotonic() < end:
            for record in consumer.consume(len(first), timeout=0.1):
                error = record.error()
                if error and not is_transient(KafkaException(error)):
                    raise plain(kafka, KafkaException(error))
                partition = int(record.partition() or 0)
                if error is None and partition not in found:
                    found[partition] = record.timestamp()[1]
                    consumer.incremental_unassign([TopicPartition(kafka.topic, partition)])
    return found


def read_all(
    kafka: KafkaAccess,
    topic: str | None = None,
    *,
    first: Mapping[int, int] | None = None,
    end: Mapping[int, int] | None = None,
) -> Iterator[Message]:
    """Yield every current message of a topic, each partition in offset order, outside of any group.

    Arguments:
        kafka: Access to Kafka.
        topic: The topic; the one of events by default.
        first: Where to begin in each partition; at its beginning by default.
        end: Where to stop in each partition, this offset not included; at its end by default.

    Raises:
        NoTopic: It does not exist.
        KafkaUnavailable: Kafka does not answer.
    """
    name = topic or kafka.topic
    low, high = bounds(kafka, name)
    low = {partition: max(start, (first or low).get(partition, start)) for partition, start in low.items()}
    high = {partition: min(stop, (end or high).get(partition, stop)) for partition, stop in high.items()}
    left = {partition: end for partition, end in high.items() if end > low[partition]}
    denials = Denials(kafka)
    # The last offsets may hold no record (markers of transactions): only the end of the partition shows it.
    config = {**_reading(kafka), "error_cb": denials, "enable.partition.eof": True}
    with closing(Consumer(config)) as consumer:
        consumer.assign([TopicPartition(name, partition, low[partition]) for partition in left])
        while left:
            # The call waits for as many messages or for the whole time, and a topic's last messages are fewer.
            records: list[Any] = consumer.consume(500, timeout=0.1)
            denials.check()
            for record in records:
                error = record.error()
                if error and error.code() != Code._PARTITION_EOF:
                    raise plain(kafka, KafkaException(error))
                if error is None and record.offset() < left.get(record.partition(), 0):
                    yield to_message(record)
            left = {p: end for p, end in left.items() if _position(consumer, name, p) < end}


def read_at(kafka: KafkaAccess, topic: str, offsets: Mapping[int, Sequence[int]]) -> Iterator[Message]:
    """Yield single messages of a topic by partition and offset, without those that retention has removed.

    Raises:
        KafkaUnavailable: Kafka does not answer.
    """
    denials = Denials(kafka)
    config = {**_reading(kafka), "error_cb": denials, "auto.offset.reset": "earliest", "enable.partition.eof": True}
    with closing(Consumer(config)) as consumer:
        for partition, wanted in offsets.items():
            for stretch in stretches(wanted):
                consumer.assign([TopicPartition(topic, partition, stretch[0])])
                yield from _read_stretch(kafka, consumer, frozenset(stretch), denials)


def stretches(offsets: Sequence[int], gap: int = 2000) -> list[list[int]]:
    """Return sorted offsets in stretches, cut at gaps where seeking is faster than reading on."""
    found: list[list[int]] = []
    for offset in sorted(offsets):
        if not found or offset - found[-1][-1] > gap:
            found.append([])
        found[-1].append(offset)
    return found


def _read_stretch(
    kafka: KafkaAccess, consumer: Consumer, wanted: frozenset[int], denials: Denials
) -> Iterator[Message]:
    heard = time.monotonic()
    while True:
        records: list[Any] = consumer.consume(500, timeout=0.1)
        denials.check()
        if records:
            heard = time.monotonic()
        elif time.monotonic() - heard > 2 * kafka.timeout:
            raise plain(kafka, KafkaException(Code(Code._TIMED_OUT)))
        for record in records:
            error = record.error()
            if error and error.code() != Code._PARTITION_EOF:
                raise plain(kafka, KafkaException(error))
            if error is None and record.offset() in wanted:
                yield to_message(record)
            if error or record.offset() >= max(wanted):
                return


def _reading(kafka: KafkaAccess) -> dict[str, Any]:
    """Open a consumer with small buffers that changes no group's offsets."""
    return {
        **client_config(kafka),
        "group.id": f"{kafka.group}.reader",
        "enable.auto.commit": False,
        "auto.offset.reset": "error",
        "enable.partition.eof": False,
        "queued.max.messages.kbytes": 4096,
        "fetch.message.max.bytes": 1024 * 1024,
        "fetch.queue.backoff.ms": 20,
    }


def _position(consumer: Consumer, topic: str, partition: int) -> int:
    """Return the offset after the last returned record, or after the offsets without a record at a partition's end."""
    (position,) = consumer.position([TopicPartition(topic, partition)])
    return int(position.offset)


# For a name that is not UTF-8, the client returns headers and leaves an exception set. A frequent plain call ignores
# that exception, and a later operation of Python fails; a call through C always raises it.
_call_headers = operator.methodcaller("headers")


def to_message(record: Any, base: int = 0) -> Message:
    """Convert the client's message into ours.

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
    """Return a record's headers, without names that are not UTF-8, which are never ours."""
    try:
        return tuple(_call_headers(record) or ())
    except SystemError:
        # By now the client has built its tuples, with a null pointer for such a name. Any access to the pointer crashes
        # the process, but the text of the tuple shows it.
        return tuple(header for header in record.headers() or () if not repr(header).startswith("(<NULL>"))
