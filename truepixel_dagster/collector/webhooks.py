"""`POST /v1/webhooks`: Shopify's deliveries, signed.

The signature is looked at before anything is read of the body. What is signed and cannot be understood goes to the
topic all the same, where it becomes a dead letter that says why: nothing that Shopify sends is lost.

| answer | when |
| --- | --- |
| 200 | the record is safe |
| 400 | signed, and without a topic |
| 401 | the signature is missing or wrong: nothing is written |
| 403 | signed, and the body is another shop's than the header says |
| 404 | signed, of a shop that is not connected |
| 413 | larger than 10 MiB, or than Kafka takes |
| 503 | it could not be made safe, or it cannot be said whose it is: come again |

The three webhooks about privacy are signed with the app's secret and answered as all others
(https://shopify.dev/docs/apps/build/compliance/privacy-law-compliance); they come for shops that are not connected any
more, too, and then the signed body says whose they are.
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
from truepixel_dagster.collector.registry import Known, RegistryAway
from truepixel_dagster.collector.services import RETRY, Services
from truepixel_dagster.collector.signature import is_signed
from truepixel_dagster.events.headers import topic_name
from truepixel_dagster.events.privacy_request import PRIVACY_TOPICS
from truepixel_dagster.events.shop import host_of
from truepixel_dagster.events.times import to_millis
from truepixel_dagster.events.user_key import parse_user_key

MAX_BODY_BYTES = 10 * 1024 * 1024
UNINSTALLED = "app/uninstalled"
# A digest of more takes longer than others should wait for.
_LONG_DIGEST_BYTES = 256 * 1024
_MAX_TOPIC_BYTES, _MAX_ID_BYTES, _MAX_DOMAIN_BYTES = 200, 256, 300
_NAMES = ("topic", "webhook-id", "shop-domain", "triggered-at", "hmac-sha256")
_PLACES = {f"{prefix}shopify-{name}".encode(): at for at, name in enumerate(_NAMES) for prefix in ("", "x-")}

SAFE = Answer(200)
UNSIGNED = refusal(401, "the signature is missing or wrong")
NO_TOPIC = refusal(400, "the header X-Shopify-Topic is missing or no topic")
OTHERS = refusal(403, "the body is another shop's than the header X-Shopify-Shop-Domain says")
UNKNOWN = refusal(404, "no shop of this domain is connected")
TOO_LARGE = refusal(413, f"the body is larger than {MAX_BODY_BYTES} bytes")


class Sent(NamedTuple):
    """What Shopify's headers say; empty where one is missing."""

    topic: bytes
    event_id: bytes
    domain: bytes
    triggered_at: bytes
    signature: bytes


def sent(headers: list[tuple[bytes, bytes]]) -> Sent:
    """What the headers of a request say. Of one that comes several times the first counts."""
    found = [b""] * len(_NAMES)
    for name, value in headers:
        place = _PLACES.get(name)
        if place is not None and not found[place]:
            found[place] = value
    return Sent(*found)


class Webhooks:
    """The endpoint."""

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
                services.metrics.count(self.name, _OUTCOMES.get(found.status, "refused"))
                return found
            return await services.promised(self.name, [found], SAFE, deadline)

    async def _record(self, says: Sent, body: bytes) -> Record | Answer:
        """The record of a delivery, or why there is none.

        Raises:
            RegistryAway: It cannot be said whose it is.
        """
        services, now = self._services, int(time.time() * 1000)
        domain = _domain(says.domain)
        if not says.signature:
            return UNSIGNED
        by_app = await _signed(body, says.signature, services.app_secrets.now())
        known = await services.registry.by_domain(domain) if domain else None
        if not by_app and not (known and await _signed(body, says.signature, known.keys(now))):
            return UNSIGNED
        topic = topic_name(says.topic.decode("latin-1")) or ""
        if not topic.isprintable() or not topic.isascii() or not 0 < len(topic) <= _MAX_TOPIC_BYTES:
            return NO_TOPIC
        names = named(topic, body)
        shop = _shop(topic, domain, names, known)
        if isinstance(shop, Answer):
            return shop
        if topic == UNINSTALLED and known is not None:
            await self._uninstalled(known, says, now)
        event_id = says.event_id.decode("latin-1")[:_MAX_ID_BYTES]
        client = None if names.client else await services.tokens.client_of(shop, names.tokens)
        key = f"{shop}:{client_of(names, client, event_id)}".encode()
        return webhook_record(key, body, domain, now, topic=topic, event_id=event_id.encode())

    async def _uninstalled(self, known: Known, says: Sent, now: int) -> None:
        """Keep that a shop is connected no more, before it is promised.

        Raises:
            RegistryAway: MongoDB does not answer.
        """
        try:
            at = to_millis(says.triggered_at.decode("latin-1"))
        except ValueError:
            at = now
        try:
            await asyncio.get_running_loop().run_in_executor(None, self._services.uninstalled, known.shop, at)
        except Exception as error:
            raise RegistryAway(str(error)) from error
        self._services.registry.forget(known)


_OUTCOMES = {401: "unsigned", 403: "other shop", 404: "unknown shop"}


# Few shops send again and again.
@lru_cache(maxsize=4096)
def _domain(written: bytes) -> str:
    """A shop's domain in the one form that domains are compared in; empty for what is none."""
    return host_of(written[:_MAX_DOMAIN_BYTES].decode("latin-1")) or ""


async def _signed(body: bytes, signature: bytes, secrets: tuple[bytes, ...]) -> bool:
    if len(body) < _LONG_DIGEST_BYTES:
        return is_signed(body, signature, secrets)
    return await asyncio.get_running_loop().run_in_executor(None, is_signed, body, signature, secrets)


def _shop(topic: str, domain: str, names: Named, known: Known | None) -> str | Answer:
    """Whose a signed delivery is. The header is not signed: where the body says it as well, both have to agree."""
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
