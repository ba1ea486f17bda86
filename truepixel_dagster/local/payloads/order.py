"""The payload of Shopify's `orders/…` webhooks (shopify.dev: Order, REST Admin API, 2024-10 to 2026-01).

Amounts are decimal strings in the shop's currency; a field `…_set` also has the buyer's. Ids are integers; times have
the shop's offset. `total_price` is the amount of the order as placed; fields `current_…` are after edits, returns and
refunds.
"""

from __future__ import annotations

from typing import Any

import msgspec

from truepixel_dagster.local.payloads.model import Order, Purchase
from truepixel_dagster.local.payloads.refund import refund_fields
from truepixel_dagster.local.payloads.shared import (
    client_notes,
    discount_codes,
    money_set,
    order_line,
    postal_address,
    times_of,
)
from truepixel_dagster.local.payloads.text import decimal

_encode = msgspec.json.Encoder().encode


def order_webhook(order: Order, *, tokens: bool = True) -> bytes:
    """Return the payload of an `orders/…` topic, except `orders/delete` and `orders/edited`.

    Arguments:
        order: The order.
        tokens: Whether it has the checkout's and the cart's token: merchants report payloads with null tokens.
    """
    fields = _fields(order, tokens=tokens)
    return _encode(fields | _todays(order) if order.purchase.shop.full_payloads else fields)


def _fields(order: Order, *, tokens: bool) -> dict[str, Any]:
    purchase = order.purchase
    shop, currency = purchase.shop, purchase.shop.currency
    local = times_of(shop)
    created_at = local(purchase.started_at)
    email = None if purchase.walk_in else purchase.customer.email
    return {
        "id": purchase.order_id,
        "admin_graphql_api_id": f"gid://shopify/Order/{purchase.order_id}",
        "app_id": purchase.app_id,
        "cancel_reason": "customer" if order.cancelled_at is not None else None,
        "cancelled_at": None if order.cancelled_at is None else local(order.cancelled_at),
        "cart_token": purchase.cart_token if tokens else None,
        "checkout_id": purchase.checkout_id if purchase.checkout_token else None,
        "checkout_token": purchase.checkout_token if tokens else None,
        "closed_at": None,
        "confirmed": True,
        "contact_email": email,
        "created_at": created_at,
        "currency": currency,
        "current_total_price": decimal(order.left, currency),
        "discount_codes": discount_codes(purchase),
        "email": email,
        "financial_status": order.status,
        "fulfillment_status": "fulfilled" if order.fulfilled else None,
        "landing_site": purchase.landing,
        "name": f"#{purchase.number}",
        "note": None,
        "note_attributes": client_notes(purchase),
        "number": purchase.number - 1000,
        "order_number": purchase.number,
        "payment_gateway_names": ["shopify_payments"],
        "presentment_currency": purchase.presentment.currency,
        "processed_at": created_at if purchase.processed_at is None else local(purchase.processed_at),
        "referring_site": purchase.referrer,
        "source_name": purchase.source_name,
        "subtotal_price": decimal(purchase.subtotal, currency),
        "tags": purchase.tags,
        "taxes_included": shop.market.tax_included,
        "test": purchase.test,
        "token": purchase.order_token,
        "total_discounts": decimal(purchase.discount, currency),
        "total_line_items_price": decimal(sum(line.full_price for line in purchase.lines), currency),
        "total_price": decimal(purchase.total(), currency),
        "total_price_set": money_set(purchase, purchase.total(), purchase.shown_total()),
        "total_tax": decimal(purchase.tax, currency),
        "updated_at": local(order.at),
        "customer": None if purchase.walk_in else _customer(purchase, created_at),
        "line_items": [order_line(line, purchase) for line in purchase.lines],
        "refunds": [refund_fields(purchase, refund) for refund in order.refunds],
        "shipping_address": postal_address(purchase),
        "shipping_lines": [{"title": "Standard", "price": decimal(purchase.shipping, currency)}],
    }


def _todays(order: Order) -> dict[str, Any]:
    """Return the fields that current versions add or replace."""
    purchase = order.purchase
    shop, currency = purchase.shop, purchase.shop.currency
    subtotal, tax = _current_subtotal(purchase), _current_tax(purchase)
    return {
        "browser_ip": None,
        "buyer_accepts_marketing": False,
        "client_details": None if purchase.landing is None else _client_details(purchase),
        "company": None,
        "confirmation_number": f"{purchase.order_id:X}"[-9:],
        "current_shipping_price_set": money_set(purchase, purchase.shipping),
        "current_subtotal_price": decimal(subtotal, currency),
        "current_subtotal_price_set": money_set(purchase, subtotal),
        "current_total_additional_fees_set": None,
        "current_total_discounts": decimal(purchase.discount, currency),
        "current_total_discounts_set": money_set(purchase, purchase.discount, purchase.shown_discount()),
        "current_total_duties_set": None,
        "current_total_price_set": money_set(purchase, order.left),
        "current_total_tax": decimal(tax, currency),
        "current_total_tax_set": money_set(purchase, tax),
        "customer_locale": purchase.presentment.market.language,
        "device_id": None,
        "discount_applications": _discount_applications(purchase),
        "duties_included": False,
        "estimated_taxes": False,
        "fulfillments": [],
        "landing_site_ref": None,
        "location_id": None,
        "merchant_of_record_app_id": None,
        "order_status_url": f"https://{shop.host}/{shop.id}/orders/{purchase.order_token}/authenticate",
        "original_total_additional_fees_set": None,
        "original_total_duties_set": None,
        "payment_terms": None,
        "phone": None if purchase.walk_in else purchase.customer.phone,
        "po_number": None,
        "reference": None,
        "returns": [],
        "shipping_lines": [_shipping_line(purchase)] if purchase.shipping else [],
        "source_identifier": None,
        "source_url": None,
        "subtotal_price_set": money_set(purchase, purchase.subtotal, purchase.shown_subtotal()),
        "tax_exempt": False,
        "tax_lines": [_tax_line(purchase)] if purchase.tax else [],
        "total_discounts_set": money_set(purchase, purchase.discount, purchase.shown_discount()),
        "total_outstanding": decimal(order.left if order.status in _UNPAID else 0, currency),
        "total_shipping_price_set": money_set(purchase, purchase.shipping),
        "total_tax_set": money_set(purchase, purchase.tax),
        "total_tip_received": "0.00",
        "total_weight": 0,
        "user_id": None,
        "billing_address": postal_address(purchase),
    }


_UNPAID = {"pending", "authorized"}


def _current_subtotal(purchase: Purchase) -> int:
    return sum(line.share(line.left) for line in purchase.lines)


def _current_tax(purchase: Purchase) -> int:
    return purchase.tax * _current_subtotal(purchase) // purchase.subtotal if purchase.subtotal else 0


def _client_details(purchase: Purchase) -> dict[str, Any]:
    language = purchase.presentment.market.language
    names = ("browser_height", "browser_ip", "browser_width", "session_hash", "user_agent")
    return {"accept_language": language, **dict.fromkeys(names)}


def _customer(purchase: Purchase, created_at: str) -> dict[str, Any]:
    """Return the order's customer; since version 2025-01 it lacks the number of their orders."""
    customer = purchase.customer
    fields = {
        "id": customer.id,
        "email": customer.email,
        "created_at": created_at,
        "first_name": customer.first_name,
        "last_name": customer.last_name,
        "state": "disabled",
        "verified_email": True,
        "phone": customer.phone,
        "currency": purchase.shop.currency,
        "admin_graphql_api_id": f"gid://shopify/Customer/{customer.id}",
    }
    return fields | {"orders_count": purchase.nth} if purchase.shop.counts_orders else fields


def _discount_applications(purchase: Purchase) -> list[dict[str, Any]]:
    return [
        {
            "target_type": "line_item",
            "type": "discount_code",
            "value": code["amount"],
            "value_type": "fixed_amount",
            "allocation_method": "across",
            "target_selection": "all",
            "code": code["code"],
        }
        for code in discount_codes(purchase)
    ]


def _shipping_line(purchase: Purchase) -> dict[str, Any]:
    price, prices = decimal(purchase.shipping, purchase.shop.currency), money_set(purchase, purchase.shipping)
    return {
        "id": purchase.order_id + 3,
        "carrier_identifier": None,
        "code": "Standard",
        "discounted_price": price,
        "discounted_price_set": prices,
        "is_removed": False,
        "phone": None,
        "price": price,
        "price_set": prices,
        "source": "shopify",
        "title": "Standard",
        "tax_lines": [],
        "discount_allocations": [],
    }


def _tax_line(purchase: Purchase) -> dict[str, Any]:
    price = decimal(purchase.tax, purchase.shop.currency)
    return {"price": price, "price_set": money_set(purchase, purchase.tax), "rate": 0.08, "title": "Tax"}
