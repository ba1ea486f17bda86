"""The topic: an idempotent producer that never drops a record by itself, so that each key's order holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from confluent_kafka import KafkaError as Code
from confluent_kafka import KafkaException, Producer

from truepixel_dagster.access import KafkaAccess
from truepixel_dagster.collector.record import Record
from truepixel_dagster.stream.client_config import MAX_MESSAGE_BYTES, client_config
from truepixel_dagster.stream.errors import denial

# Errors that mean that Kafka will never accept this record.
_OF_THE_RECORD = frozenset({Code.MSG_SIZE_TOO_LARGE, Code.RECORD_LIST_TOO_LARGE, Code.INVALID_MSG_SIZE})
_REQUEST_MILLISECONDS = 10_000


class Failure:
    """Say why a record is not on the topic. `of_the_record` means that Kafka will never accept it."""

    __slots__ = ("of_the_record", "words")

    def __init__(self, words: str, *, of_the_record: bool = False) -> None:
        self.words = words
        self.of_the_record = of_the_record


Delivered = Callable[["Failure | None"], None]


class Topic(Protocol):
    """Describe where records go."""

    def send(self, record: Record, delivered: Delivered) -> bool:
        """Queue a record; a later `serve` calls `delivered`. Return False if the queue is full."""

    def serve(self) -> None:
        """Call back for everything that was delivered since the last call."""

    def close(self, seconds: float) -> None:
        """Wait until everything is delivered, at most `seconds`."""

    @property
    def trouble(self) -> str | None:
        """Return the last problem that Kafka reported; None if there is none."""

    @property
    def is_broken(self) -> bool:
        """Return whether the producer has failed for good, so that only a new process can send."""


class KafkaTopic:
    """Write to a topic of Kafka.

    Arguments:
        kafka: Access to Kafka.
        queue_bytes: The size of the queue of Kafka's client.

    Raises:
        KafkaError: The cluster is not the one that the settings name, or does not answer.
    """

    def __init__(self, kafka: KafkaAccess, queue_bytes: int) -> None:
        self._name = kafka.topic
        self._trouble: str | None = None
        self._broken = False
        self._producer = Producer(
            {
                **client_config(kafka),
                "error_cb": self._failed,
                "acks": "all",
                "enable.idempotence": True,
                "compression.type": "lz4",
                "linger.ms": 2,
                # The partitioner of Java's producers, so that a user stays on one partition whichever producer sends.
                "partitioner": "murmur2_random",
                "message.max.bytes": MAX_MESSAGE_BYTES,
                "queue.buffering.max.kbytes": queue_bytes // 1024,
                "queue.buffering.max.messages": 100_000,
                # If a record timed out here, later records with its key would overtake it.
                "message.timeout.ms": 0,
                "request.timeout.ms": _REQUEST_MILLISECONDS,
                "retry.backoff.max.ms": 1000,
            }
        )

    def send(self, record: Record, delivered: Delivered) -> bool:
        """Queue a record; a later `serve` calls `delivered`. Return False if the queue is full."""

        def on_delivery(error: Code | None, _message: object) -> None:
            if error is None:
                self._trouble = None
            delivered(None if error is None else self._failure(error))

        try:
            self._producer.produce(
                self._name, value=record.value, key=record.key, headers=list(record.headers), on_delivery=on_delivery
            )
        except BufferError:
            return False
        except KafkaException as error:
            if self._failure(error.args[0]).of_the_record:
                delivered(self._failure(error.args[0]))
                return True
            self._failed(error.args[0])
            return False
        return True

    def serve(self) -> None:
        """Call back for everything that was delivered since the last call."""
        self._producer.poll(0)

    def close(self, seconds: float) -> None:
        """Wait until everything is delivered, at most `seconds`."""
        self._producer.flush(seconds)

    @property
    def trouble(self) -> str | None:
        """Return the last problem that Kafka reported; None if there is none."""
        return self._trouble

    @property
    def is_broken(self) -> bool:
        """Return whether the producer has failed for good, so that only a new process can send."""
        return self._broken

    def _failed(self, error: Code) -> None:
        """Record an error of a connection or a fatal error of the producer, as librdkafka reports it."""
        self._trouble = denial(error) or " ".join(error.str().split())[:300]
        self._broken = self._broken or bool(error.fatal())

    def _failure(self, error: Code) -> Failure:
        return Failure(" ".join(error.str().split())[:300], of_the_record=error.code() in _OF_THE_RECORD)
