"""A record is decoded, or is a dead letter with a reason."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from truepixel_dagster.events.decode import Undecodable, decode
from truepixel_dagster.events.event import Event, Message
from truepixel_dagster.events.money import Money
from truepixel_dagster.events.order import SoldLine
from truepixel_dagster.events.origin import Origin

RECEIVED = 1_767_585_600_000


def message(value: Any, key: bytes | None = b"shop:client", headers: dict[str, str] | None = None) -> Message:
    raw = value if isinstance(value, bytes) or value is None else json.dumps(value).encode()
    pairs = tuple((name, text.encode()) for name, text in (headers or {}).items())
    return Message(Origin("t", 0, 7), key, raw, pairs, RECEIVED)


def understood(value: Any, headers: dict[str, str] | None = None, key: bytes = b"shop:client") -> Event:
    event = decode(message(value, key, headers))
    assert isinstance(event, Event), event
    return event


def reason(value: Any, headers: dict[str, str] | None = None, key: bytes | None = b"shop:client") -> str:
    dead = decode(message(value, key, headers))
    assert isinstance(dead, Undecodable), dead
    return dead.reason


def pixel(
    name: Any = "page_viewed", data: Any = None, href: str = "https://a.example/", **fields: Any
) -> dict[str, Any]:
    context = {"document": {"location": {"href": href}, "referrer": "https://b.example/"}}
    base = {"id": "e1", "name": name, "clientId": "client", "timestamp": "2026-01-02T03:04:05.678Z", "type": "standard"}
    return {**base, "data": data or {}, "context": context, **fields}


CHECKOUT = {
    "token": "tok",
    "currencyCode": "USD",
    "email": " Jane@Example.com ",
    "totalPrice": {"amount": 27.5, "currencyCode": "USD"},
    "order": {"id": "gid://shopify/Order/99?x=1", "customer": {"id": "77"}},
    "lineItems": [
        {
            "quantity": 2,
            "variant": {"product": {"id": "11"}, "price": {"amount": 10.25, "currencyCode": "USD"}},
            "discountAllocations": [{"amount": {"amount": 0.5, "currencyCode": "USD"}}],
        },
        {"quantity": 1, "variant": {"product": {"id": None}, "price": {"amount": 7.5, "currencyCode": "USD"}}},
        None,
    ],
}
ORDER = {
    "id": 820982911946154508,
    "checkout_token": "tok",
    "created_at": "2026-01-01T22:30:00-05:00",
    "updated_at": "2026-01-03T00:00:00-05:00",
    "currency": "JPY",
    "total_price": "1200",
    "financial_status": "pending",
    "landing_site": "/?utm_source=News&utm_campaign=jan",
    "email": None,
    "contact_email": "",
    "customer": {"id": 5, "email": "JANE@example.com"},
    "line_items": [{"product_id": 11, "quantity": 3, "price": "400", "total_discount": "0"}, {"product_id": None}],
}


def test_a_pixel_event_keeps_what_stages_use_and_the_raw_bytes() -> None:
    value = pixel(href="https://a.example/?gclid=G1&utm_source=Google")
    event = understood(value)
    assert (event.shop_id, event.client_id, event.event_id, event.source) == ("shop", "client", "e1", "pixel")
    assert event.occurred_at == 1_767_323_045_678
    assert event.referrer == "https://b.example/"
    assert event.ad is not None
    assert (event.ad.platform, event.ad.source, event.ad.click_id_type) == ("google", "Google", "gclid")
    assert event.payload == json.dumps(value).encode()


def test_a_checkout_has_its_money_in_minor_units_and_its_lines_less_their_discounts() -> None:
    event = understood(pixel("checkout_completed", {"checkout": CHECKOUT}))
    assert event.value == Money(2750, "USD")
    assert event.order is not None
    assert (event.order.order_id, event.order.checkout_token) == ("99", "tok")
    assert event.order.completion is not None
    assert event.order.completion.value == Money(2750, "USD")
    (line,) = event.order.completion.lines
    assert (line.product_id, line.quantity) == ("11", 2)
    assert line.price is not None
    assert line.price.amount * line.quantity - line.discount == 2000
    assert event.customer_id == "77"


def test_pixel_and_webhook_of_one_person_share_the_email_hash() -> None:
    webhook = understood(ORDER, {"topic": "orders/create"})
    assert webhook.email_hash == understood(pixel("checkout_completed", {"checkout": CHECKOUT})).email_hash
    assert webhook.email_hash == "8c87b489ce35cf2e2f39f80e282cb2e804932a56a213983eeeb428407d43b52d"


def test_a_webhook_has_integer_ids_decimal_strings_and_offsets() -> None:
    event = understood(ORDER, {"topic": "orders/create", "source": "webhook", "event_id": "w1"})
    assert event.event_id == "orders/create:w1"
    assert event.occurred_at == 1_767_324_600_000
    assert event.value == Money(1200, "JPY")
    assert event.ad is None
    assert event.order is not None
    shown = event.order.payload
    assert shown is not None
    assert (shown.total, shown.lines) == (Money(1200, "JPY"), (SoldLine("11", 3, Money(400, "JPY")),))
    # The landing page is of an earlier session: it is no visit by itself.
    assert shown.landing is not None
    assert shown.landing.platform == "news"


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({}, "orders/create"),
        ({"cancelled_at": "2026-01-05T00:00:00Z"}, "orders/cancelled"),
        ({"cancelled_at": None}, "orders/create"),
    ],
)
def test_without_headers_the_shape_decides(change: dict[str, Any], name: str) -> None:
    assert understood({**ORDER, **change}).name == name


def test_a_webhook_without_an_event_id_differs_from_other_topics_of_its_order() -> None:
    create = understood(ORDER, {"topic": "orders/create"})
    paid = understood(ORDER, {"topic": "orders/paid"})
    updated = understood(ORDER, {"topic": "orders/updated"})
    assert len({create.event_id, paid.event_id, updated.event_id}) == 3
    assert create.event_id == "orders/create:820982911946154508"


@pytest.mark.parametrize(
    ("topic", "change", "status"),
    [
        ("orders/create", {}, "open"),
        ("orders/create", {"financial_status": "paid"}, "paid"),
        ("orders/paid", {}, "paid"),
        ("orders/updated", {"financial_status": "refunded"}, "refunded"),
        ("orders/cancelled", {"financial_status": "paid"}, "cancelled"),
    ],
)
def test_the_status_of_an_order(topic: str, change: dict[str, Any], status: str) -> None:
    order = understood({**ORDER, **change}, {"topic": topic}).order
    assert order is not None
    assert order.payload is not None
    assert order.payload.status == status


def test_unknown_names_are_events_too() -> None:
    assert understood(pixel("my_own_event", customData={"x": [1]})).name == "my_own_event"
    assert understood({"id": 1}, {"topic": "products/update"}).name == "products/update"


def test_null_and_missing_fields_are_understood() -> None:
    empty = pixel("checkout_completed", {"checkout": {"token": "t", "lineItems": [{"variant": None}], "order": None}})
    event = understood({**empty, "context": None, "timestamp": None})
    assert event.occurred_at == RECEIVED
    assert event.value is None
    assert event.order is not None
    assert (event.order.checkout_token, event.order.order_id) == ("t", None)


def test_a_client_id_may_hold_colons_and_a_shop_id_may_not() -> None:
    event = understood(pixel(), key=b"shop:a:b $.{}")
    assert (event.shop_id, event.client_id) == ("shop", "a:b $.{}")


@pytest.mark.parametrize("key", [None, b"", b":", b"shop", b":client", b"s\xff:c", b"s:\x00", b"s" * 200 + b":c"])
def test_a_record_without_a_user_key_is_a_dead_letter(key: bytes | None) -> None:
    assert "key" in reason(pixel(), key=key)


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (None, "empty"),
        (b"", "empty"),
        (b"{", "truncated"),
        (b"\xff\xfe", "UTF-8"),
        (b"[1]", "array"),
        (b'"text"', "str"),
        (b"1e999", "range"),
        (b"{}", "shape"),
        (b"[" * 100_000, "deeper"),
        (b'{"id":"a","name":"x","clientId":"c","z":' + b"[" * 200 + b"]" * 200 + b"}", "deeper"),
        (pixel(id=None), "no event id"),
        (pixel(id=""), "no event id"),
        (pixel(id=1.5), "float"),
        (pixel(id=True), "bool"),
        (pixel(id="x" * 300), "longer"),
        (pixel(name=7), "name"),
        (pixel(name=None), "no event name"),
        (pixel(timestamp="yesterday"), "ISO 8601"),
        (pixel(timestamp=5), "timestamp"),
        (pixel(context="x"), "context"),
        (pixel("cart_viewed", "x"), "str"),
        (pixel("x" * 257), "longer"),
        (pixel("product_viewed", {"productVariant": {"price": {"amount": "lots", "currencyCode": "USD"}}}), "amount"),
        (pixel("product_viewed", {"productVariant": {"price": {"amount": -1, "currencyCode": "USD"}}}), "amount"),
        (pixel("product_viewed", {"productVariant": {"price": {"amount": 1, "currencyCode": "US1"}}}), "currency"),
        (pixel("product_added_to_cart", {"cartLine": {"quantity": -1}}), "quantity"),
        ({**ORDER, "line_items": [{"product_id": 1, "quantity": 10**6, "price": "10000000000"}]}, "beyond"),
        (pixel("product_added_to_cart", {"cartLine": {"quantity": 10**9}}), "quantity"),
    ],
)
def test_an_undecodable_record_is_a_dead_letter_with_the_reason(value: Any, why: str) -> None:
    assert why in reason(value)


def test_a_number_that_would_fill_memory_when_written_out_is_refused_at_once() -> None:
    huge = (
        b'{"id":"a","name":"product_viewed","clientId":"c","data":{"productVariant":{"price":{"amount":1e999999999}}}}'
    )
    assert isinstance(decode(message(huge)), Undecodable)


@given(st.binary(max_size=300), st.binary(max_size=40))
def test_no_bytes_whatever_raise(value: bytes, key: bytes) -> None:
    assert isinstance(decode(message(value, key)), (Event, Undecodable))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=20,
)
FIELDS = sorted(pixel()) + sorted(ORDER) + sorted(CHECKOUT)


@given(st.dictionaries(st.sampled_from(FIELDS), JSON), st.sampled_from([None, "orders/create", "carts/update", "x/y"]))
def test_no_json_of_our_field_names_raises(value: dict[str, Any], topic: str | None) -> None:
    raw = json.dumps(value).encode()
    assert isinstance(decode(message(raw, headers={"topic": topic} if topic else None)), (Event, Undecodable))
