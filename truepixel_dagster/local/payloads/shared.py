"""Parts that the payloads of several webhooks have in common."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from truepixel_dagster.local.payloads.model import Line, Purchase, Shop, shown_discount
from truepixel_dagster.local.payloads.text import decimal, iso_local


def times_of(shop: Shop) -> Callable[[int], str]:
    """Return the function that formats times with the shop's offset."""
    return partial(iso_local, offset=shop.market.offset)


def money_set(purchase: Purchase, units: int, shown: int | None = None) -> dict[str, Any]:
    """Return an amount in the shop's currency and in the buyer's: `shown`, or converted without it."""
    seen_in = purchase.presentment
    shop_money = {"amount": decimal(units, purchase.shop.currency), "currency_code": purchase.shop.currency}
    if seen_in.rate == 1:
        return {"shop_money": shop_money, "presentment_money": shop_money}
    seen = decimal(seen_in.of(units) if shown is None else shown, seen_in.currency)
    return {"shop_money": shop_money, "presentment_money": {"amount": seen, "currency_code": seen_in.currency}}


def client_notes(purchase: Purchase) -> list[dict[str, str]]:
    """Return the cart attribute with the client that the theme passes on, if any."""
    return [{"name": purchase.shop.client_note, "value": purchase.client_id}] if purchase.client_id else []


def discount_codes(purchase: Purchase) -> list[dict[str, str]]:
    """Return the code that the buyer used, if any."""
    if not purchase.discount_code or not purchase.discount:
        return []
    amount = decimal(purchase.discount, purchase.shop.currency)
    return [{"code": purchase.discount_code, "amount": amount, "type": "percentage"}]


def postal_address(purchase: Purchase) -> dict[str, Any]:
    """Return the buyer's address."""
    customer, market = purchase.customer, purchase.presentment.market
    return {
        "first_name": customer.first_name,
        "last_name": customer.last_name,
        "address1": market.street,
        "address2": None,
        "phone": customer.phone,
        "city": market.city,
        "zip": market.postal_code,
        "province": market.province,
        "country": market.country,
        "country_code": market.country_code,
        "province_code": market.province_code,
        "name": f"{customer.first_name} {customer.last_name}",
    }


def _discount_set(purchase: Purchase, line: Line) -> dict[str, Any]:
    return money_set(purchase, line.discount, shown_discount(line, purchase.presentment))


def order_line(line: Line, purchase: Purchase) -> dict[str, Any]:
    """Return a line of an order."""
    product, currency = line.product, purchase.shop.currency
    off, off_set = decimal(line.discount, currency), _discount_set(purchase, line)
    allocation = {"amount": off, "amount_set": off_set, "discount_application_index": 0}
    fields = {
        "id": line.id,
        "admin_graphql_api_id": f"gid://shopify/LineItem/{line.id}",
        "fulfillable_quantity": line.quantity,
        "fulfillment_status": None,
        "gift_card": product.gift_card,
        "grams": 0,
        "name": product.title,
        "price": decimal(product.price, currency),
        "price_set": money_set(purchase, product.price),
        "product_exists": True,
        "product_id": product.id,
        "properties": [],
        "quantity": line.quantity,
        "requires_shipping": not product.gift_card,
        "sku": product.sku,
        "taxable": True,
        "title": product.title,
        # Zero for a discount code: Shopify counts only a line's own, manual discounts in here.
        "total_discount": decimal(0, currency),
        "variant_id": product.variant_id,
        "variant_title": product.variant_title,
        "vendor": product.vendor,
        "discount_allocations": [allocation] if line.discount else [],
    }
    return fields | _todays(line, purchase) if purchase.shop.full_payloads else fields


def _todays(line: Line, purchase: Purchase) -> dict[str, Any]:
    return {
        "current_quantity": line.left,
        "duties": [],
        "fulfillable_quantity": line.left,
        "fulfillment_service": "gift_card" if line.product.gift_card else "manual",
        "tax_lines": [],
        "total_discount_set": money_set(purchase, 0),
        "variant_inventory_management": "shopify",
    }
