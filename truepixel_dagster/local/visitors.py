"""Send generated records to the collector as Shopify and the visitors' browsers do: over HTTP, several at once.

The records of one visitor are sent in order, one after the other; different visitors send concurrently. A webhook is
signed with the app's secret. Consecutive pixel events of a visitor are one batch with the shop's pixel token, from the
visitor's own address. Records that are broken on purpose, and that HTTP cannot carry, go to Kafka directly.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from hashlib import blake2b
from itertools import groupby

import msgspec

from truepixel_dagster.collector.signature import sign
from truepixel_dagster.local.connected import Connected
from truepixel_dagster.local.traffic import Record
from truepixel_dagster.stream.producer import EventProducer

CONNECTIONS = 32
# Below the collector's limits of 256 events and 512 KiB.
BATCH_EVENTS, BATCH_BYTES = 50, 256 * 1024
RETRY_STATUSES = frozenset({429, 503})
_RETRY_SECONDS = 0.5
# The collector treats user agents of HTTP libraries as bots.
_BROWSER = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36"
_EVENT_IDS = uuid.UUID("5f1f3f4e-7d0b-4c1e-9a55-0d6f3f0f7c11")


class Sent(msgspec.Struct):
    """Count records: acknowledged webhooks and pixel events, and those that went to Kafka directly."""

    webhooks: int = 0
    pixel_events: int = 0
    to_kafka: int = 0

    @property
    def total(self) -> int:
        """Return the number of all records."""
        return self.webhooks + self.pixel_events + self.to_kafka

    def __str__(self) -> str:
        return (
            f"the collector acknowledged {self.webhooks:,} webhooks and {self.pixel_events:,} pixel events;"
            f" {self.to_kafka:,} broken records, which HTTP cannot carry, went to Kafka directly"
        )


class CollectorRefused(Exception):
    """The collector refused a record of the demo permanently; the message says which and why."""


class Visitors:
    """Send records to a collector, and count what it acknowledges.

    Arguments:
        collector: The collector's address, how each shop sends its events, and the app's client secret.
        say: Prints a line when the collector becomes unreachable and when it acknowledges again.
    """

    def __init__(self, collector: Connected, say: Callable[[str], None]) -> None:
        self.sent = Sent()
        self._collector = collector
        self._say = say
        self._trouble = ""

    @asynccontextmanager
    async def connected(self, producer: EventProducer) -> AsyncIterator[None]:
        """Keep connections open during the block; the producer sends the records that HTTP cannot carry."""
        import aiohttp  # Imported here, because every command imports this module.

        self._producer = producer
        connector, timeout = aiohttp.TCPConnector(limit=CONNECTIONS), aiohttp.ClientTimeout(total=10)
        async with aiohttp.ClientSession(
            connector=connector, timeout=timeout, headers={"User-Agent": _BROWSER}
        ) as self._session:
            yield

    async def send(self, records: Iterable[Record]) -> None:
        """Send records and wait until each is acknowledged, also while the collector is unreachable.

        Raises:
            CollectorRefused: The collector refused a record permanently.
        """
        of_visitor: dict[bytes, list[Record]] = {}
        for record in records:
            if record.kind == "malformed":
                self._producer.send(record.key, record.value, record.headers)
                self.sent.to_kafka += 1
            else:
                of_visitor.setdefault(record.key, []).append(record)
        await asyncio.gather(*(self._send_in_order(records) for records in of_visitor.values()))

    async def _send_in_order(self, records: Sequence[Record]) -> None:
        for is_webhook, found in groupby(records, key=is_of_webhook):
            if is_webhook:
                for record in found:
                    await self._webhook(record)
                    self.sent.webhooks += 1
            else:
                for batch in batches(found):
                    await self._pixel(batch)
                    self.sent.pixel_events += len(batch)

    async def _webhook(self, record: Record) -> None:
        headers = {
            "Content-Type": "application/json",
            "X-Shopify-Topic": record.name,
            "X-Shopify-Shop-Domain": self._collector.doors[shop_id(record)].domain,
            "X-Shopify-Webhook-Id": webhook_id(record),
            "X-Shopify-Hmac-Sha256": sign(record.value, self._collector.secret).decode(),
        }
        await self._post("/v1/webhooks", record.value, headers)

    async def _pixel(self, batch: Sequence[Record]) -> None:
        path = f"/v1/pixel?token={self._collector.doors[shop_id(batch[0])].pixel_token}"
        body = b"[" + b",".join(record.value for record in batch) + b"]"
        headers = {"Content-Type": "text/plain", "Origin": "null", "X-Forwarded-For": address_of(batch[0].key)}
        answer = await self._post(path, body, headers)
        if rejected := msgspec.json.decode(answer)["rejected"]:
            raise CollectorRefused(f"the collector rejected a generated pixel event: {rejected[0]['reason']}")

    async def _post(self, path: str, body: bytes, headers: Mapping[str, str]) -> bytes:
        """Post until the request is acknowledged; return the answer's body."""
        from aiohttp import ClientError

        while True:
            pause = _RETRY_SECONDS
            try:
                async with self._session.post(self._collector.address + path, data=body, headers=headers) as answer:
                    said = await answer.read()
                if answer.status == 200:
                    self._tell("")
                    return said
                if answer.status not in RETRY_STATUSES:
                    raise CollectorRefused(f"the collector answered {answer.status}: {said[:300].decode()}")
                pause = float(answer.headers.get("Retry-After", pause))
                self._tell(f"the collector answers {answer.status} and asks to retry")
            except (ClientError, asyncio.TimeoutError) as error:
                self._tell(f"the collector at {self._collector.address} is unreachable: {type(error).__name__}")
            await asyncio.sleep(min(pause, 2.0))

    def _tell(self, trouble: str) -> None:
        """Report trouble and its end, each once."""
        if trouble and not self._trouble:
            self._say(f"{trouble}; the visitors wait")
        elif self._trouble and not trouble:
            self._say("the collector acknowledges again; the visitors continue")
        self._trouble = trouble


def is_of_webhook(record: Record) -> bool:
    """Return whether Shopify's server sends this record: names of webhooks are topics such as `orders/paid`."""
    return "/" in record.name


def shop_id(record: Record) -> str:
    """Return the id of a record's shop."""
    return record.key.partition(b":")[0].decode()


def webhook_id(record: Record) -> str:
    """Return the id of a webhook's delivery, made from its content if the record has none."""
    headers = dict(record.headers)
    found = next((headers[name] for name in headers if name == "event_id" or name.endswith("Webhook-Id")), None)
    return found.decode() if found else str(uuid.uuid5(_EVENT_IDS, blake2b(record.value).hexdigest()))


def address_of(key: bytes) -> str:
    """Return the visitor's own address, which the demo forwards like a proxy, because rate limits are per address."""
    return "10." + ".".join(str(byte) for byte in blake2b(key, digest_size=3).digest())


def batches(records: Iterable[Record]) -> Iterator[list[Record]]:
    """Divide pixel events into batches that the collector accepts, in order."""
    batch: list[Record] = []
    size = 0
    for record in records:
        if batch and (len(batch) == BATCH_EVENTS or size + len(record.value) > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(record)
        size += len(record.value) + 1
    if batch:
        yield batch
