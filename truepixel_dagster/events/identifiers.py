"""By what a record can be found to be somebody's: the client, customer, address, order and tokens that it names.

Lenient, because it also looks at records that cannot be decoded: what is not there or of another type is passed over.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from truepixel_dagster.events.event import Message
from truepixel_dagster.events.headers import TOPIC, Headers, topic_name
from truepixel_dagster.events.shape import email_hash, identifier
from truepixel_dagster.events.shopify_order import noted_client
from truepixel_dagster.events.user_key import is_no_client, parse_user_key

CLIENT, CUSTOMER, EMAIL, ORDER, TOKEN, RECORD = "client", "customer", "email", "order", "token", "record"

_CHECKOUT = ("data", "checkout")
_PATHS = {
    CLIENT: (("clientId",),),
    CUSTOMER: (("customer", "id"), (*_CHECKOUT, "order", "customer", "id"), ("data", "customer", "id")),
    ORDER: (("order_id",), (*_CHECKOUT, "order", "id")),
    TOKEN: (
        ("token",),
        ("checkout_token",),
        ("cart_token",),
        (*_CHECKOUT, "token"),
        (*_CHECKOUT, "cartToken"),
        (*_CHECKOUT, "cart_token"),
        ("data", "cart", "id"),
    ),
}
_EMAILS = (
    ("email",),
    ("contact_email",),
    ("customer", "email"),
    (*_CHECKOUT, "email"),
    (*_CHECKOUT, "order", "customer", "email"),
    ("data", "customer", "email"),
)
# Whose id the payload's own is.
_OWN_ID = {"orders": ORDER, "customers": CUSTOMER}


class Identifier(NamedTuple):
    """One thing that a record names. An address is its SHA-256; a record is its `partition/offset`."""

    kind: str
    value: str


def shop_and_client(message: Message) -> tuple[str, str]:
    """The shop and client of a record's key; both empty where the key is none."""
    try:
        return parse_user_key(message.key)
    except ValueError:
        return "", ""


def identifiers(message: Message) -> frozenset[Identifier]:
    """All that a record names, its own place among them."""
    payload = _payload(message)
    found = {Identifier(RECORD, f"{message.origin.partition}/{message.origin.offset}")}
    values: list[tuple[str, Any]] = [(CLIENT, shop_and_client(message)[1])]
    values += [(kind, _at(payload, path)) for kind, paths in _PATHS.items() for path in paths]
    own = _OWN_ID.get(topic_of(message).partition("/")[0])
    if own is None and ("financial_status" in payload or "order_number" in payload):
        own = ORDER
    values += [(own, payload.get("id"))] if own else []
    values += [(CLIENT, noted_client(payload.get("note_attributes")))]
    # Words such as `undefined` are nobody's: they would make one person of all who have them.
    found.update(Identifier(kind, text) for kind, value in values if (text := _text(value)) and not is_no_client(text))
    return frozenset(found | {Identifier(EMAIL, email_hash(address) or "") for address in addresses(message)})


def addresses(message: Message) -> frozenset[str]:
    """The e-mail addresses of the customer whom a record names, trimmed and in lower case."""
    payload = _payload(message)
    texts = (_at(payload, path) for path in _EMAILS)
    return frozenset(text.strip().lower() for text in texts if isinstance(text, str) and text.strip())


def topic_of(message: Message) -> str:
    """The topic of a webhook as its header says, in Shopify's form; empty where it has none."""
    return topic_name(Headers(message.headers).raw(TOPIC).decode(errors="replace")) or ""


def _payload(message: Message) -> dict[str, Any]:
    try:
        payload = msgspec.json.decode(message.value or b"{}")
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return {}
    return payload if isinstance(payload, dict) else {}


def _at(payload: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        payload = payload.get(name) if isinstance(payload, dict) else None
    return payload


def _text(value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        return None
    try:
        return identifier(value)
    except ValueError:
        return None
