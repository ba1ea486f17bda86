"""Read Shopify's three webhooks about personal data, which every app must answer.

    customers/data_request {shop_id, customer {id, email}, orders_requested, data_request {id}}
    customers/redact       {shop_id, customer {id, email}, orders_to_redact}
    shop/redact            {shop_id}

They name a person, so nothing but this module reads them: the pipeline sees them `stripped`, and the request is stored
until it is done.
"""

from __future__ import annotations

import msgspec

from truepixel_dagster.events.event import Message
from truepixel_dagster.events.headers import EVENT_ID, RECEIVED_AT, SOURCE, TOPIC, Headers
from truepixel_dagster.events.identifiers import shop_and_client, topic_of
from truepixel_dagster.events.shape import Id, email_hash, identifier

DATA_REQUEST, CUSTOMER_REDACT, SHOP_REDACT = "customers/data_request", "customers/redact", "shop/redact"
PRIVACY_TOPICS = frozenset({DATA_REQUEST, CUSTOMER_REDACT, SHOP_REDACT})
# Their client in the event history, because senders may use the customer as the key.
PRIVACY_CLIENT = "privacy"
_STRIPPED = b'{"stripped":true}'


class PrivacyRequest(msgspec.Struct, frozen=True):
    """Hold a request of a merchant or of Shopify. `email_hash` is the SHA-256 of the address."""

    topic: str
    shop_id: str
    customer_id: str | None = None
    email_hash: str | None = None
    client_id: str | None = None
    orders: tuple[str, ...] = ()


class _Customer(msgspec.Struct):
    id: Id = None
    email: str | None = None


class _Payload(msgspec.Struct):
    shop_id: Id = None
    customer: _Customer | None = None
    orders_to_redact: list[Id] | None = None
    orders_requested: list[Id] | None = None


_DECODER = msgspec.json.Decoder(_Payload)


def is_privacy_request(message: Message) -> bool:
    """Return whether a record is one of these webhooks as sent, by its header in any form."""
    return message.value != _STRIPPED and topic_of(message) in PRIVACY_TOPICS


def requested(message: Message) -> PrivacyRequest:
    """Return the request of such a webhook.

    Raises:
        ValueError: The payload names another shop than the key, or no customer.
    """
    topic, shop = topic_of(message), shop_and_client(message)[0]
    try:
        payload = _DECODER.decode(message.value or b"")
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise ValueError(f"{topic}: not JSON of the webhook's shape") from None
    if not shop or identifier(payload.shop_id) != shop:
        raise ValueError(f"{topic}: the payload's shop_id is not the shop of the record's key")
    if topic == SHOP_REDACT:
        return PrivacyRequest(topic, shop)
    customer = payload.customer or _Customer()
    orders = [identifier(order) for order in (payload.orders_to_redact or payload.orders_requested or ())]
    request = PrivacyRequest(
        topic,
        shop,
        customer_id=identifier(customer.id),
        email_hash=email_hash(customer.email),
        orders=tuple(order for order in orders if order),
    )
    if not (request.customer_id or request.email_hash or request.orders):
        raise ValueError(f"{topic}: the payload names no customer")
    return request


def stripped(message: Message) -> Message:
    """Return a record as the pipeline sees it: of such a webhook, only its arrival; an invalid one is empty."""
    if not is_privacy_request(message):
        return message
    topic, headers, origin = topic_of(message), Headers(message.headers), message.origin
    event_id = headers.raw(EVENT_ID) or f"{origin.partition}/{origin.offset}".encode()
    if not event_id.startswith(f"{topic}:".encode()):
        event_id = f"{topic}:".encode() + event_id
    kept = ((SOURCE, b"webhook"), (TOPIC, topic.encode()), (EVENT_ID, event_id))
    arrived = headers.raw(RECEIVED_AT)
    received = ((RECEIVED_AT, arrived),) if arrived else ()
    shop = shop_and_client(message)[0]
    key = f"{shop}:{PRIVACY_CLIENT}".encode() if shop else None
    try:
        requested(message)
    except ValueError:
        return Message(origin, key, None, (*kept, *received), message.timestamp)
    return Message(origin, key, _STRIPPED, (*kept, *received), message.timestamp)
