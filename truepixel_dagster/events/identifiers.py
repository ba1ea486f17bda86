"""Find the ids that link a record to a person: client, customer, e-mail address, order and tokens.

This is lenient, because it also reads undecodable records: missing fields and fields of other types are skipped.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from truepixel_dagster.events.event import Message
from truepixel_dagster.events.headers import TOPIC, Headers, topic_name
from truepixel_dagster.events.noted_client import noted_client
from truepixel_dagster.events.shape import email_hash, identifier
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
# The kind of the payload's own id, by the topic's resource.
_OWN_ID = {"orders": ORDER, "customers": CUSTOMER}


class Identifier(NamedTuple):
    """Hold one id of a record. An e-mail address is its SHA-256; a record is its `partition/offset`."""

    kind: str
    value: str


def shop_and_client(message: Message) -> tuple[str, str]:
    """Return the shop and client of a record's key; both are empty if the key is invalid."""
    try:
        return parse_user_key(message.key)
    except ValueError:
        return "", ""


def identifiers(message: Message) -> frozenset[Identifier]:
    """Return all ids of a record, its own position included."""
    payload = _payload(message)
    found = {Identifier(RECORD, f"{message.origin.partition}/{message.origin.offset}")}
    values: list[tuple[str, Any]] = [(CLIENT, shop_and_client(message)[1])]
    values += [(kind, _at(payload, path)) for kind, paths in _PATHS.items() for path in paths]
    own = _OWN_ID.get(topic_of(message).partition("/")[0])
    if own is None and ("financial_status" in payload or "order_number" in payload):
        own = ORDER
    values += [(own, payload.get("id"))] if own else []
    values += [(CLIENT, noted_client(payload.get("note_attributes")))]
    # Skip words such as `undefined`: they would join all of their users into one person.
    found.update(Identifier(kind, text) for kind, value in values if (text := _text(value)) and not is_no_client(text))
    return frozenset(found | {Identifier(EMAIL, email_hash(address) or "") for address in addresses(message)})


def addresses(message: Message) -> frozenset[str]:
    """Return the e-mail addresses of a record's customer, trimmed and in lower case."""
    payload = _payload(message)
    texts = (_at(payload, path) for path in _EMAILS)
    return frozenset(text.strip().lower() for text in texts if isinstance(text, str) and text.strip())


def topic_of(message: Message) -> str:
    """Return the topic in a webhook's header, in Shopify's form; empty if it has none."""
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
