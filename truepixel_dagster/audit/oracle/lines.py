"""Limit the lines of an event: an event with more than the operator allows is a dead letter."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from truepixel_dagster.audit.oracle.records import DeadLetter, Doc
from truepixel_dagster.audit.oracle.values import inside, objects
from truepixel_dagster.audit.oracle.webhooks import is_order_payload


def check_lines(source: str, name: str, payload: Doc, most: int) -> None:
    """Refuse an event with more lines in one list than `most`."""
    for field, lines in _of_pixel(name, payload) if source == "pixel" else _of_webhook(name, payload):
        if isinstance(lines, list) and len(lines) > most:
            raise DeadLetter(f"{field}: too many")


def _of_pixel(name: str, payload: Doc) -> Iterator[tuple[str, Any]]:
    if name == "cart_viewed":
        yield "lines", inside(payload, "data", "cart").get("lines")
    elif name == "collection_viewed":
        yield "productVariants", inside(payload, "data", "collection").get("productVariants")
    elif name == "search_submitted":
        yield "productVariants", inside(payload, "data", "searchResult").get("productVariants")
    elif name.startswith("checkout_") or name == "payment_info_submitted":
        yield "lineItems", inside(payload, "data", "checkout").get("lineItems")


def _of_webhook(topic: str, payload: Doc) -> Iterator[tuple[str, Any]]:
    if topic.startswith(("orders/", "checkouts/", "carts/")):
        yield "line_items", payload.get("line_items")
    if topic == "refunds/create":
        yield "refund_line_items", payload.get("refund_line_items")
    if is_order_payload(topic, payload):
        for refund in objects(payload.get("refunds"), "refunds"):
            yield "refund_line_items", refund.get("refund_line_items")
