"""Choose the client for a webhook's key, so that a user's events stay on one partition.

It is the client that the theme wrote into the note attributes; else the one that Redis has for a token, as reported by
the pixel; else the token itself. The pipeline joins all of them in any case.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from truepixel_dagster.events.decode import storable
from truepixel_dagster.events.noted_client import noted_client
from truepixel_dagster.events.privacy_request import PRIVACY_CLIENT, PRIVACY_TOPICS
from truepixel_dagster.events.shape import identifier
from truepixel_dagster.events.user_key import can_be_client


class _Body(msgspec.Struct):
    """Hold the fields of a webhook's body that matter here, of any type."""

    id: Any = None
    order_id: Any = None
    token: Any = None
    cart_token: Any = None
    checkout_token: Any = None
    note_attributes: Any = None
    shop_id: Any = None
    shop_domain: Any = None
    myshopify_domain: Any = None


class Named(NamedTuple):
    """Hold what a webhook's body names.

    Attributes:
        client: The client in the note attributes.
        tokens: The cart and checkout tokens, which the pixel may have reported.
        other: Other stand-ins for the client: a token, the order's id, the body's own id.
        shop_id: The shop's id, if the body names it.
        shop_domain: The shop's `….myshopify.com`, if the body names it.
    """

    client: str | None = None
    tokens: tuple[str, ...] = ()
    other: str | None = None
    shop_id: str | None = None
    shop_domain: str | None = None


_DECODER = msgspec.json.Decoder(_Body)
_NOTHING = Named()
_OF_THE_SHOP = frozenset({"shop/update", "app/uninstalled"})


def named(topic: str, body: bytes) -> Named:
    """Return what a webhook's body names; nothing if it is not a JSON object.

    Arguments:
        topic: Such as `orders/create`.
        body: The JSON.
    """
    try:
        found = _DECODER.decode(storable(body))
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return _NOTHING
    shop_id, shop_domain = usable(found.shop_id), usable(found.shop_domain)
    if topic in _OF_THE_SHOP:
        shop_id, shop_domain = usable(found.id), usable(found.myshopify_domain)
    if topic in PRIVACY_TOPICS:
        return Named(PRIVACY_CLIENT, (), None, shop_id, shop_domain)
    # Carts and checkouts call their token `token`. The `token` of an order is a different one, which no pixel knows.
    resource = topic.partition("/")[0]
    own = usable(found.token)
    last = own if resource in ("carts", "checkouts") else None
    written = (usable(found.cart_token), usable(found.checkout_token), last)
    tokens = tuple(dict.fromkeys(token for token in written if token))
    other = own or usable(found.order_id) or usable(found.id)
    return Named(noted_client(found.note_attributes), tokens, other, shop_id, shop_domain)


def client_of(found: Named, known: str | None, event_id: str) -> str:
    """Return the client for a webhook's key.

    Arguments:
        found: What the webhook's body names.
        known: The client that Redis has for one of its tokens.
        event_id: The last fallback.
    """
    return found.client or known or (found.tokens[0] if found.tokens else found.other) or usable(event_id) or "webhook"


def usable(value: Any) -> str | None:
    """Return an id in the form that a key may contain; None for an unusable one."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        return None
    try:
        text = (identifier(value) or "").strip()
    except ValueError:
        return None
    if not can_be_client(text):
        return None
    try:
        text.encode()
    except UnicodeEncodeError:
        return None
    return text
