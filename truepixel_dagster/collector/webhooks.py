"""`POST /v1/webhooks`: receives Shopify's signed deliveries.

The endpoint verifies the signature before it parses the body. A signed body that it cannot parse still goes to the
topic, where it becomes a dead letter with the reason: nothing that Shopify sends is lost.

| answer | when |
| --- | --- |
| 200 | the record is durable |
| 400 | the signature is valid, and the topic is missing |
| 401 | the signature is missing or wrong: nothing is written |
| 403 | the signature is valid, and the body names another shop than the header |
| 404 | the signature is valid, and the shop is not connected |
| 413 | the body is larger than 10 MiB, or than Kafka accepts |
| 503 | the record could not be stored, or the shop could not be looked up: retry later |

The three privacy webhooks are signed with the app's secret and answered like all others
(https://shopify.dev/docs/apps/build/compliance/privacy-law-compliance). Shopify also sends them for shops that are no
longer connected; then the signed body names the shop.
"""

from __future__ import annotations

import asyncio
import time
from functools import lru_cache
from typing import NamedTuple

from truepixel_dagster.collector.client import Named, client_of, named
from truepixel_dagster.collector.http import Answer, Body, NoRoom, Receive, Scope, TooLarge
from truepixel_dagster.collector.http import error as refusal
from truepixel_dagster.collector.record import Record, webhook_record
from truepixel_dagster.collector.registry import WAIT_SECONDS, Known, RegistryAway
from truepixel_dagster.collector.services import RETRY, Services
from truepixel_dagster.collector.signature import is_signed
from truepixel_dagster.events.headers import topic_name
from truepixel_dagster.events.privacy_request import PRIVACY_TOPICS
from truepixel_dagster.events.shop import host_of
from truepixel_dagster.events.times import to_millis
from truepixel_dagster.events.user_key import parse_user_key

MAX_BODY_BYTES = 10 * 1024 * 1024
UNINSTALLED = "app/uninstalled"
# The digest of a larger body would block other requests for too long.
_LONG_DIGEST_BYTES = 256 * 1024
_MAX_TOPIC_BYTES, _MAX_ID_BYTES, _MAX_DOMAIN_BYTES = 200, 256, 300
_NAMES = ("topic", "webhook-id", "shop-domain", "triggered-at", "hmac-sha256")
_PLACES = {f"{prefix}shopify-{name}".encode(): at for at, name in enumerate(_NAMES) for prefix in ("", "x-")}

SAFE = Answer(200)
UNSIGNED = refusal(401, "the signature is missing or wrong")
NO_TOPIC = refusal(400, "the header X-Shopify-Topic is missing or invalid")
OTHERS = refusal(403, "the body names another shop than the header X-Shopify-Shop-Domain")
UNKNOWN = refusal(404, "no connected shop has this domain")
TOO_LARGE = refusal(413, f"the body is larger than {MAX_BODY_BYTES} bytes")


class Sent(NamedTuple):
    """Hold what Shopify's headers say; a missing header is empty."""

    topic: bytes
    event_id: bytes
    domain: bytes
    triggered_at: bytes
    signature: bytes


def sent(headers: list[tuple[bytes, bytes]]) -> Sent:
    """Return what a request's headers say. If a header is repeated, its first value counts."""
    found = [b""] * len(_NAMES)
    for name, value in headers:
        place = _PLACES.get(name)
        if place is not None and not found[place]:
            found[place] = value
    return Sent(*found)


class Webhooks:
    """Handle the endpoint's requests."""

    name = "webhooks"
    headers: tuple[tuple[bytes, bytes], ...] = ()

    def __init__(self, services: Services) -> None:
        self._services = services

    async def answer(self, scope: Scope, receive: Receive) -> Answer:
        """Answer a request."""
        services = self._services
        deadline = services.deadline()
        says = sent(scope["headers"])
        with Body(scope, receive, MAX_BODY_BYTES, services.room) as reading:
            try:
                body = await reading.read()
                found = await self._record(says, body)
            except TooLarge:
                return TOO_LARGE
            except (NoRoom, RegistryAway):
                services.metrics.count(self.name, "away")
                return RETRY
            if isinstance(found, Answer):
                return counted(services, self.name, found)
            return await services.promised(self.name, [found], SAFE, deadline)

    async def _record(self, says: Sent, body: bytes) -> Record | Answer:
        """Return the record of a signed delivery, or the answer that refuses it.

        Raises:
            RegistryAway: MongoDB cannot say which shop it is from.
        """
        services, now = self._services, int(time.time() * 1000)
        if not says.signature:
            return UNSIGNED
        by_app = await _signed(body, says.signature, services.app_secrets.now())
        known = await shop_of(services, says)
        if not by_app and not (known and await _signed(body, says.signature, known.keys(now))):
            return UNSIGNED
        return await record_of(services, says, body, known, now)


_OUTCOMES = {400: "refused", 401: "unsigned", 403: "other shop", 404: "unknown shop", 413: "too large"}


def counted(services: Services, source: str, answer: Answer) -> Answer:
    """Count a refusal, and return it."""
    services.metrics.count(source, _OUTCOMES[answer.status])
    return answer


async def shop_of(services: Services, says: Sent) -> Known | None:
    """Return the connected shop that the headers name; None if there is none.

    Raises:
        RegistryAway: MongoDB cannot say.
    """
    domain = _domain(says.domain)
    return await services.registry.by_domain(domain) if domain else None


async def record_of(services: Services, says: Sent, body: bytes, known: Known | None, now: int) -> Record | Answer:
    """Return the record of a delivery that has proved where it comes from, or the answer that refuses it.

    Arguments:
        services: What endpoints need.
        says: What Shopify's headers say.
        body: The webhook's body.
        known: The connected shop that the headers name.
        now: When it arrived, in milliseconds since the epoch.

    Raises:
        RegistryAway: MongoDB cannot record that a shop has uninstalled the app.
    """
    domain = _domain(says.domain)
    topic = topic_name(says.topic.decode("latin-1")) or ""
    if not topic.isprintable() or not topic.isascii() or not 0 < len(topic) <= _MAX_TOPIC_BYTES:
        return NO_TOPIC
    names = named(topic, body)
    shop = _shop(topic, domain, names, known)
    if isinstance(shop, Answer):
        return shop
    if topic == UNINSTALLED and known is not None:
        await _uninstalled(services, known, says, now)
    event_id = says.event_id.decode("latin-1")[:_MAX_ID_BYTES]
    client = None if names.client else await services.tokens.client_of(shop, names.tokens)
    key = f"{shop}:{client_of(names, client, event_id)}".encode()
    return webhook_record(key, body, domain, now, topic=topic, event_id=event_id.encode())


async def _uninstalled(services: Services, known: Known, says: Sent, now: int) -> None:
    """Record that a shop has uninstalled the app, before its record is promised.

    Raises:
        RegistryAway: MongoDB does not answer.
    """
    try:
        at = to_millis(says.triggered_at.decode("latin-1"))
    except ValueError:
        at = now
    try:
        await asyncio.wait_for(asyncio.to_thread(services.uninstalled, known.shop, at), WAIT_SECONDS)
    except Exception as error:
        raise RegistryAway(str(error)) from error
    services.registry.forget(known)


# A few shops send most requests.
@lru_cache(maxsize=4096)
def _domain(written: bytes) -> str:
    """Return a shop's domain in its canonical form; empty for an invalid one."""
    return host_of(written[:_MAX_DOMAIN_BYTES].decode("latin-1")) or ""


async def _signed(body: bytes, signature: bytes, secrets: tuple[bytes, ...]) -> bool:
    if len(body) < _LONG_DIGEST_BYTES:
        return is_signed(body, signature, secrets)
    return await asyncio.get_running_loop().run_in_executor(None, is_signed, body, signature, secrets)


def _shop(topic: str, domain: str, names: Named, known: Known | None) -> str | Answer:
    """Return the shop of a signed delivery. The header is not signed: if the body names a shop, both must agree."""
    if names.shop_domain is not None and host_of(names.shop_domain) != domain:
        return OTHERS
    if known is not None:
        return known.shop if names.shop_id in (None, known.shop) else OTHERS
    if topic in PRIVACY_TOPICS and names.shop_id is not None:
        return names.shop_id if _is_shop(names.shop_id) else UNKNOWN
    return UNKNOWN


def _is_shop(text: str) -> bool:
    try:
        return parse_user_key(f"{text}:x".encode())[0] == text
    except ValueError:
        return False
