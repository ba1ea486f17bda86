"""Determine the sales channel of an order, by `source_name`, `app_id` and tags."""

from __future__ import annotations

import re
from typing import Any

from truepixel_dagster.events.order import ONLINE
from truepixel_dagster.events.shape import number_text, word_of
from truepixel_dagster.events.shopify_payload import OrderBody

POS, DRAFT, SUBSCRIPTION, IMPORT, OTHER = "pos", "draft", "subscription", "import", "other"
_ONLINE_SOURCES = frozenset({"", "web", "online_store", "checkout_next", "checkout_one", "buy_button"})
_POS_SOURCES = frozenset({"pos", "iphone", "android"})
_SUBSCRIPTION_SOURCES = frozenset({"subscription_contract", "subscription_contract_checkout_one"})
_IMPORTERS = ("import", "matrixify", "excelify", "transporter")
_KNOWN_SOURCES = _ONLINE_SOURCES | _POS_SOURCES | _SUBSCRIPTION_SOURCES | {"shopify_draft_order"}
# Shopify's own apps, by their ids: the online store, the point of sale, draft orders.
_APPS = {"580111": ONLINE, "129785": POS, "1354745": DRAFT}
_BETWEEN_WORDS = re.compile(r"[-_ ]+")


def sales_channel(body: OrderBody) -> str:
    """Return the sales channel of an order, by `source_name`, `app_id` and tags."""
    source, tags = number_text(body.source_name) or word_of(body.source_name), _tags(body.tags)
    app = _APPS.get(source or number_text(body.app_id))
    if source in _POS_SOURCES or app == POS:
        return POS
    if source == "shopify_draft_order" or app == DRAFT:
        return DRAFT
    if any(word in source for word in _IMPORTERS) or tags & {"import", "imported"}:
        return IMPORT
    if source in _SUBSCRIPTION_SOURCES or any(map(_is_renewal, tags)):
        return SUBSCRIPTION
    if source in _ONLINE_SOURCES or app == ONLINE:
        return ONLINE
    return ONLINE if source.isdigit() and (body.landing_site or body.checkout_token) else OTHER


def _is_renewal(tag: str) -> bool:
    return "subscription recurring" in _BETWEEN_WORDS.sub(" ", tag)


def _tags(tags: Any) -> set[str]:
    if isinstance(tags, str):
        return {tag.strip().lower() for tag in tags.split(",")}
    if isinstance(tags, list):
        return {tag.strip().lower() for tag in tags if isinstance(tag, str)}
    return set()


def anonymous_tags(tags: Any) -> str | None:
    """Return the tags that decide the channel, without all others."""
    known = {"subscription recurring" if _is_renewal(tag) else tag for tag in _tags(tags)}
    return ", ".join(sorted(known & {"subscription recurring", "import", "imported"})) or None


def anonymous_source(body: OrderBody) -> str | None:
    """Return a source name of the same channel, because an app may write anything in the original."""
    source = number_text(body.source_name) or word_of(body.source_name)
    if source.isdigit() or source in _KNOWN_SOURCES:
        return source or None
    return next((word for word in _IMPORTERS if word in source), "redacted")
