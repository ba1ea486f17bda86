"""A collector as a process of its own, and a client that sends to it as Shopify and as the pixel."""

from __future__ import annotations

import http.client
import itertools
import json
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from confluent_kafka import Consumer, TopicPartition

from truepixel_dagster.collector.signature import sign
from truepixel_dagster.instance.process import environment
from truepixel_dagster.settings import Settings
from truepixel_dagster.stores.connections import Connection, Secret, change
from truepixel_dagster.stores.mongodb import MongoStore
from truepixel_dagster.stream.client_config import client_config

SHOP, DOMAIN, TOKEN = "548380009", "toys.myshopify.com", "tp_toys"
APP_SECRET = b"shpss_app-secret"
WAIT_SECONDS = 60.0


class Answered(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes
    seconds: float

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Running:
    """A collector that runs."""

    def __init__(self, process: subprocess.Popen[str], port: int, lines: list[str]) -> None:
        self.process = process
        self.port = port
        self.lines = lines

    def ask(self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> Answered:
        began = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, body or None, headers or {})
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Answered(answer.status, found, answer.read(), time.monotonic() - began)
        finally:
            connection.close()

    def webhook(
        self, topic: str, payload: Any, *, secret: bytes = APP_SECRET, domain: str = DOMAIN, **headers: str
    ) -> Answered:
        body = payload if isinstance(payload, bytes) else msgspec.json.encode(payload)
        return self.ask("POST", "/v1/webhooks", body, signed(topic, body, secret=secret, domain=domain) | headers)

    def pixel(self, payload: Any, *, token: str = TOKEN, **headers: str) -> Answered:
        body = payload if isinstance(payload, bytes) else msgspec.json.encode(payload)
        usual = {"Content-Type": "text/plain", "Origin": "null"}
        return self.ask("POST", f"/v1/pixel?token={token}", body, usual | headers)

    def metrics(self) -> dict[str, float]:
        text = self.ask("GET", "/metrics").body.decode()
        lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
        return {name.removeprefix("truepixel_collector_"): float(value) for name, _, value in lines}

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def end(self, seconds: float = 30) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)


def signed(topic: str, body: bytes, *, secret: bytes = APP_SECRET, domain: str = DOMAIN) -> dict[str, str]:
    return {
        "Content-Type": "application/json",
        "X-Shopify-Topic": topic,
        "X-Shopify-Shop-Domain": domain,
        "X-Shopify-Webhook-Id": str(uuid.uuid4()),
        "X-Shopify-Triggered-At": "2026-01-12T05:30:00.000000000Z",
        "X-Shopify-Hmac-Sha256": sign(body, secret).decode(),
    }


def until(condition: Any, seconds: float = WAIT_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that in time"
        time.sleep(0.02)


def connect(settings: Settings, shop: str = SHOP, domain: str = DOMAIN, token: str = TOKEN, *own: Secret) -> None:
    """Make a shop known to collectors."""
    store = MongoStore(settings)
    change(store, shop, lambda _: Connection(domain, token, 1, own))
    store.close()


def with_app_secret(settings: Settings, folder: Path, **update: Any) -> Settings:
    """The settings with a file of the app's secrets."""
    file = folder / "app-secrets"
    file.write_bytes(APP_SECRET + b"\n")
    return settings.model_copy(update={"collector_app_secrets_file": str(file), **update})


@contextmanager
def running(settings: Settings, *arguments: str, ready: bool = True) -> Iterator[Running]:
    """A collector on a free port; killed with the block if it is still there."""
    command = [sys.executable, "-m", "truepixel_dagster.cli", "collector", "--port", "0", *arguments]
    process = subprocess.Popen(command, env=variables(settings), stderr=subprocess.PIPE, text=True)
    lines: list[str] = []
    reader = threading.Thread(target=_read, args=(process, lines), daemon=True)
    reader.start()
    try:
        until(lambda: any("listening at" in line for line in lines) or process.poll() is not None)
        line = next((line for line in lines if "listening at" in line), "")
        assert line, "".join(lines)
        running_ = Running(process, int(line.split(";")[0].rpartition(":")[2]), lines)
        if ready and "https" not in line:
            until(lambda: running_.ask("GET", "/readyz").status == 200)
        yield running_
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        reader.join(5)


def variables(settings: Settings) -> dict[str, str]:
    """The environment of a process with these settings."""
    return {**environment(settings), "PYTHONUNBUFFERED": "1", "COLUMNS": "300"}


def _read(process: subprocess.Popen[str], lines: list[str]) -> None:
    assert process.stderr
    lines.extend(process.stderr)


class Found(NamedTuple):
    partition: int
    offset: int
    key: bytes
    value: bytes
    headers: dict[str, bytes]


def on_topic(settings: Settings) -> list[Found]:
    """Every record of the topic, each partition in order."""
    consumer = Consumer({**client_config(settings), "group.id": f"judge-{uuid.uuid4()}", "enable.auto.commit": False})
    found: list[Found] = []
    try:
        partitions = consumer.list_topics(settings.topic, 10).topics[settings.topic].partitions
        for number in partitions:
            low, high = consumer.get_watermark_offsets(TopicPartition(settings.topic, number), 10)
            consumer.assign([TopicPartition(settings.topic, number, low)])
            while low < high:
                for message in consumer.consume(500, 0.5):
                    assert message.error() is None
                    low = message.offset() + 1
                    headers = dict(message.headers() or [])
                    found.append(Found(number, message.offset(), message.key(), message.value(), headers))
    finally:
        consumer.close()
    return found


class Load:
    """Clients that send signed webhooks as fast as they are answered, and keep what was promised to them."""

    def __init__(self, port: int, *, connections: int, keys: int = 5, size: int = 500) -> None:
        self.port = port
        # Of several loads no two send the same.
        self._name = uuid.uuid4().hex[:8]
        self._keys = keys
        self._filler = "x" * size
        self._stop = threading.Event()
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        #: By key what was promised, in the order of asking: one client asks for a key at a time.
        self.promised: dict[bytes, bytes] = {}
        self.order: dict[str, list[bytes]] = {}
        self.statuses: Counter[int] = Counter()
        self.slowest = 0.0
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(connections)]
        for thread in self._threads:
            thread.start()

    def end(self) -> Load:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)
        return self

    def _run(self, client: int) -> None:
        connection: http.client.HTTPConnection | None = None
        while not self._stop.is_set():
            key = f"{self._name}-{client}-{next(self._numbers) % self._keys}"
            notes = [{"name": "client_id", "value": key}]
            body = msgspec.json.encode({"id": next(self._numbers), "note_attributes": notes, "note": self._filler})
            began = time.monotonic()
            try:
                connection = connection or http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
                connection.request("POST", "/v1/webhooks", body, signed("orders/create", body))
                answer = connection.getresponse()
                answer.read()
                status = answer.status
            except (OSError, http.client.HTTPException):
                # Killed, or it ends: what was sent may be there or not.
                connection, status = None, 0
                time.sleep(0.05)
            with self._lock:
                self.statuses[status] += 1
                self.slowest = max(self.slowest, time.monotonic() - began)
                if status == 200:
                    self.promised[body] = key.encode()
                    self.order.setdefault(f"{SHOP}:{key}", []).append(body)


def judge(load: Load, records: list[Found]) -> None:
    """Every promise is on the topic exactly as it was sent, under its key, and each key's in the order of asking."""
    places: dict[bytes, Found] = {}
    for record in records:
        places.setdefault(record.value, record)
    assert load.promised
    missing = [body for body in load.promised if body not in places]
    assert not missing, f"{len(missing)} of {len(load.promised)} promises are not on the topic"
    for key, bodies in load.order.items():
        found = [places[body] for body in bodies]
        assert {record.key for record in found} == {key.encode()}
        assert len({record.partition for record in found}) == 1
        assert [record.offset for record in found] == sorted(record.offset for record in found)
