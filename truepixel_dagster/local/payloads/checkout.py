"""Payloads of Shopify's `checkouts/…` and `carts/…` webhooks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from truepixel_dagster.local.payloads.model import Line, Purchase
from truepixel_dagster.local.payloads.shared import client_notes, discount_codes, postal_address, times_of
from truepixel_dagster.local.payloads.text import decimal, iso_utc

_encode = msgspec.json.Encoder().encode


def checkout_webhook(purchase: Purchase, at: int, *, contact_known: bool) -> bytes:
    """Return the payload of `checkouts/create` and `checkouts/update`."""
    shop, currency = purchase.shop, purchase.shop.currency
    local = times_of(shop)
    recover = f"https://{shop.host}/{shop.id}/checkouts/{purchase.checkout_token}/recover"
    return _encode(
        {
            "id": purchase.checkout_id,
            "token": purchase.checkout_token,
            "cart_token": purchase.cart_token,
            "email": purchase.customer.email if contact_known else None,
            "gateway": None,
            "buyer_accepts_marketing": False,
            "created_at": local(purchase.started_at),
            "updated_at": local(at),
            "landing_site": purchase.landing,
            "note": None,
            "note_attributes": client_notes(purchase),
            "referring_site": purchase.referrer,
            "shipping_lines": [],
            "taxes_included": shop.market.tax_included,
            "total_weight": 0,
            "currency": currency,
            "completed_at": None,
            "customer_locale": purchase.presentment.market.language,
            "line_items": [_checkout_line(line, currency) for line in purchase.lines],
            "name": f"#{purchase.checkout_id}",
            "abandoned_checkout_url": recover,
            "discount_codes": discount_codes(purchase),
            "tax_lines": [],
            "presentment_currency": purchase.presentment.currency,
            "source_name": "web",
            "total_line_items_price": decimal(sum(line.full_price for line in purchase.lines), currency),
            "total_tax": decimal(purchase.tax, currency),
            "total_discounts": decimal(purchase.discount, currency),
            "subtotal_price": decimal(purchase.subtotal, currency),
            "total_price": decimal(purchase.total(), currency),
            "shipping_address": postal_address(purchase) if contact_known else None,
        }
    )


def cart_webhook(cart_token: str, lines: Sequence[Line], created_at: int, at: int, currency: str) -> bytes:
    """Return the payload of `carts/create` and `carts/update`, whose id is the cart's token."""
    return _encode(
        {
            "id": cart_token,
            "token": cart_token,
            "line_items": [_cart_line(line, currency) for line in lines],
            "note": None,
            "updated_at": iso_utc(at),
            "created_at": iso_utc(created_at),
        }
    )


def _checkout_line(line: Line, currency: str) -> dict[str, Any]:
    product = line.product
    allocations = [{"id": None, "amount": decimal(line.discount, currency), "description": "code"}]
    return {
        "key": f"{line.id:x}",
        "discount_allocations": allocations if line.discount else [],
        "gift_card": product.gift_card,
        "grams": 0,
        "line_price": decimal(line.full_price, currency),
        "price": decimal(product.price, currency),
        "product_id": product.id,
        "quantity": line.quantity,
        "requires_shipping": not product.gift_card,
        "sku": product.sku,
        "taxable": True,
        "title": product.title,
        "variant_id": product.variant_id,
        "variant_title": product.variant_title,
        "vendor": product.vendor,
    }


def _cart_line(line: Line, currency: str) -> dict[str, Any]:
    product = line.product
    price, full = decimal(product.price, currency), decimal(line.full_price, currency)
    return {
        "id": product.variant_id,
        "properties": None,
        "quantity": line.quantity,
        "variant_id": product.variant_id,
        "key": f"{product.variant_id}:{line.id:x}",
        "discounted_price": price,
        "discounts": [],
        "gift_card": product.gift_card,
        "grams": 0,
        "line_price": full,
        "original_line_price": full,
        "original_price": price,
        "price": price,
        "product_id": product.id,
        "sku": product.sku,
        "taxable": True,
        "title": product.title,
        "total_discount": decimal(0, currency),
        "vendor": product.vendor,
    }
