"""An order's documents when its person is forgotten: amounts, ads and times stay, and every id is an alias."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from truepixel_dagster.events.anonymous import EVENT, Alias
from truepixel_dagster.events.identifiers import CLIENT, ORDER, TOKEN

Document = Mapping[str, Any]
_ID_FIELDS = {"client_id": CLIENT, "order_id": ORDER, "checkout_token": TOKEN, "event_id": EVENT}


def anonymous_attribution(document: Document, alias: Alias) -> dict[str, Any]:
    """The attribution, with the ids that its events have now.

    What is in `touches` and `credits` is worked out from the history again where that still has the events.
    """
    return {name: _anonymous(name, value, alias) for name, value in document.items()}


def attribution_id(document: Document) -> str:
    """`shop:` + checkout token, else order id."""
    return f"{document['shop_id']}:{document.get('checkout_token') or document.get('order_id')}"


def _anonymous(name: str, value: Any, alias: Alias) -> Any:
    if isinstance(value, Mapping):
        if name == "ad":
            return _ad(value, alias)
        return {key: _anonymous(key, item, alias) for key, item in value.items()}
    if isinstance(value, list):
        return [_anonymous(name, item, alias) for item in value]
    if name in _ID_FIELDS and value is not None:
        return alias(_ID_FIELDS[name], value)
    if name == "campaign" and value and "@" in value:
        return alias("campaign", value)
    return value


def _ad(ad: Document, alias: Alias) -> dict[str, Any]:
    """As `events.ad.anonymous_query` has it."""
    personal = {"content": "utm_content", "term": "utm_term", "click_id": ad.get("click_id_type", "")}
    new = dict(ad)
    for field, value in ad.items():
        if field in personal:
            new[field] = alias(personal[field], value)
        elif field in ("source", "medium", "campaign") and "@" in value:
            new[field] = alias(field, value)
    return new
