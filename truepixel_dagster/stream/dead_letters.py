"""Where what cannot be processed goes: the raw record with the reason, the stage and its origin."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from truepixel_dagster.events.event import Message
from truepixel_dagster.events.origin import Origin
from truepixel_dagster.settings import Settings
from truepixel_dagster.stream.producer import EventProducer
from truepixel_dagster.stream.topics import read_all

ERROR, STAGE, ORIGIN = "error", "stage", "origin"
OWN_HEADERS = frozenset({ERROR, STAGE, ORIGIN})


class DeadLetter(msgspec.Struct, frozen=True):
    """A dead letter as read back: the record as it was received, its original origin, why and where it stopped."""

    message: Message
    error: str
    stage: str


class DeadLetters:
    """The topic of dead letters, to write to. Safe to use from several threads."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._producer: EventProducer | None = None

    def send(self, message: Message, *, error: str, stage: str) -> None:
        """Queue a dead letter: raw value, original key and headers, and the headers that say why."""
        if self._producer is None:
            self._producer = EventProducer(self._settings, self._settings.dead_topic)
        kept = tuple(header for header in message.headers if header[0] not in OWN_HEADERS)
        own = ((ERROR, error.encode()), (STAGE, stage.encode()), (ORIGIN, str(message.origin).encode()))
        self._producer.send(message.key, message.value, kept + own)

    def flush(self) -> None:
        """Wait until all are acknowledged: before their offsets are committed.

        Raises:
            KafkaError: One was not delivered.
        """
        if self._producer is not None:
            self._producer.flush()

    def close(self) -> None:
        """Let go of the producer; `flush` first."""
        self._producer = None


def read(settings: Settings) -> Iterator[DeadLetter]:
    """Every dead letter, each partition in the order written.

    Raises:
        KafkaError: Kafka does not answer or has no such topic.
    """
    for record in read_all(settings, settings.dead_topic):
        headers = {name: (value or b"").decode(errors="replace") for name, value in record.headers}
        kept = tuple(header for header in record.headers if header[0] not in OWN_HEADERS)
        topic, partition, offset = headers[ORIGIN].split("/")
        origin = Origin(topic, int(partition), int(offset))
        message = Message(origin, record.key, record.value, kept, record.timestamp)
        yield DeadLetter(message, headers[ERROR], headers[STAGE])
