"""Anonymise an order's documents: amounts, ads and times stay, and every id becomes an alias."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from truepixel_dagster.events.ad import Ad, anonymous_ad
from truepixel_dagster.events.anonymous import event_alias
from truepixel_dagster.events.identifiers import CLIENT, ORDER, TOKEN
from truepixel_dagster.events.money import Money
from truepixel_dagster.events.origin import Origin
from truepixel_dagster.events.visits import Alias
from truepixel_dagster.orders.credit import Credit, Credits
from truepixel_dagster.orders.document import AttributedTouch, Attribution, SightingEntry

Document = Mapping[str, Any]
_PARTS = (Attribution, SightingEntry, AttributedTouch, Credits, Credit, Money, Origin)
_KNOWN = frozenset(field.name for part in _PARTS for field in msgspec.structs.fields(part))
_ID_FIELDS = {
    "client_id": CLIENT,
    "order_id": ORDER,
    "checkout_token": TOKEN,
    "cart_token": TOKEN,
}
# In credits, the platform of an unknown source is the source in lower case.
_NAMES = {"campaign": "campaign", "platform": "source", "source": "source", "medium": "medium"}


def anonymous_attribution(document: Document, alias: Alias) -> dict[str, Any]:
    """Return the attribution with the current ids of its events, without fields that this version does not know: they
    may name the person.

    `touches` and `credits` are recomputed later if the history still has the events.
    """
    return {name: _anonymous(name, value, alias) for name, value in document.items() if name in _KNOWN}


def _ad(value: Document, alias: Alias) -> dict[str, Any]:
    try:
        return dict(msgspec.to_builtins(anonymous_ad(msgspec.convert(value, Ad), alias)))
    except msgspec.ValidationError:
        return {"platform": "unknown"}


def attribution_id(document: Document) -> str:
    """Return `shop:` + checkout token, else order id, else cart token."""
    named = (document.get(field) for field in ("checkout_token", "order_id", "cart_token"))
    return f"{document['shop_id']}:{next((name for name in named if name), None)}"


def _anonymous(name: str, value: Any, alias: Alias) -> Any:
    if isinstance(value, Mapping):
        if name == "ad":
            return _ad(value, alias)
        return {key: _anonymous(key, item, alias) for key, item in value.items() if key in _KNOWN}
    if isinstance(value, list):
        return [_anonymous(name, item, alias) for item in value]
    if name == "event_id" and value is not None:
        return event_alias(value, alias)
    if name in _ID_FIELDS and value is not None:
        return alias(_ID_FIELDS[name], value)
    if name in _NAMES and value and "@" in value:
        return alias(_NAMES[name], value)
    return value
