"""Check the collector's promises: clients record deliveries answered with 200, and compare them with the topic.

Nothing here uses the collector's code except the signature.
"""

from __future__ import annotations

import http.client
import itertools
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import closing
from typing import Any, NamedTuple

import msgspec
from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from truepixel_dagster.audit.compare import Difference
from truepixel_dagster.collector.signature import sign
from truepixel_dagster.local.chaos.collector_process import APP_SECRET, DOMAIN, SHOP
from truepixel_dagster.local.chaos.report import Verdict
from truepixel_dagster.settings import Settings
from truepixel_dagster.stream.client_config import client_config

ANSWER_SECONDS, KAFKA_SECONDS = 20.0, 10.0
# How long a client waits after a refused connection.
AGAIN_SECONDS = 0.05
EVENT_ID = "X-Shopify-Webhook-Id"


class Found(NamedTuple):
    """Hold a record of the topic."""

    partition: int
    offset: int
    key: bytes
    value: bytes
    headers: dict[str, bytes]


class Promised(NamedTuple):
    """Hold a delivery that was answered with 200."""

    key: bytes
    value: bytes


def signed(topic: str, body: bytes, *, secret: bytes = APP_SECRET, domain: str = DOMAIN) -> dict[str, str]:
    """Return Shopify's headers of a webhook."""
    return {
        "Content-Type": "application/json",
        "X-Shopify-Topic": topic,
        "X-Shopify-Shop-Domain": domain,
        EVENT_ID: str(uuid.uuid4()),
        "X-Shopify-Triggered-At": "2026-01-12T05:30:00.000000000Z",
        "X-Shopify-Hmac-Sha256": sign(body, secret).decode(),
    }


class Senders:
    """Clients that send signed webhooks as fast as they are answered, and record the promises.

    Arguments:
        port: Where the collector listens; after a refused connection the clients continue.
        connections: The number of clients.
        keys: How many keys each client uses in turn; it sends a key's next webhook after the answer to the last one.
        size: Bytes of filler in each body.
        pause: Seconds between two webhooks of a client.

    Attributes:
        promised: The promised deliveries by id; those of each key in the order of sending.
        statuses: The number of answers by status; 0 for no answer, after which the record may or may not be durable.
        slowest: Seconds of the slowest answer.
    """

    def __init__(self, port: int, *, connections: int, keys: int = 5, size: int = 500, pause: float = 0.0) -> None:
        self._port = port
        # No two sets of clients send the same.
        self._name = uuid.uuid4().hex[:8]
        self._keys = keys
        self._filler = "x" * size
        self._pause = pause
        self._stop = threading.Event()
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self.promised: dict[str, Promised] = {}
        self.statuses: Counter[int] = Counter()
        self.slowest = 0.0
        self._threads = [
            threading.Thread(target=self._run, args=(number,), daemon=True) for number in range(connections)
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Senders:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> Senders:
        """Stop the clients after their last answers."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        return self

    def _run(self, client: int) -> None:
        connection: http.client.HTTPConnection | None = None
        for turn in itertools.count():
            if self._stop.wait(self._pause):
                return
            name = f"{self._name}-{client}-{turn % self._keys}"
            notes = [{"name": "client_id", "value": name}]
            body = msgspec.json.encode({"id": next(self._numbers), "note_attributes": notes, "note": self._filler})
            headers = signed("orders/create", body)
            began = time.monotonic()
            try:
                connection = connection or http.client.HTTPConnection("127.0.0.1", self._port, timeout=ANSWER_SECONDS)
                connection.request("POST", "/v1/webhooks", body, headers)
                answer = connection.getresponse()
                answer.read()
                status = answer.status
            except (OSError, http.client.HTTPException):
                connection, status = None, 0
                time.sleep(AGAIN_SECONDS)
            with self._lock:
                self.statuses[status] += 1
                self.slowest = max(self.slowest, time.monotonic() - began)
                if status == 200:
                    self.promised[headers[EVENT_ID]] = Promised(f"{SHOP}:{name}".encode(), body)


class Broken(NamedTuple):
    """Name the promises that were not kept, by the delivery's id."""

    lost: list[str]
    altered: list[str]
    out_of_order: list[str]


def broken(promised: Mapping[str, Promised], records: Iterable[Found]) -> Broken:
    """Compare the promised deliveries with the topic.

    A promise is kept if the first record with the delivery's id and every copy of it have the key and the body as sent,
    and if the first records of a key are in one partition in the order in which they were sent.

    Arguments:
        promised: The promised deliveries by id; those of each key in the order of sending.
        records: The topic's records, each partition in order.
    """
    first: dict[str, Found] = {}
    altered = []
    for record in records:
        event_id = record.headers.get("event_id", b"").decode()
        if (promise := promised.get(event_id)) is None:
            continue
        first.setdefault(event_id, record)
        if (record.key, record.value) != promise:
            altered.append(event_id)
    before: dict[bytes, Found] = {}
    out_of_order = []
    for event_id in filter(first.__contains__, promised):
        key, found = promised[event_id].key, first[event_id]
        last = before.get(key, found)
        if last.partition != found.partition or last.offset > found.offset:
            out_of_order.append(event_id)
        before[key] = found
    return Broken([event_id for event_id in promised if event_id not in first], altered, out_of_order)


def verdict(promised: Mapping[str, Promised], found: Broken) -> Verdict:
    """Return the verdict on the collector's promises in a round."""
    altered = [Difference("topic", event_id, "differs", "record", "as sent", "altered") for event_id in found.altered]
    moved = [Difference("topic", event_id, "differs", "order", "as sent", "another") for event_id in found.out_of_order]
    lost = [f"promise {event_id}" for event_id in found.lost]
    return Verdict(0, 0, 0, 0, lost, [*altered, *moved], promised=len(promised))


def on_topic(settings: Settings, since: Mapping[int, int] | None = None) -> list[Found]:
    """Return the topic's records, each partition in order.

    Arguments:
        settings: The servers and the topic.
        since: The first offset by partition; from the start by default.

    Raises:
        KafkaException: Kafka does not answer.
    """
    config = {**client_config(settings.kafka()), "group.id": f"judge-{uuid.uuid4()}", "enable.auto.commit": False}
    found: list[Found] = []
    with closing(Consumer(config)) as consumer:
        for number in consumer.list_topics(settings.topic, KAFKA_SECONDS).topics[settings.topic].partitions:
            low, high = consumer.get_watermark_offsets(TopicPartition(settings.topic, number), KAFKA_SECONDS)
            low = max(low, (since or {}).get(number, low))
            consumer.assign([TopicPartition(settings.topic, number, low)])
            while low < high:
                for message in consumer.consume(500, 0.5):
                    if message.error():
                        raise KafkaException(message.error())
                    low = (message.offset() or 0) + 1
                    found.append(_found(message))
    return found


def _found(message: Message) -> Found:
    headers: dict[str, Any] = dict(message.headers() or [])
    return Found(message.partition() or 0, message.offset() or 0, message.key() or b"", message.value() or b"", headers)
