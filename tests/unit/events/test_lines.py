"""The limit of lines per event: pipeline and oracle agree."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.examples import sampled
from truepixel_dagster.audit import oracle
from truepixel_dagster.events.decode import decode
from truepixel_dagster.events.event import Event, Message
from truepixel_dagster.events.origin import Origin
from truepixel_dagster.events.sites import Sites
from truepixel_dagster.resources import sites_of
from truepixel_dagster.settings import Settings

AT = 1_790_000_000_000
LINE = {"product_id": 1}


def pixel(name: str, lines: int) -> tuple[dict[str, Any], str | None]:
    many: list[Any] = [{}, None, *[{}] * lines][:lines]
    data = {
        "cart_viewed": {"cart": {"lines": many}},
        "collection_viewed": {"collection": {"productVariants": many}},
        "search_submitted": {"searchResult": {"productVariants": many}},
    }
    return {"id": "e", "name": name, "data": data.get(name, {"checkout": {"lineItems": many}})}, None


def webhook(topic: str, lines: int) -> tuple[dict[str, Any], str | None]:
    many = [LINE] * lines
    if topic == "refunds/create":
        return {"id": 1, "order_id": 2, "refund_line_items": many}, topic
    if topic == "a refund in an order":
        return {
            "id": 2,
            "line_items": [LINE],
            "refunds": [{"id": 1}, {"id": 2, "refund_line_items": many}],
        }, "orders/paid"
    if topic == "a refund that is not read":
        return {"id": 2, "refunds": [{"id": 2, "refund_line_items": many}]}, "orders/edited"
    return {"id": 2, "line_items": many}, topic


PIXELS = ["cart_viewed", "collection_viewed", "search_submitted", "checkout_started", "payment_info_submitted"]
WEBHOOKS = ["orders/create", "orders/delete", "orders/edited", "checkouts/update", "carts/update", "refunds/create"]
KINDS = [*PIXELS, *WEBHOOKS, "a refund in an order", "a refund that is not read", "fulfillments/create"]


@pytest.mark.parametrize("kind", KINDS)
def test_an_event_of_more_lines_than_the_setting_allows_is_a_dead_letter(kind: str) -> None:
    for most in sampled([3, 2_000, 2_005]):
        for lines in (most, most + 1):
            payload, topic = (pixel if kind in PIXELS else webhook)(kind, lines)
            headers = [("event_id", b"w"), ("topic", topic.encode()) if topic else ("source", b"pixel")]
            value = json.dumps(payload).encode()
            found = decode(Message(Origin("t", 0, 0), b"s:c", value, tuple(headers), AT), Sites(lines=most))
            is_read = kind not in ("a refund that is not read", "fulfillments/create")
            assert isinstance(found, Event) is (lines <= most or not is_read)
            record = oracle.Record("t", 0, 0, AT, b"s:c", value, list(headers))
            assert (record_is_dead(record, most)) is not isinstance(found, Event)
            if not isinstance(found, Event):
                assert f"{lines} items, more than {most}" in found.reason


def record_is_dead(record: oracle.Record, most: int) -> bool:
    return bool(oracle.expected([record], lines_per_event=most).dead)


def test_the_setting_reaches_the_decoder_with_what_is_known_of_shops() -> None:
    sites = sites_of(Settings(lines_per_event=150)).with_shops({})
    assert sites.of("s", None).lines == 150
