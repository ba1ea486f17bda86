"""A record that is too large for Kafka is sent in another form, outside of the client's callbacks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import KafkaError as Code
from confluent_kafka import KafkaException

from truepixel_dagster.settings import Settings
from truepixel_dagster.stream import producer
from truepixel_dagster.stream.errors import KafkaError

LIMIT = 10


class Client:
    """As librdkafka: a record is refused at once or when it is delivered, and callbacks must not call it."""

    at_once = False

    def __init__(self, _config: Any) -> None:
        self.waiting: list[tuple[bytes, Callable[[Any, Any], None]]] = []
        self.delivered: list[bytes] = []
        self.is_calling_back = False

    def produce(self, _topic: str, *, value: bytes, on_delivery: Callable[[Any, Any], None], **_: Any) -> None:
        assert not self.is_calling_back
        if self.at_once and len(value) > LIMIT:
            raise KafkaException(Code(Code.MSG_SIZE_TOO_LARGE))
        self.waiting.append((value, on_delivery))

    def poll(self, _timeout: float) -> int:
        assert not self.is_calling_back
        return 0

    def flush(self, _timeout: float) -> int:
        waiting, self.waiting = self.waiting, []
        self.is_calling_back = True
        for value, on_delivery in waiting:
            fits = len(value) <= LIMIT
            on_delivery(None if fits else Code(Code.MSG_SIZE_TOO_LARGE), None)
            self.delivered += [value] if fits else []
        self.is_calling_back = False
        return len(self.waiting)


@pytest.mark.parametrize("at_once", [False, True])
def test_a_record_that_is_too_large_goes_in_another_form(monkeypatch: pytest.MonkeyPatch, at_once: bool) -> None:
    monkeypatch.setattr(producer, "Producer", Client)
    monkeypatch.setattr(Client, "at_once", at_once)
    sender = producer.EventProducer(Settings().kafka())
    sender.send(b"k", b"x" * 99, too_large=lambda: sender.send(b"k", b"small"))
    sender.send(b"k", b"good")
    sender.flush()
    assert sorted(sender._producer.delivered) == [b"good", b"small"]  # type: ignore[attr-defined]
    sender.send(b"k", b"x" * 99)
    with pytest.raises(KafkaError, match="size"):
        sender.flush()
