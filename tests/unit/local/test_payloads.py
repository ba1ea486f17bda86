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

from truepixel_dagster.local.payloads import pixel
from truepixel_dagster.local.payloads.about_order import (
    deletion_webhook,
    edit_webhook,
    fulfillment_webhook,
    shop_webhook,
    transaction_webhook,
)
from truepixel_dagster.local.payloads.checkout import cart_webhook, checkout_webhook
from truepixel_dagster.local.payloads.model import (
    Customer,
    History,
    Line,
    Market,
    Order,
    Page,
    Presentment,
    Product,
    Purchase,
    Refund,
    ReturnedLine,
    Shop,
    Visitor,
)
from truepixel_dagster.local.payloads.order import order_webhook
from truepixel_dagster.local.payloads.refund import refund_webhook
from truepixel_dagster.local.payloads.text import DECIMALS, decimal, iso_local, iso_utc, number

AT = 1_767_605_400_123  # 2026-01-05T09:30:00.123Z
CUSTOMER = Customer(115310627314723954, "Ada.Kim@example.com", "Ada", "Kim", None)


def market(currency: str, *, offset: int = -300, tax_included: bool = False) -> Market:
    place = ("United States", "US", "New York", "NY", "New York", "10013", "33 Spring St")
    return Market(currency, offset, 1, tax_included, "en-US", *place)


def shop(currency: str = "USD", *, full: bool = False, **fields: Any) -> Shop:
    domain = "apple.myshopify.com"
    return Shop("548380009", domain, domain, market(currency, **fields), True, True, (), (), full_payloads=full)


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
    return Product(**fields, pixel=pixel.variant(currency, "apple.myshopify.com", **fields))


def purchase(*lines: Line, currency: str = "USD", **fields: Any) -> Purchase:
    settings: dict[str, Any] = {
        "shop": shop(currency),
        "customer": CUSTOMER,
        "lines": lines,
        "presentment": Presentment(market(currency)),
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
    page: Page


@pytest.fixture
def context() -> Context:
    said = pixel.navigator("Mozilla/5.0", "en-US")
    visitor = Visitor(shop(), "ece6cea2", CUSTOMER, said, (390, 664), Presentment(market("USD")), History())
    query = "utm_source=google&gclid=abc"
    return Context(visitor, pixel.page(visitor, "/products/ipod", query, "IPod", "https://www.google.com/"))


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
    assert number(units, currency) == as_number
    assert decimal(units, currency) == as_decimal


@given(st.integers(0, 10**12), st.sampled_from(["USD", "JPY", "KWD"]))
def test_a_number_and_a_decimal_string_say_the_same_amount(units: int, currency: str) -> None:
    written = json.dumps(number(units, currency))
    assert Decimal(written) == Decimal(decimal(units, currency))
    assert Decimal(written).scaleb(DECIMALS.get(currency, 2)) == units


def test_pixel_times_are_utc_with_milliseconds_and_webhook_times_have_the_shops_offset() -> None:
    assert iso_utc(AT) == "2026-01-05T09:30:00.123Z"
    assert iso_local(AT, -300) == "2026-01-05T04:30:00-05:00"
    assert iso_local(AT, 330) == "2026-01-05T15:00:00+05:30"
    assert iso_local(AT, 0) == "2026-01-05T09:30:00+00:00"


def test_a_pixel_event_has_shopifys_fields_and_the_pages_full_context(context: Context) -> None:
    event = json.loads(pixel.pixel_event("page_viewed", "sh-1", "ece6cea2", AT, context.page, {}))
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
    opened = pixel.page(context.visitor, "/cart", "", "Your cart", "")
    assert opened.url == "https://apple.myshopify.com/cart"
    assert json.loads(bytes(opened.context))["document"]["location"]["search"] == ""


def test_a_custom_event_has_custom_data_in_place_of_data(context: Context) -> None:
    value = pixel.pixel_event("review_read", "sh-1", "ece6cea2", AT, context.page, {"position": 3}, custom=True)
    event = json.loads(value)
    assert event["type"] == "custom"
    assert event["customData"] == {"position": 3}
    assert "data" not in event


def test_a_cart_line_in_the_pixel_has_string_ids_and_number_amounts() -> None:
    line = encoded(pixel.cart_line(Line(1, product(1999), 2), Presentment(market("USD"))))
    assert line["cost"]["totalAmount"] == {"amount": 39.98, "currencyCode": "USD"}
    assert line["quantity"] == 2
    assert line["merchandise"]["id"] == "808950810"
    assert line["merchandise"]["product"]["id"] == "632910392"
    assert line["merchandise"]["price"] == {"amount": 19.99, "currencyCode": "USD"}


def test_an_empty_cart_is_null() -> None:
    assert pixel.cart_viewed("token", [], Presentment(market("USD"))) == {"cart": None}


def test_a_checkout_gets_contact_address_shipping_and_payment_step_by_step() -> None:
    bought = purchase(Line(1, product(1999), 2))
    steps = [encoded(pixel.checkout(bought, step=step))["checkout"] for step in range(6)]
    assert [step["email"] is not None for step in steps] == [False, True, True, True, True, True]
    assert [step["shippingAddress"] is not None for step in steps] == [False, False, True, True, True, True]
    assert [step["totalPrice"]["amount"] for step in steps] == [45.95, 45.95, 45.95, 55.95, 55.95, 55.95]
    assert [len(step["transactions"]) for step in steps] == [0, 0, 0, 0, 0, 1]


def test_pixel_and_webhook_report_the_same_token_total_products_and_discounts() -> None:
    bought = purchase(Line(1, product(1999), 2, discount=399), Line(2, product(1000), 1), discount_code="SAVE10")
    seen = encoded(pixel.checkout(bought, step=5))["checkout"]
    webhook = json.loads(order_webhook(Order(bought, AT, "paid")))
    assert seen["token"] == webhook["checkout_token"]
    assert Decimal(str(seen["totalPrice"]["amount"])) == Decimal(webhook["total_price"]) == Decimal("61.96")
    assert [line["variant"]["product"]["id"] for line in seen["lineItems"]] == [
        str(line["product_id"]) for line in webhook["line_items"]
    ]
    assert seen["lineItems"][0]["discountAllocations"][0]["amount"] == {"amount": 3.99, "currencyCode": "USD"}
    assert webhook["line_items"][0]["discount_allocations"][0]["amount"] == "3.99"
    assert seen["lineItems"][1]["discountAllocations"] == webhook["line_items"][1]["discount_allocations"] == []


def test_an_order_webhook_has_integer_ids_decimal_strings_and_local_times() -> None:
    order = json.loads(order_webhook(Order(purchase(Line(7, product(1999), 2)), AT + 5_000, "paid")))
    assert order["id"] == 450789469
    assert order["line_items"][0]["product_id"] == 632910392
    assert order["line_items"][0]["price"] == "19.99"
    assert order["created_at"] == "2026-01-05T04:30:00-05:00"
    assert order["updated_at"] == "2026-01-05T04:30:05-05:00"
    assert order["landing_site"] == "/products/ipod-nano?gclid=abc"
    assert order["cancelled_at"] is None


def test_only_a_theme_that_passes_the_client_on_puts_it_in_note_attributes() -> None:
    lines = Line(7, product(1999), 1)
    passed = json.loads(order_webhook(Order(purchase(lines, client_id="ece6cea2"), AT, "paid")))
    assert passed["note_attributes"] == [{"name": "_truepixel_client_id", "value": "ece6cea2"}]
    assert json.loads(order_webhook(Order(purchase(lines), AT, "paid")))["note_attributes"] == []


def test_included_tax_is_not_added_to_the_total() -> None:
    line = Line(7, product(1999), 1)
    assert purchase(line).total() == 1999 + 597 + 1000
    included = msgspec.structs.replace(purchase(line), shop=shop("EUR", tax_included=True))
    assert included.total() == 1999 + 1000


def test_a_cart_webhook_is_known_by_its_token() -> None:
    cart = json.loads(cart_webhook("eeafa272", [Line(7, product(12375, "KWD"), 3)], AT, AT + 60_000, "KWD"))
    assert cart["id"] == cart["token"] == "eeafa272"
    assert cart["line_items"][0]["line_price"] == "37.125"
    assert cart["updated_at"] == "2026-01-05T09:31:00.123Z"


def test_a_refund_names_its_order() -> None:
    line = Line(7, product(1999), 2)
    refund = json.loads(refund_webhook(purchase(line), Refund(509562969, AT, (ReturnedLine(line, 2),), 3998)))
    assert (refund["id"], refund["order_id"]) == (509562969, 450789469)
    assert refund["refund_line_items"][0]["line_item"]["product_id"] == 632910392


def test_a_checkout_webhook_has_the_address_only_when_the_contact_is_known() -> None:
    bought = purchase(Line(7, product(1999), 2))
    early = json.loads(checkout_webhook(bought, AT, contact_known=False))
    late = json.loads(checkout_webhook(bought, AT, contact_known=True))
    assert early["email"] is None
    assert late["email"] == "Ada.Kim@example.com"
    assert early["token"] == late["token"] == "bd5a8aa1ecd019dd3520ff791ee3a24c"


def todays(*lines: Line, rate: float = 1.0, seen_in: str = "USD", **fields: Any) -> Purchase:
    """A purchase in a shop whose payloads have all that Shopify sends today."""
    return purchase(*lines, shop=shop(full=True), presentment=Presentment(market(seen_in), rate), **fields)


def test_an_order_of_another_market_has_the_shops_money_and_beside_it_the_buyers() -> None:
    bought = todays(Line(7, product(2000), 2, discount=400), rate=0.9, seen_in="EUR")
    order = json.loads(order_webhook(Order(bought, AT, "paid")))
    assert (order["currency"], order["presentment_currency"]) == ("USD", "EUR")
    assert order["total_price"] == "51.97"  # 36.00, 5.97 of tax, 10.00 of shipping
    shop_money, seen = (order["total_price_set"][side] for side in ("shop_money", "presentment_money"))
    assert shop_money == {"amount": "51.97", "currency_code": "USD"}
    assert seen == {"amount": "46.77", "currency_code": "EUR"}
    assert order["line_items"][0]["price_set"]["presentment_money"]["amount"] == "18.00"
    checkout = encoded(pixel.checkout(bought, step=5))["checkout"]
    assert checkout["totalPrice"] == {"amount": 46.77, "currencyCode": "EUR"}
    assert checkout["localization"]["country"] == {"isoCode": "US"}


def test_a_line_for_nothing_costs_nothing_in_any_money() -> None:
    bought = todays(Line(7, product(1999), 3, discount=5997), rate=0.9137, seen_in="EUR", shipping=0, tax=0)
    assert (bought.total(), bought.shown_total()) == (0, 0)


def test_an_order_shows_what_refunds_and_edits_left_of_it() -> None:
    line = Line(7, product(2000), 3, removed=1, returned=1)
    given_back = Refund(901, AT + 2000, (ReturnedLine(line, 1),), 2000)
    taken_out = Refund(902, AT + 1000, (ReturnedLine(line, 1),))
    state = Order(todays(line, tax=0), AT + 2000, "partially_refunded", refunds=(taken_out, given_back), taken_off=2000)
    order = json.loads(order_webhook(state))
    assert (order["total_price"], order["current_total_price"]) == ("70.00", "30.00")
    assert order["current_total_price_set"]["shop_money"]["amount"] == "30.00"
    assert (order["line_items"][0]["quantity"], order["line_items"][0]["current_quantity"]) == (3, 1)
    assert [refund["id"] for refund in order["refunds"]] == [902, 901]
    assert [len(refund["transactions"]) for refund in order["refunds"]] == [0, 1]
    assert order["refunds"][1]["refund_line_items"][0]["subtotal_set"]["shop_money"]["amount"] == "20.00"


def test_money_that_goes_back_for_an_edit_is_not_taken_off_twice() -> None:
    line = Line(7, product(2000), 2, removed=1)
    settled = Refund(902, AT, amount=2000, settles=True)
    state = Order(todays(line, tax=0), AT, "partially_refunded", refunds=(settled,), taken_off=2000)
    assert (state.refunded, state.left) == (2000, 3000)


@pytest.mark.parametrize(("presented", "amount", "currency"), [(False, "51.97", "USD"), (True, "46.77", "EUR")])
def test_a_refunds_transaction_is_in_the_shops_or_in_the_buyers_money(
    presented: bool, amount: str, currency: str
) -> None:
    bought = todays(Line(7, product(2000), 2, discount=400), rate=0.9, seen_in="EUR")
    refund = json.loads(refund_webhook(bought, Refund(901, AT, amount=5197, presented=presented)))
    (transaction,) = refund["transactions"]
    assert (transaction["kind"], transaction["status"]) == ("refund", "success")
    assert (transaction["amount"], transaction["currency"]) == (amount, currency)
    assert refund["order_adjustments"][0]["amount"] == "-51.97"


def test_a_transaction_that_failed_and_one_that_released_a_payment_gave_no_money_back() -> None:
    bought = todays(Line(7, product(2000), 1))
    failed = json.loads(refund_webhook(bought, Refund(901, AT, amount=500, failed=True)))["transactions"]
    assert [transaction["status"] for transaction in failed] == ["failure", "success"]
    (released,) = json.loads(refund_webhook(bought, Refund(902, AT, void=2000)))["transactions"]
    assert (released["kind"], released["amount"]) == ("void", "20.00")


def test_an_order_whose_tokens_are_null_still_has_its_id() -> None:
    order = json.loads(order_webhook(Order(todays(Line(7, product(2000), 1)), AT, "paid"), tokens=False))
    assert order["checkout_token"] is order["cart_token"] is None
    assert order["id"] == 450789469


def test_webhooks_about_an_order_name_it_without_showing_it() -> None:
    order = Order(todays(Line(7, product(2000), 1)), AT, "paid")
    assert json.loads(deletion_webhook(order.purchase)) == {"id": 450789469}
    edit = json.loads(edit_webhook(order, additions={8: 1}, removals={7: 2}))["order_edit"]
    assert edit["order_id"] == 450789469
    assert edit["line_items"] == {"additions": [{"id": 8, "delta": 1}], "removals": [{"id": 7, "delta": 2}]}
    for value in (fulfillment_webhook(order), transaction_webhook(order)):
        payload = json.loads(value)
        assert payload["order_id"] == 450789469
        assert payload.keys().isdisjoint({"total_price", "financial_status"})


def test_a_shop_has_its_zone_its_currency_and_both_domains() -> None:
    body = json.loads(shop_webhook(shop(full=True), "America/New_York", AT))
    assert (body["iana_timezone"], body["currency"]) == ("America/New_York", "USD")
    assert (body["domain"], body["myshopify_domain"]) == ("apple.myshopify.com", "apple.myshopify.com")


def test_a_title_that_was_cut_ends_in_half_an_emoji() -> None:
    title = bytes(pixel.cut_title("Lamp"))
    assert title == b'"Lamp \\ud83c"'
    assert json.loads(title) == "Lamp \ud83c"


def encoded(data: dict[str, Any]) -> Any:
    """The data after its transport as JSON."""
    return json.loads(msgspec.json.encode(data))
