"""The services that the endpoints use, and the wait for a promise."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from truepixel_dagster.collector.delivery import Delivery
from truepixel_dagster.collector.google_tokens import GoogleTokens
from truepixel_dagster.collector.http import Answer, Room, again_after
from truepixel_dagster.collector.http import error as refusal
from truepixel_dagster.collector.limits import Limiter, Network
from truepixel_dagster.collector.metrics import Metrics
from truepixel_dagster.collector.promise import LATE, TOO_LARGE, Promise
from truepixel_dagster.collector.record import Record
from truepixel_dagster.collector.registry import AppSecrets, Registry
from truepixel_dagster.collector.tokens import Tokens

# Shopify gives up after five seconds; connecting may take one of them.
ANSWER_SECONDS = 3.5
RETRY_SECONDS = 10
# The limit on the bytes of all bodies in memory at once.
ROOM_BYTES = 32 * 1024 * 1024

RETRY = refusal(503, "the record could not be stored: retry later", [again_after(RETRY_SECONDS)])
NEVER = refusal(413, "Kafka accepts no record of this size")


@dataclass
class Services:
    """Hold all that the endpoints need.

    `google` and `eventbridge_keys` are None if their endpoints are off. `uninstalled` records that a shop has
    uninstalled the app, from its id and the time; it may block.
    """

    delivery: Delivery
    registry: Registry
    tokens: Tokens
    app_secrets: AppSecrets
    google: GoogleTokens | None
    eventbridge_keys: AppSecrets | None
    uninstalled: Callable[[str, int], None]
    by_shop: Limiter
    by_address: Limiter
    proxies: tuple[Network, ...] = ()
    consent: str = "strip"
    metrics: Metrics = field(default_factory=Metrics)
    room: Room = field(default_factory=lambda: Room(ROOM_BYTES))
    is_leaving: bool = False

    def deadline(self) -> float:
        """Return the deadline of a request that begins now, in the event loop's time."""
        return asyncio.get_running_loop().time() + ANSWER_SECONDS

    async def promised(self, source: str, records: Sequence[Record], answer: Answer, deadline: float) -> Answer:
        """Send records and wait until they are durable.

        Arguments:
            source: The source of the records, for the metrics.
            records: One or more records.
            answer: The answer if all of them are durable.
            deadline: When to give up, in the event loop's time.
        """
        loop = asyncio.get_running_loop()
        promise = Promise(len(records), loop.create_future())
        self.delivery.offer(records, promise)
        timer = loop.call_at(deadline, promise.break_, LATE)
        try:
            reason = await promise.answer
        finally:
            timer.cancel()
        self.metrics.count(source, reason or "promised", len(records))
        if not reason:
            return answer
        return NEVER if reason == TOO_LARGE else RETRY

    @property
    def unready(self) -> str | None:
        """Return why the collector should receive no traffic; None if it is ready."""
        if self.is_leaving:
            return "the collector is shutting down"
        if not self.registry.has_answered:
            return "the registry of shops has not answered yet"
        topic = self.delivery.topic
        if topic is not None and topic.is_broken:
            return "Kafka's client has failed for good"
        return None if self.delivery.takes else "neither Kafka nor the journal accepts records"
