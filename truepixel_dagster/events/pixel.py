"""The payloads of Shopify's web pixel standard events: only the fields that stages use."""

from __future__ import annotations

from functools import partial
from typing import Any

import msgspec

from truepixel_dagster.events.bots import A_BOT, is_bot
from truepixel_dagster.events.lenient import Reader
from truepixel_dagster.events.order_id import order_identifier
from truepixel_dagster.events.pixel_checkout import anonymise, order_news
from truepixel_dagster.events.pixel_data import NOTHING, CheckoutData, data_of
from truepixel_dagster.events.pixel_payload import PlacedOrder
from truepixel_dagster.events.shape import Facts, Id, email_hash, identifier, name_of, text
from truepixel_dagster.events.sites import NO_SITE, Site
from truepixel_dagster.events.visits import Alias


class _Location(msgspec.Struct, omit_defaults=True):
    href: str | None = None
    search: str | None = None


class _Document(msgspec.Struct, omit_defaults=True):
    location: _Location | None = None
    referrer: str | None = None


class _Navigator(msgspec.Struct, omit_defaults=True):
    userAgent: Any = None  # noqa: N815


class _Context(msgspec.Struct, omit_defaults=True):
    document: _Document | None = None
    navigator: _Navigator | None = None


class _Pixel(msgspec.Struct, omit_defaults=True):
    id: Id = None
    name: str | None = None
    timestamp: str | None = None
    data: msgspec.Raw = msgspec.Raw(b"null")
    context: _Context | None = None


_ENVELOPE: Reader[_Pixel] = Reader(_Pixel)
_ENCODER = msgspec.json.Encoder(decimal_format="number")
_NO_DOCUMENT, _NO_LOCATION, _NO_ORDER = _Document(), _Location(), PlacedOrder()


def facts(payload: bytes, site: Site = NO_SITE) -> Facts:
    """Return the facts of a pixel event.

    Arguments:
        payload: The JSON.
        site: The shop's site: its domains, hosts and aliases.

    Raises:
        ValueError: The payload is not JSON, or a field has a wrong type or is out of bounds.
    """
    event = _ENVELOPE.decode(payload)
    name = name_of(event.name)
    if name is None:
        raise ValueError("no event name")
    document = (event.context and event.context.document) or _NO_DOCUMENT
    location = document.location or _NO_LOCATION
    data = data_of(name, event.data)
    said = data.said(site.lines) if data else NOTHING
    checkout = said.checkout
    placed = (checkout and checkout.order) or _NO_ORDER
    seen = site.seen(location.href, location.search, document.referrer)
    # By position: msgspec takes ten times as long for keywords.
    return Facts(
        name,
        "pixel",
        None if event.id is None else str(event.id),
        event.timestamp,
        text(location.href),
        text(document.referrer),
        seen.came_from,
        seen.visit,
        said.product_ids,
        said.items,
        partial(order_news, name, checkout, placed) if checkout else None,
        order_identifier(placed.id, "data.checkout.order.id"),
        None,
        _user_agent(event.context),
        None,
        said.value,
        identifier(placed.customer.id, "data.checkout.order.customer.id") if placed.customer else None,
        email_hash(checkout.email) if checkout else None,
    )


def anonymous(payload: bytes, alias: Alias, site: Site = NO_SITE) -> bytes:
    """Return the payload with personal data removed: only the fields above, with aliases for its ids.

    Arguments:
        payload: A payload that `facts` accepts.
        alias: Maps the kind of an id and the id to its alias.
        site: The shop's site: its domains, hosts and aliases.
    """
    event = _ENVELOPE.decode(payload)
    document = (event.context and event.context.document) or _NO_DOCUMENT
    location = document.location or _NO_LOCATION
    data = data_of(event.name or "", event.data)
    if isinstance(data, CheckoutData) and data.checkout:
        anonymise(data.checkout, alias)
    query, referrer = site.anonymised_addresses(location.href, location.search, document.referrer, alias)
    context = _Context(
        _Document(_Location(query) if query else None, referrer) if query or referrer else None,
        _Navigator(A_BOT) if is_bot(_user_agent(event.context)) else None,
    )
    kept = _Pixel(
        name=event.name,
        timestamp=event.timestamp,
        data=msgspec.Raw(_ENCODER.encode(data or {})),
        context=context if context != _Context() else None,
    )
    return _ENCODER.encode(kept)


def _user_agent(context: _Context | None) -> str | None:
    written = context.navigator.userAgent if context and context.navigator else None
    return written if isinstance(written, str) else None
