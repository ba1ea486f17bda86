"""`POST /v1/pixel?token=…`: receives the events of the storefront's pixel, which carry no signature.

The token is public and only names the shop: anyone who knows it may send. A browser sends `text/plain` without a
preflight, from a sandbox whose `Origin` is `null`; every page may read the answers, and they carry no credentials.

| answer | when |
| --- | --- |
| 200 | every valid event is durable; `rejected` gives the reason for each invalid one |
| 400 | the body contains no valid event, or is not a batch |
| 403 | no shop has this token, or the shop has uninstalled the app |
| 413 | the batch is larger than 512 KiB |
| 415 | the content type is neither `text/plain` nor `application/json` |
| 429, 503 | retry after `Retry-After` seconds; stage 1 drops events that were already durable, by their ids |

Only 429 and 503 are worth a retry. The collector uses the sender's address for limits, and never stores or logs it.
"""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import parse_qs

from truepixel_dagster.collector.http import (
    Answer,
    Body,
    Header,
    NoRoom,
    Receive,
    Scope,
    TooLarge,
    again_after,
    json_answer,
)
from truepixel_dagster.collector.http import error as refusal
from truepixel_dagster.collector.limits import sender
from truepixel_dagster.collector.pixel import MAX_BATCH_BYTES, BadBatch, Batch, Dropped, Taken, judge, split
from truepixel_dagster.collector.pixel import Refused as RefusedEvent
from truepixel_dagster.collector.registry import Known, RegistryAway
from truepixel_dagster.collector.services import NEVER, RETRY, RETRY_SECONDS, Services
from truepixel_dagster.events.bots import MAX_USER_AGENT, is_bot

PREFLIGHT_SECONDS = 86_400
_ANYBODY: tuple[Header, ...] = (
    (b"access-control-allow-origin", b"*"),
    (b"access-control-expose-headers", b"retry-after"),
    (b"cache-control", b"no-store"),
)
PREFLIGHT = Answer(
    204,
    b"",
    (
        *_ANYBODY,
        (b"access-control-allow-methods", b"POST"),
        (b"access-control-allow-headers", b"content-type"),
        (b"access-control-max-age", str(PREFLIGHT_SECONDS).encode()),
    ),
)
_TYPES = frozenset({b"application/json", b"text/plain", b""})
_MAX_QUERY_BYTES = 1024


def _refusal(status: int, reason: str, *headers: Header) -> Answer:
    return refusal(status, reason, (*_ANYBODY, *headers))


AWAY = _refusal(503, "the events could not be stored: retry later", again_after(RETRY_SECONDS))
UNKNOWN = _refusal(403, "no connected shop has this token")
TOO_LARGE = _refusal(413, f"the batch is larger than {MAX_BATCH_BYTES} bytes")
NEVER_TAKEN = _refusal(413, "an event is larger than Kafka accepts")
TYPE = _refusal(415, "send text/plain or application/json")


class Pixels:
    """Handle the endpoint's requests."""

    name = "pixel"

    def __init__(self, services: Services) -> None:
        self._services = services

    async def answer(self, scope: Scope, receive: Receive) -> Answer:
        """Answer a request."""
        if scope["method"] == "OPTIONS":
            return PREFLIGHT
        services = self._services
        deadline = services.deadline()
        headers = dict(reversed(scope["headers"]))
        if headers.get(b"content-type", b"").partition(b";")[0].strip().lower() not in _TYPES:
            return self._counted(TYPE)
        if wait := services.by_address.take(self._sender(scope)):
            return self._counted(_refusal(429, "too many requests from this address", again_after(wait)))
        with Body(scope, receive, MAX_BATCH_BYTES, services.room) as reading:
            try:
                body = await reading.read()
                known = await self._shop(scope["query_string"])
                batch = split(body)
            except TooLarge:
                return self._counted(TOO_LARGE)
            except BadBatch as error:
                return self._counted(_refusal(400, str(error)))
            except (NoRoom, RegistryAway):
                return self._counted(AWAY)
            if known is None:
                return self._counted(UNKNOWN)
            if wait := services.by_shop.take(known.shop, len(batch.events)):
                return self._counted(_refusal(429, "too many events from this shop", again_after(wait)))
            return await self._take(known, batch, _bots_agent(headers), deadline)

    async def _take(self, known: Known, batch: Batch, agent: str, deadline: float) -> Answer:
        services, now = self._services, int(time.time() * 1000)
        shop, domain = known.shop, known.connection.domain
        found = [
            judge(event, batch, shop=shop, domain=domain, now=now, consent=services.consent, agent=agent)
            for event in batch.events
        ]
        taken = [each for each in found if isinstance(each, Taken)]
        rejected = [
            {"index": at, "reason": each.reason} for at, each in enumerate(found) if isinstance(each, RefusedEvent)
        ]
        dropped = sum(isinstance(each, Dropped) for each in found)
        services.metrics.count(self.name, "rejected", len(rejected))
        services.metrics.count(self.name, "dropped", dropped)
        said: dict[str, Any] = {"accepted": len(taken), "dropped": dropped, "rejected": rejected}
        if not taken:
            return json_answer(200 if dropped else 400, {**said, "retry": False}, _ANYBODY)
        answer = json_answer(200, said, _ANYBODY)
        answer = await services.promised(self.name, [each.record for each in taken], answer, deadline)
        if answer.status == 200:
            for each in taken:
                if each.client and each.tokens:
                    services.tokens.report(shop, each.tokens, each.client)
        return AWAY if answer is RETRY else NEVER_TAKEN if answer is NEVER else answer

    async def _shop(self, query: bytes) -> Known | None:
        """Return the shop of a query string's token; None for an unknown or expired token or an uninstalled app.

        Raises:
            RegistryAway: MongoDB cannot say.
        """
        token = parse_qs(query[:_MAX_QUERY_BYTES].decode("latin-1")).get("token", [""])[0]
        known = await self._services.registry.by_pixel_token(token) if token and token.isascii() else None
        return known if known is not None and known.connection.accepts(token, int(time.time() * 1000)) else None

    def _sender(self, scope: Scope) -> str:
        peer = scope.get("client") or ("", 0)
        return sender(peer[0], _forwarded(scope["headers"]), self._services.proxies)

    def _counted(self, answer: Answer) -> Answer:
        self._services.metrics.count(self.name, _OUTCOMES.get(answer.status, "away"))
        return answer


_OUTCOMES = {400: "bad batch", 403: "unknown shop", 413: "too large", 415: "bad type", 429: "limited"}


def _forwarded(headers: list[Header]) -> str:
    """Return all of `X-Forwarded-For`, however many headers the proxies wrote it into."""
    return ",".join(value.decode("latin-1") for name, value in headers if name == b"x-forwarded-for")


def _bots_agent(headers: dict[bytes, bytes]) -> str:
    """Return a request's user agent if it is a known bot's; otherwise an empty text."""
    agent = headers.get(b"user-agent", b"").decode("latin-1")[:MAX_USER_AGENT]
    return agent if is_bot(agent) else ""
