"""The shapes of Shopify's payloads."""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from truepixel_dagster.local import payloads
from truepixel_dagster.local.payloads import Customer, Line, Market, Product, Purchase, Shop, Visitor

AT = 1_767_605_400_123  # 2026-01-05T09:30:00.123Z
CUSTOMER = Customer(115310627314723954, "Ada.Kim@example.com", "Ada", "Kim", None)


def market(currency: str, *, offset: int = -300, tax_included: bool = False) -> Market:
    place = ("United States", "US", "New York", "NY", "New York", "10013", "33 Spring St")
    return Market(currency, offset, 1, tax_included, "en-US", *place)


def shop(currency: str = "USD", **fields: Any) -> Shop:
    return Shop("548380009", "apple.myshopify.com", market(currency, **fields), True, True, (), ())


def product(price: int, currency: str = "USD") -> Product:
    fields: dict[str, Any] = {
        "id": 632910392,
        "variant_id": 808950810,
        "handle": "ipod-nano",
        "title": "IPod Nano",
        "variant_title": "Pink",
        "vendor": "Apple",
        "sku": "IPOD2008PINK",
        "price": price,
    }
    return Product(**fields, pixel=payloads.variant(currency, "apple.myshopify.com", **fields))


def purchase(*lines: Line, currency: str = "USD", **fields: Any) -> Purchase:
    settings: dict[str, Any] = {
        "shop": shop(currency),
        "customer": CUSTOMER,
        "lines": lines,
        "checkout_id": 901414060,
        "order_id": 450789469,
        "order_token": "b1946ac92492d2347c6235b4d2611184",
        "number": 1001,
        "shipping": 1000,
        "tax": 597,
        "started_at": AT,
        "checkout_token": "bd5a8aa1ecd019dd3520ff791ee3a24c",
        "cart_token": "68778783ad298f1c80c3bafcddeea02f",
        "landing": "/products/ipod-nano?gclid=abc",
    }
    return Purchase(**(settings | fields))


@dataclass(frozen=True)
class Context:
    visitor: Visitor
    page: payloads.Page


@pytest.fixture
def context() -> Context:
    visitor = Visitor(shop(), "ece6cea2", CUSTOMER, payloads.navigator("Mozilla/5.0", "en-US"), (390, 664))
    query = "utm_source=google&gclid=abc"
    return Context(visitor, payloads.page(visitor, "/products/ipod", query, "IPod", "https://www.google.com/"))


@pytest.mark.parametrize(
    ("units", "currency", "as_number", "as_decimal"),
    [
        (1999, "USD", 19.99, "19.99"),
        (2000, "USD", 20, "20.00"),
        (5, "EUR", 0.05, "0.05"),
        (0, "USD", 0, "0.00"),
        (1999, "JPY", 1999, "1999"),
        (12375, "KWD", 12.375, "12.375"),
        (50, "KWD", 0.05, "0.050"),
    ],
)
def test_amounts_have_the_decimals_of_their_currency(
    units: int, currency: str, as_number: float, as_decimal: str
) -> None:
    assert payloads.number(units, currency) == as_number
    assert payloads.decimal(units, currency) == as_decimal


@given(st.integers(0, 10**12), st.sampled_from(["USD", "JPY", "KWD"]))
def test_a_number_and_a_decimal_string_say_the_same_amount(units: int, currency: str) -> None:
    written = json.dumps(payloads.number(units, currency))
    assert Decimal(written) == Decimal(payloads.decimal(units, currency))
    assert Decimal(written).scaleb(payloads.DECIMALS.get(currency, 2)) == units


def test_pixel_times_are_utc_with_milliseconds_and_webhook_times_have_the_shops_offset() -> None:
    assert payloads.iso_utc(AT) == "2026-01-05T09:30:00.123Z"
    assert payloads.iso_local(AT, market("USD", offset=-300)) == "2026-01-05T04:30:00-05:00"
    assert payloads.iso_local(AT, market("INR", offset=330)) == "2026-01-05T15:00:00+05:30"
    assert payloads.iso_local(AT, market("GBP", offset=0)) == "2026-01-05T09:30:00+00:00"


def test_a_pixel_event_has_shopifys_fields_and_the_pages_full_context(context: Context) -> None:
    event = json.loads(payloads.pixel_event("page_viewed", "sh-1", "ece6cea2", AT, context.page, {}))
    assert list(event) == ["id", "name", "clientId", "timestamp", "type", "data", "context"]
    assert event["type"] == "standard"
    location = event["context"]["document"]["location"]
    assert location == {
        "href": "https://apple.myshopify.com/products/ipod?utm_source=google&gclid=abc",
        "hash": "",
        "host": "apple.myshopify.com",
        "hostname": "apple.myshopify.com",
        "origin": "https://apple.myshopify.com",
        "pathname": "/products/ipod",
        "port": "",
        "protocol": "https:",
        "search": "?utm_source=google&gclid=abc",
    }
    assert event["context"]["document"]["referrer"] == "https://www.google.com/"
    assert event["context"]["window"]["location"] == location
    assert event["context"]["window"]["innerHeight"] == 664
    assert event["context"]["navigator"] == {
        "language": "en-US",
        "cookieEnabled": True,
        "languages": ["en-US", "en"],
        "userAgent": "Mozilla/5.0",
    }


def test_a_page_without_query_string_has_no_question_mark(context: Context) -> None:
    opened = payloads.page(context.visitor, "/cart", "", "Your cart", "")
    assert opened.url == "https://apple.myshopify.com/cart"
    assert json.loads(bytes(opened.context))["document"]["location"]["search"] == ""


def test_a_custom_event_has_custom_data_in_place_of_data(context: Context) -> None:
    value = payloads.pixel_event("review_read", "sh-1", "ece6cea2", AT, context.page, {"position": 3}, custom=True)
    event = json.loads(value)
    assert event["type"] == "custom"
    assert event["customData"] == {"position": 3}
    assert "data" not in event


def test_a_cart_line_in_the_pixel_has_string_ids_and_number_amounts() -> None:
    line = encoded(payloads.cart_line(Line(1, product(1999), 2), "USD"))
    assert line["cost"]["totalAmount"] == {"amount": 39.98, "currencyCode": "USD"}
    assert line["quantity"] == 2
    assert line["merchandise"]["id"] == "808950810"
    assert line["merchandise"]["product"]["id"] == "632910392"
    assert line["merchandise"]["price"] == {"amount": 19.99, "currencyCode": "USD"}


def test_an_empty_cart_is_null() -> None:
    assert payloads.cart_viewed("token", [], "USD") == {"cart": None}


def test_a_checkout_learns_of_contact_address_shipping_and_payment_step_by_step() -> None:
    bought = purchase(Line(1, product(1999), 2))
    steps = [encoded(payloads.checkout(bought, step=step))["checkout"] for step in range(6)]
    assert [step["email"] is not None for step in steps] == [False, True, True, True, True, True]
    assert [step["shippingAddress"] is not None for step in steps] == [False, False, True, True, True, True]
    assert [step["totalPrice"]["amount"] for step in steps] == [45.95, 45.95, 45.95, 55.95, 55.95, 55.95]
    assert [len(step["transactions"]) for step in steps] == [0, 0, 0, 0, 0, 1]


def test_pixel_and_webhook_report_the_same_token_total_products_and_discounts() -> None:
    bought = purchase(Line(1, product(1999), 2, discount=399), Line(2, product(1000), 1), discount_code="SAVE10")
    pixel = encoded(payloads.checkout(bought, step=5))["checkout"]
    webhook = json.loads(payloads.order_webhook(bought, AT, "paid"))
    assert pixel["token"] == webhook["checkout_token"]
    assert Decimal(str(pixel["totalPrice"]["amount"])) == Decimal(webhook["total_price"]) == Decimal("61.96")
    assert [line["variant"]["product"]["id"] for line in pixel["lineItems"]] == [
        str(line["product_id"]) for line in webhook["line_items"]
    ]
    assert pixel["lineItems"][0]["discountAllocations"][0]["amount"] == {"amount": 3.99, "currencyCode": "USD"}
    assert webhook["line_items"][0]["discount_allocations"][0]["amount"] == "3.99"
    assert pixel["lineItems"][1]["discountAllocations"] == webhook["line_items"][1]["discount_allocations"] == []


def test_an_order_webhook_has_integer_ids_decimal_strings_and_local_times() -> None:
    order = json.loads(payloads.order_webhook(purchase(Line(7, product(1999), 2)), AT + 5_000, "paid"))
    assert order["id"] == 450789469
    assert order["line_items"][0]["product_id"] == 632910392
    assert order["line_items"][0]["price"] == "19.99"
    assert order["created_at"] == "2026-01-05T04:30:00-05:00"
    assert order["updated_at"] == "2026-01-05T04:30:05-05:00"
    assert order["landing_site"] == "/products/ipod-nano?gclid=abc"
    assert order["cancelled_at"] is None


def test_only_a_theme_that_passes_the_client_on_puts_it_in_note_attributes() -> None:
    lines = Line(7, product(1999), 1)
    passed = json.loads(payloads.order_webhook(purchase(lines, client_id="ece6cea2"), AT, "paid"))
    assert passed["note_attributes"] == [{"name": "_truepixel_client_id", "value": "ece6cea2"}]
    assert json.loads(payloads.order_webhook(purchase(lines), AT, "paid"))["note_attributes"] == []


def test_included_tax_is_not_added_to_the_total() -> None:
    line = Line(7, product(1999), 1)
    assert purchase(line).total() == 1999 + 597 + 1000
    included = msgspec.structs.replace(purchase(line), shop=shop("EUR", tax_included=True))
    assert included.total() == 1999 + 1000


def test_a_cart_webhook_is_known_by_its_token() -> None:
    cart = json.loads(payloads.cart_webhook("eeafa272", [Line(7, product(12375, "KWD"), 3)], AT, AT + 60_000, "KWD"))
    assert cart["id"] == cart["token"] == "eeafa272"
    assert cart["line_items"][0]["line_price"] == "37.125"
    assert cart["updated_at"] == "2026-01-05T09:31:00.123Z"


def test_a_refund_names_its_order() -> None:
    refund = json.loads(payloads.refund_webhook(purchase(Line(7, product(1999), 2)), 509562969, AT))
    assert (refund["id"], refund["order_id"]) == (509562969, 450789469)
    assert refund["refund_line_items"][0]["line_item"]["product_id"] == 632910392


def test_a_checkout_webhook_tells_the_address_only_when_the_contact_is_known() -> None:
    bought = purchase(Line(7, product(1999), 2))
    early = json.loads(payloads.checkout_webhook(bought, AT, contact_known=False))
    late = json.loads(payloads.checkout_webhook(bought, AT, contact_known=True))
    assert early["email"] is None
    assert late["email"] == "Ada.Kim@example.com"
    assert early["token"] == late["token"] == "bd5a8aa1ecd019dd3520ff791ee3a24c"


def encoded(data: dict[str, Any]) -> Any:
    """What arrives of it."""
    return json.loads(msgspec.json.encode(data))
