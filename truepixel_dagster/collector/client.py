"""Which client a webhook is keyed by, so that a user's events stay on one partition.

The client that the theme wrote into the note attributes; else the one that Redis knows for a token, which the pixel has
told; else the token itself. The pipeline joins all of them in any case.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import msgspec

from truepixel_dagster.events.privacy_request import PRIVACY_CLIENT, PRIVACY_TOPICS
from truepixel_dagster.events.shape import identifier, longer_than
from truepixel_dagster.events.shopify_order import noted_client
from truepixel_dagster.events.user_key import MAX_CLIENT_BYTES, is_no_client

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class _Body(msgspec.Struct):
    """What is read of a webhook's body, of whatever type it is."""

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
    """What a webhook's body names.

    Attributes:
        client: By the note attributes.
        tokens: Of cart and checkout, as the pixel may have told them.
        other: What else may stand for the client: a token, the order's id, the body's own.
        shop_id: The shop's id, where the body says it.
        shop_domain: The shop's `….myshopify.com`, where the body says it.
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
    """What a webhook's body names; nothing where it is no JSON object.

    Arguments:
        topic: Such as `orders/create`.
        body: The JSON.
    """
    try:
        found = _DECODER.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return _NOTHING
    shop_id, shop_domain = usable(found.shop_id), usable(found.shop_domain)
    if topic in _OF_THE_SHOP:
        shop_id, shop_domain = usable(found.id), usable(found.myshopify_domain)
    if topic in PRIVACY_TOPICS:
        return Named(PRIVACY_CLIENT, (), None, shop_id, shop_domain)
    # Carts call their token `token`, and so do checkouts; the `token` of an order is none that a pixel knows.
    resource = topic.partition("/")[0]
    own = usable(found.token)
    last = own if resource in ("carts", "checkouts") else None
    written = (usable(found.cart_token), usable(found.checkout_token), last)
    tokens = tuple(dict.fromkeys(token for token in written if token))
    other = own or usable(found.order_id) or usable(found.id)
    return Named(noted_client(found.note_attributes), tokens, other, shop_id, shop_domain)


def client_of(found: Named, known: str | None, event_id: str) -> str:
    """The client by which a webhook is keyed.

    Arguments:
        found: What its body names.
        known: The client that Redis knows for one of its tokens.
        event_id: What stands for it where nothing else does.
    """
    return found.client or known or (found.tokens[0] if found.tokens else found.other) or usable(event_id) or "webhook"


def usable(value: Any) -> str | None:
    """An id as a key may have it; None for what is none."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        return None
    try:
        text = (identifier(value) or "").strip()
    except ValueError:
        return None
    if not text or _CONTROL.search(text) or longer_than(MAX_CLIENT_BYTES, text) or is_no_client(text):
        return None
    try:
        text.encode()
    except UnicodeEncodeError:
        return None
    return text
