"""The topic: an idempotent producer that never gives a record up by itself, so that each key's order holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from confluent_kafka import KafkaError as Code
from confluent_kafka import KafkaException, Producer

from truepixel_dagster.collector.record import Record
from truepixel_dagster.settings import Settings
from truepixel_dagster.stream.client_config import MAX_MESSAGE_BYTES, client_config
from truepixel_dagster.stream.errors import denial

# What Kafka says of one record that it will never take.
_OF_THE_RECORD = frozenset({Code.MSG_SIZE_TOO_LARGE, Code.RECORD_LIST_TOO_LARGE, Code.INVALID_MSG_SIZE})
_REQUEST_MILLISECONDS = 10_000


class Failure:
    """Why a record is not on the topic. `of_the_record` means that it never will be."""

    __slots__ = ("of_the_record", "words")

    def __init__(self, words: str, *, of_the_record: bool = False) -> None:
        self.words = words
        self.of_the_record = of_the_record


Delivered = Callable[["Failure | None"], None]


class Topic(Protocol):
    """Where records go."""

    def send(self, record: Record, delivered: Delivered) -> bool:
        """Queue a record; `delivered` is told by a later `serve`. False where the queue is full."""

    def serve(self) -> None:
        """Tell what has been delivered since the last time."""

    def close(self, seconds: float) -> None:
        """Wait until everything is delivered, or as long."""

    @property
    def trouble(self) -> str | None:
        """What is wrong with Kafka, as far as it has said; None if nothing is."""

    @property
    def is_broken(self) -> bool:
        """Whether it will never send anything again: a new process is needed."""


class KafkaTopic:
    """A topic of Kafka's.

    Arguments:
        settings: Where to, and what it may queue.

    Raises:
        KafkaError: The cluster is not the one that the settings are for, or cannot be asked.
    """

    def __init__(self, settings: Settings) -> None:
        self._name = settings.topic
        self._trouble: str | None = None
        self._broken = False
        self._producer = Producer(
            {
                **client_config(settings),
                "error_cb": self._failed,
                "acks": "all",
                "enable.idempotence": True,
                "compression.type": "lz4",
                "linger.ms": 2,
                # Where Java's producers put a key, so that a user stays on one partition whoever sends.
                "partitioner": "murmur2_random",
                "message.max.bytes": MAX_MESSAGE_BYTES,
                "queue.buffering.max.kbytes": settings.collector_queue_bytes // 1024,
                "queue.buffering.max.messages": 100_000,
                # A record that times out here would let later ones of its key pass it by.
                "message.timeout.ms": 0,
                "request.timeout.ms": _REQUEST_MILLISECONDS,
                "retry.backoff.max.ms": 1000,
            }
        )

    def send(self, record: Record, delivered: Delivered) -> bool:
        """Queue a record; `delivered` is told by a later `serve`. False where the queue is full."""

        def told(error: Code | None, _message: object) -> None:
            if error is None:
                self._trouble = None
            delivered(None if error is None else self._failure(error))

        try:
            self._producer.produce(
                self._name, value=record.value, key=record.key, headers=list(record.headers), on_delivery=told
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
        """Tell what has been delivered since the last time."""
        self._producer.poll(0)

    def close(self, seconds: float) -> None:
        """Wait until everything is delivered, or as long."""
        self._producer.flush(seconds)

    @property
    def trouble(self) -> str | None:
        """What is wrong with Kafka, as far as it has said; None if nothing is."""
        return self._trouble

    @property
    def is_broken(self) -> bool:
        """Whether it will never send anything again: a new process is needed."""
        return self._broken

    def _failed(self, error: Code) -> None:
        """librdkafka's word on a connection, or the end of this producer."""
        self._trouble = denial(error) or " ".join(error.str().split())[:300]
        self._broken = self._broken or bool(error.fatal())

    def _failure(self, error: Code) -> Failure:
        return Failure(" ".join(error.str().split())[:300], of_the_record=error.code() in _OF_THE_RECORD)
