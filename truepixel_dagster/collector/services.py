"""What the endpoints work with, and how a promise is waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from truepixel_dagster.collector.delivery import LATE, TOO_LARGE, Delivery, Promise
from truepixel_dagster.collector.http import Answer, Room, again_after
from truepixel_dagster.collector.http import error as refusal
from truepixel_dagster.collector.limits import Limiter, Network
from truepixel_dagster.collector.metrics import Metrics
from truepixel_dagster.collector.record import Record
from truepixel_dagster.collector.registry import AppSecrets, Registry
from truepixel_dagster.collector.tokens import Tokens

# Shopify gives up after five seconds, of which one may be the connection's.
ANSWER_SECONDS = 3.5
RETRY_SECONDS = 10
# Bytes of bodies that are in memory at once.
ROOM_BYTES = 32 * 1024 * 1024

RETRY = refusal(503, "it could not be made safe: come again", [again_after(RETRY_SECONDS)])
NEVER = refusal(413, "Kafka takes no record of this size")


@dataclass
class Services:
    """All that the endpoints need.

    `uninstalled` keeps that a shop has left, from its id and the time; it may block.
    """

    delivery: Delivery
    registry: Registry
    tokens: Tokens
    app_secrets: AppSecrets
    uninstalled: Callable[[str, int], None]
    by_shop: Limiter
    by_address: Limiter
    proxies: tuple[Network, ...] = ()
    consent: str = "strip"
    metrics: Metrics = field(default_factory=Metrics)
    room: Room = field(default_factory=lambda: Room(ROOM_BYTES))
    is_leaving: bool = False

    def deadline(self) -> float:
        """When a request that begins now has to be answered, by the event loop's clock."""
        return asyncio.get_running_loop().time() + ANSWER_SECONDS

    async def promised(self, source: str, records: Sequence[Record], answer: Answer, deadline: float) -> Answer:
        """Send records and wait until they are safe.

        Arguments:
            source: Of whom they are, for the counts.
            records: One or several.
            answer: What is answered if all are.
            deadline: When it is given up, by the event loop's clock.
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
        """Why it is to get no traffic; None if it is ready."""
        if self.is_leaving:
            return "it is ending"
        if not self.registry.has_answered:
            return "the registry of shops has not answered yet"
        topic = self.delivery.topic
        if topic is not None and topic.is_broken:
            return "Kafka's client is broken"
        return None if self.delivery.takes else "neither Kafka nor the journal takes anything"
