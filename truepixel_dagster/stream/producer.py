"""Send records to a topic: all replicas acknowledge each record, and a retry writes none twice.

>>> from truepixel_dagster.stream.producer import EventProducer
>>> from truepixel_dagster.stream.topics import lag
>>> with EventProducer(settings.kafka()) as producer:
...     producer.send(b"shop:client", b'{"id": "e1"}')
...
>>> sum(entry.lag for entry in lag(settings.kafka()))
1
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from types import TracebackType
from typing import Any

from confluent_kafka import KafkaError as Code
from confluent_kafka import KafkaException, Producer

from truepixel_dagster.access import KafkaAccess
from truepixel_dagster.stream.client_config import MAX_MESSAGE_BYTES, client_config
from truepixel_dagster.stream.errors import Denials, plain

LOOK_SECONDS = 1.0
# The errors for a record larger than the client may send, and for one larger than the topic accepts.
_TOO_LARGE = frozenset({Code.MSG_SIZE_TOO_LARGE, Code.RECORD_LIST_TOO_LARGE})
Headers = Iterable[tuple[str, bytes | None]]


class EventProducer:
    """Send records through an idempotent producer with a bounded queue.

    Arguments:
        kafka: Access to Kafka.
        topic: The topic; the one of events by default.
    """

    def __init__(self, kafka: KafkaAccess, topic: str | None = None) -> None:
        self._kafka = kafka
        self._topic = topic or kafka.topic
        self._failure: Any = None
        self._again: list[Callable[[], None]] = []
        self._denials = Denials(kafka)
        self._producer = Producer(
            {
                **client_config(kafka),
                "error_cb": self._denials,
                "acks": "all",
                "enable.idempotence": True,
                "compression.type": "lz4",
                "linger.ms": 20,
                # The partitioner of Java's producers, so that a user stays on one partition whichever producer sends.
                "partitioner": "murmur2_random",
                "message.max.bytes": MAX_MESSAGE_BYTES,
                "queue.buffering.max.kbytes": 64 * 1024,
                "message.timeout.ms": 60_000,
            }
        )

    def send(
        self,
        key: bytes | None,
        value: bytes | None,
        headers: Headers = (),
        *,
        partition: int = -1,
        timestamp: int = 0,
        too_large: Callable[[], None] | None = None,
    ) -> None:
        """Queue a record; wait while the queue is full.

        Arguments:
            key: The key; it decides the partition, unless that is given.
            value: The value.
            headers: Names and values.
            partition: The partition; by the key if negative.
            timestamp: Milliseconds since the epoch; now if 0.
            too_large: Called if Kafka accepts no record of this size; without it, that is an ordinary failure.

        Raises:
            KafkaDenied: Kafka denies access.
        """
        while True:
            self._denials.check()
            try:
                self._producer.produce(
                    self._topic,
                    value=value,
                    key=key,
                    headers=list(headers),
                    partition=partition,
                    timestamp=timestamp,
                    on_delivery=partial(self._delivered, too_large),
                )
                self._producer.poll(0)
                return
            except BufferError:
                self._producer.poll(0.1)
            except KafkaException as error:
                self._delivered(too_large, error.args[0], None)
                return

    def flush(self) -> None:
        """Wait until every record is acknowledged.

        Raises:
            KafkaError: One was not delivered; the first reason.
        """
        while self._producer.flush(LOOK_SECONDS) or self._again:
            self._denials.check()
            again, self._again = self._again, []
            for send in again:
                send()
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise plain(self._kafka, KafkaException(failure))

    def __enter__(self) -> EventProducer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.flush()

    def _delivered(self, too_large: Callable[[], None] | None, error: Any, _message: Any) -> None:
        if error is None:
            return
        if too_large is not None and error.code() in _TOO_LARGE:
            # Not at once: the client is in the middle of its callbacks.
            self._again.append(too_large)
        elif self._failure is None:
            self._failure = error
