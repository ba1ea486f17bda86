"""The types of a payload's fields by topic: a payload with another type is a dead letter.

Null and missing fields are always valid, and fields that are not named here may have any type.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from truepixel_dagster.audit.oracle.values import decimal, id_, id_as_it_is, number, object_, objects, text, whole

TEXT, ANY_ID, ID, NUMBER, AMOUNT, COUNT = "text", "id of any length", "id", "number", "amount", "count"

READERS: dict[str, Callable[[Any, str], Any]] = {
    TEXT: text,
    ANY_ID: id_as_it_is,
    ID: id_,
    NUMBER: decimal,
    AMOUNT: number,
    COUNT: whole,
}

_PRICE = {"amount": AMOUNT, "currencyCode": TEXT}
_PIXEL_LINE = {
    "quantity": COUNT,
    "variant": {"product": {"id": ID}, "price": _PRICE},
    "discountAllocations": [{"amount": {"amount": AMOUNT}}],
}
PIXEL = {
    "id": ANY_ID,
    "name": TEXT,
    "timestamp": TEXT,
    "context": {"document": {"location": {"href": TEXT, "search": TEXT}, "referrer": TEXT}},
}
PIXEL_CHECKOUT = {
    "token": ID,
    "currencyCode": TEXT,
    "email": TEXT,
    "totalPrice": _PRICE,
    "lineItems": [_PIXEL_LINE],
    "order": {"id": ID, "customer": {"id": ID}},
}
_WEBHOOK = {"id": ID, "landing_site": TEXT, "referring_site": TEXT, "customer": {"id": ID}}
_PERSON = {"customer": {"id": ID, "email": TEXT}, "email": TEXT, "contact_email": TEXT}
_SHOP_MONEY = {"shop_money": {"amount": NUMBER, "currency_code": TEXT}}
_BOTH_MONEYS = {**_SHOP_MONEY, "presentment_money": {"amount": NUMBER, "currency_code": TEXT}}
_REFUND = {
    "id": ANY_ID,
    "transactions": [{}],
    "refund_line_items": [
        {
            "line_item_id": ANY_ID,
            "quantity": NUMBER,
            "subtotal": NUMBER,
            "subtotal_set": _SHOP_MONEY,
            "line_item": {"id": ANY_ID, "product_id": ANY_ID},
        }
    ],
}
_LINES: dict[str, list[dict[str, Any]]] = {
    "line_items": [
        {
            "id": ANY_ID,
            "product_id": ID,
            "quantity": COUNT,
            "price": NUMBER,
            "price_set": _SHOP_MONEY,
            "total_discount": NUMBER,
            "discount_allocations": [{"amount": NUMBER, "amount_set": _SHOP_MONEY}],
        }
    ]
}
_SALE = {**_PERSON, **_LINES, "currency": TEXT, "presentment_currency": TEXT, "total_price": NUMBER}


def webhook_types(topic: str) -> dict[str, Any]:
    """Return the types of a webhook's payload."""
    if topic == "refunds/create":
        return {**_WEBHOOK, **_REFUND, "order_id": ID}
    if topic.startswith("orders/"):
        totals = {
            "total_price_set": _BOTH_MONEYS,
            "current_total_price_set": _SHOP_MONEY,
            "current_total_price": NUMBER,
        }
        return {**_WEBHOOK, **_SALE, **totals, "refunds": [_REFUND], "checkout_token": ID, "cart_token": ID}
    if topic.startswith("checkouts/"):
        return {**_WEBHOOK, **_SALE, "token": ID, "cart_token": ID}
    if topic.startswith("carts/"):
        line = {name: type_ for name, type_ in _LINES["line_items"][0].items() if name != "id"}
        return {**_WEBHOOK, "line_items": [line]}
    return {**_WEBHOOK, **_PERSON} if topic.startswith("customers/") else _WEBHOOK


def check_types(value: Any, wanted: Any, name: str = "value") -> None:
    """Check every named field.

    Raises:
        DeadLetter: A field has another type.
    """
    if value is None:
        return
    if isinstance(wanted, str):
        READERS[wanted](value, name)
    elif isinstance(wanted, list):
        for item in objects(value, name):
            check_types(item, wanted[0], name)
    else:
        for inner, type_ in wanted.items():
            check_types(object_(value, name).get(inner), type_, inner)
