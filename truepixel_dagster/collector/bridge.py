"""`POST /v1/pubsub` and `POST /v1/eventbridge`: receive the webhooks that Shopify delivers to a cloud's queue.

Shopify publishes to Google Cloud Pub/Sub or Amazon EventBridge instead of sending HTTP requests. A push subscription of
Pub/Sub, or an API destination of EventBridge, passes each delivery on to these endpoints. They treat it like a webhook:
only the sender's authentication and the envelope differ.

| answer | when |
| --- | --- |
| 200 | the record is durable |
| 400 | the envelope is not one, or its topic is missing |
| 401 | the token or API key is missing or wrong: nothing is written |
| 403, 404, 413, 503 | as for webhooks |

Pub/Sub retries after every answer other than 2xx, EventBridge after 429 and 5xx. So configure a dead-letter topic or
queue for deliveries that can never be accepted.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import NamedTuple

import msgspec

from truepixel_dagster.collector.google_tokens import GoogleTokens, KeysAway
from truepixel_dagster.collector.http import Answer, Body, NoRoom, Receive, Scope, TooLarge
from truepixel_dagster.collector.http import error as refusal
from truepixel_dagster.collector.registry import AppSecrets, RegistryAway
from truepixel_dagster.collector.services import RETRY, Services
from truepixel_dagster.collector.webhooks import SAFE, Sent, counted, record_of, sent, shop_of

# A message of 10 MB in base64, and its envelope.
MAX_ENVELOPE_BYTES = 14 * 1024 * 1024
PUBSUB, EVENTBRIDGE = "pubsub", "eventbridge"

UNAUTHENTICATED = refusal(401, "the token or API key is missing or wrong")
NO_ENVELOPE = refusal(400, "the body is not an envelope of this delivery method")
TOO_LARGE = refusal(413, f"the body is larger than {MAX_ENVELOPE_BYTES} bytes")

Headers = Iterable[tuple[bytes, bytes]]


class Enveloped(NamedTuple):
    """Hold a delivery: what Shopify's headers say, and the webhook's body."""

    says: Sent
    body: bytes


class NotAnEnvelope(ValueError):
    """A body is not an envelope of its delivery method."""


class _Message(msgspec.Struct):
    data: bytes = b""
    attributes: dict[str, str] = {}


class _Push(msgspec.Struct):
    message: _Message


class _Detail(msgspec.Struct):
    payload: msgspec.Raw
    metadata: dict[str, str]


class _Event(msgspec.Struct):
    detail: _Detail


_PUSH, _EVENT = msgspec.json.Decoder(_Push), msgspec.json.Decoder(_Event)


def from_pubsub(body: bytes) -> Enveloped:
    """Return the delivery in a push request: the data is the webhook's body, byte for byte.

    https://docs.cloud.google.com/pubsub/docs/push

    Raises:
        NotAnEnvelope: The body is not a push request.
    """
    try:
        message = _PUSH.decode(body).message
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise NotAnEnvelope(str(error)) from error
    return Enveloped(_says(message.attributes), message.data)


def from_eventbridge(body: bytes) -> Enveloped:
    """Return the delivery in an event: the payload is the webhook's body as EventBridge writes it.

    https://shopify.dev/docs/apps/build/webhooks/subscribe/get-started

    Raises:
        NotAnEnvelope: The body is not an event of Shopify's.
    """
    try:
        detail = _EVENT.decode(body).detail
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise NotAnEnvelope(str(error)) from error
    return Enveloped(_says(detail.metadata), bytes(detail.payload))


def has_api_key(headers: Headers, keys: Iterable[bytes]) -> bool:
    """Return whether a request has one of the API keys; the comparison takes constant time."""
    given = _header(headers, b"x-api-key")
    return any(key and hmac.compare_digest(key, given) for key in keys)


class Bridge:
    """Handle the requests of one delivery method.

    Arguments:
        name: The endpoint's name.
        services: The services that endpoints use.
        is_authentic: Returns whether the headers prove that the request may come from the app's own cloud account.
        unwrap: Returns the delivery in a body.
    """

    def __init__(
        self,
        name: str,
        services: Services,
        is_authentic: Callable[[Headers], Awaitable[bool]],
        unwrap: Callable[[bytes], Enveloped],
    ) -> None:
        self.name = name
        self._services = services
        self._is_authentic = is_authentic
        self._unwrap = unwrap

    async def answer(self, scope: Scope, receive: Receive) -> Answer:
        """Answer a request."""
        services, deadline = self._services, self._services.deadline()
        try:
            if not await self._is_authentic(scope["headers"]):
                return counted(services, self.name, UNAUTHENTICATED)
            with Body(scope, receive, MAX_ENVELOPE_BYTES, services.room) as reading:
                says, body = self._unwrap(await reading.read())
                known = await shop_of(services, says)
                found = await record_of(services, says, body, known, int(time.time() * 1000))
                if isinstance(found, Answer):
                    return counted(services, self.name, found)
                return await services.promised(self.name, [found], SAFE, deadline)
        except NotAnEnvelope:
            return counted(services, self.name, NO_ENVELOPE)
        except TooLarge:
            return counted(services, self.name, TOO_LARGE)
        except (NoRoom, RegistryAway, KeysAway):
            services.metrics.count(self.name, "away")
            return RETRY


def pubsub(services: Services, tokens: GoogleTokens) -> Bridge:
    """Return the endpoint for a push subscription of Pub/Sub, which proves itself with a token of Google's."""

    async def is_authentic(headers: Headers) -> bool:
        scheme, _, token = _header(headers, b"authorization").decode("latin-1").partition(" ")
        return scheme.lower() == "bearer" and await tokens.accepts(token.strip())

    return Bridge(PUBSUB, services, is_authentic, from_pubsub)


def eventbridge(services: Services, keys: AppSecrets) -> Bridge:
    """Return the endpoint for an API destination of EventBridge, which proves itself with an API key."""

    async def is_authentic(headers: Headers) -> bool:
        return has_api_key(headers, keys.now())

    return Bridge(EVENTBRIDGE, services, is_authentic, from_eventbridge)


def _header(headers: Headers, wanted: bytes) -> bytes:
    return next((value for name, value in headers if name == wanted), b"")


def _says(attributes: Mapping[str, str]) -> Sent:
    """Return what attributes say that have the names of Shopify's headers, in any case."""
    return sent([(name.lower().encode(), value.encode("latin-1", "replace")) for name, value in attributes.items()])
