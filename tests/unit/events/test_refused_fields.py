"""A rejection names the field, wherever it is in the payload."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.unit.events.test_hostile import places, replaced
from truepixel_dagster.events.decode import Undecodable, decode
from truepixel_dagster.events.event import Message
from truepixel_dagster.events.origin import Origin


def both(amount: str) -> dict[str, Any]:
    return {
        "shop_money": {"amount": amount, "currency_code": "USD"},
        "presentment_money": {"amount": amount, "currency_code": "EUR"},
    }


def seen(amount: Any) -> dict[str, Any]:
    return {"amount": amount, "currencyCode": "USD"}


REFUND = {
    "id": 3,
    "transactions": [
        {"kind": "sale", "amount": "x"},
        {"kind": "refund", "status": "success", "amount": "1.00", "currency": "USD"},
        {"kind": "refund", "status": "success", "amount_set": both("1.00")},
    ],
    "refund_line_items": [
        {"line_item_id": 4, "quantity": 1, "subtotal": "1.00", "line_item": {"id": 5, "product_id": 6}},
        {"line_item_id": 4, "quantity": 1, "subtotal_set": both("1.00"), "line_item": {"id": 5, "product_id": 6}},
    ],
}
LINES = [
    {"id": 1, "product_id": None, "quantity": 1},
    {"id": 5, "product_id": 6, "quantity": 3, "current_quantity": 2, "price": "2.00", "total_discount": "0.50"},
    {
        "product_id": 6,
        "quantity": 1,
        "price_set": both("2.00"),
        "discount_allocations": [{"amount": "0.10"}, {"amount_set": both("0.10")}],
    },
]
ORDER = {
    "id": 7,
    "checkout_token": "t",
    "cart_token": "k",
    "currency": "USD",
    "total_price": "8.00",
    "current_total_price": "7.00",
    "financial_status": "paid",
    "customer": {"id": 8},
    "line_items": LINES,
    "refunds": [REFUND],
}
BY_SETS = {**ORDER, "total_price": None, "total_price_set": both("8.00"), "current_total_price": None}
BY_SETS = {**BY_SETS, "current_total_price_set": both("7.00"), "line_items": LINES[2:]}
PRESENTED = {**ORDER, "currency": None, "presentment_currency": "USD"}
CHECKOUT = {
    "token": "t",
    "totalPrice": seen(4.0),
    "order": {"id": "7", "customer": {"id": "8"}},
    "lineItems": [
        None,
        {
            "quantity": 2,
            "variant": {"product": {"id": "6"}, "price": seen(2.0)},
            "discountAllocations": [{"amount": {"amount": 0.5}}],
        },
    ],
}
BY_CHECKOUT = {**CHECKOUT, "totalPrice": {"amount": 4.0}, "currencyCode": "USD"}
BY_LINE = {**CHECKOUT, "totalPrice": {"amount": 4.0}}
CART_LINE = {"quantity": 1, "cost": {"totalAmount": seen(2.0)}, "merchandise": {"product": {"id": "6"}}}


def of_pixel(name: str, **data: Any) -> tuple[str | None, dict[str, Any]]:
    return None, {"id": "e", "name": name, "clientId": "c", "data": data}


PAYLOADS: dict[str, tuple[str | None, dict[str, Any]]] = {
    "an order": ("orders/updated", ORDER),
    "an order by its sets": ("orders/updated", BY_SETS),
    "an order in the buyer's currency": ("orders/updated", PRESENTED),
    "a refund": ("refunds/create", {**REFUND, "order_id": 7}),
    "a checkout of a webhook": ("checkouts/update", {**ORDER, "token": "t"}),
    "a cart": ("carts/update", {"id": "k", "line_items": LINES}),
    "a checkout": of_pixel("checkout_completed", checkout=CHECKOUT),
    "a checkout with a currency": of_pixel("checkout_completed", checkout=BY_CHECKOUT),
    "a checkout whose lines have one": of_pixel("checkout_completed", checkout=BY_LINE),
    "a product": of_pixel("product_viewed", productVariant={"price": seen(2.0), "product": {"id": "6"}}),
    "a line that is added": of_pixel("product_added_to_cart", cartLine=CART_LINE),
    "a cart that is seen": of_pixel("cart_viewed", cart={"cost": {"totalAmount": seen(2.0)}, "lines": [CART_LINE]}),
}
BAD: list[Any] = [-1, "-1", 10**17, "1e999999999", "lots", "ABC", "x" * 257, 10**9, True, {}, [1], "NaN"]
NUMBERS = re.compile(r"\[\d+\]")


def refusal(topic: str | None, payload: Any) -> str | None:
    headers = (("topic", topic.encode()), ("event_id", b"w")) if topic else (("source", b"pixel"),)
    found = decode(Message(Origin("t", 0, 0), b"s:c", json.dumps(payload).encode(), headers, 1_790_000_000_000))
    return found.reason if isinstance(found, Undecodable) else None


def written(place: tuple[Any, ...]) -> str:
    """A place as JSON's decoder writes it."""
    return "".join("[...]" if isinstance(step, int) else f".{step}" for step in place).lstrip(".")


def named(reason: str) -> str:
    """The field that a refusal names; JSON's decoder writes the place within what it decodes at the end."""
    before, _, within = reason.partition(" - at `$.")
    outer = before.partition(": ")[0] if ": " in before else ""
    return NUMBERS.sub("[...]", ".".join(filter(None, (outer, within.rstrip("`")))))


def is_one_value(payload: Any, place: tuple[Any, ...]) -> bool:
    for step in place:
        payload = payload[step]
    return not isinstance(payload, (dict, list))


@pytest.mark.parametrize("kind", PAYLOADS)
def test_a_refusal_names_the_field(kind: str) -> None:
    topic, payload = PAYLOADS[kind]
    assert refusal(topic, payload) is None
    refused = 0
    # For a pixel's other fields and its headers, the dead letter names the field of the event.
    for place in (each for each in places(payload) if each and (topic or each[0] == "data")):
        for value in BAD if is_one_value(payload, place) else ():
            if reason := refusal(topic, replaced(payload, place, value)):
                refused += 1
                # The product ids of a pixel event are checked together, wherever they are.
                right = {written(place)} | ({"product.id"} if place[-2:] == ("product", "id") else set())
                assert named(reason) in right, (value, reason)
    assert refused > 5


@pytest.mark.parametrize(
    ("kind", "place", "value", "said"),
    [
        ("an order", ("line_items", 1, "price"), "-1", "line_items[1].price: amount -1 is not between 0 and 10"),
        ("an order", ("line_items", 1, "quantity"), 10**9, "line_items[1].quantity: 1000000000 is not between 0 and 1"),
        ("an order", ("currency",), "ABC", "currency: currency 'ABC' is not in ISO 4217"),
        ("an order", ("refunds", 0, "transactions", 1, "amount"), "-1", "refunds[0].transactions[1].amount: amount -1"),
        ("a checkout", ("data", "checkout", "lineItems", 1, "quantity"), -1, "data.checkout.lineItems[1].quantity: -1"),
    ],
)
def test_a_refusal_says_why_in_words(kind: str, place: tuple[Any, ...], value: Any, said: str) -> None:
    topic, payload = PAYLOADS[kind]
    assert (refusal(topic, replaced(payload, place, value)) or "").startswith(said)


def test_lines_beyond_the_bound_are_rejected_with_their_field() -> None:
    many = [{"product_id": 1}] * 2_001
    assert (refusal("orders/updated", {**ORDER, "line_items": many}) or "").startswith("line_items: 2001 items")
    shown = of_pixel("checkout_completed", checkout={**CHECKOUT, "lineItems": [{}] * 2_001})
    assert "2001 items" in (refusal(*shown) or "")
