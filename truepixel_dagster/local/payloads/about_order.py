"""Payloads of webhooks that concern an order or a shop but do not contain the order.

Topics `orders/delete`, `orders/edited`, `fulfillments/create`, `order_transactions/create` and `shop/update`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from truepixel_dagster.local.payloads.model import Order, Purchase, Shop
from truepixel_dagster.local.payloads.shared import times_of
from truepixel_dagster.local.payloads.text import decimal

_encode = msgspec.json.Encoder().encode


def deletion_webhook(purchase: Purchase) -> bytes:
    """Return the payload of `orders/delete`: the order's id and nothing else."""
    return _encode({"id": purchase.order_id})


def edit_webhook(order: Order, *, additions: Mapping[int, int], removals: Mapping[int, int]) -> bytes:
    """Return the payload of `orders/edited`: the quantities added and removed, by line id."""
    at = times_of(order.purchase.shop)(order.at)
    edit: dict[str, Any] = {
        "id": order.purchase.order_id + 11,
        "app_id": None,
        "created_at": at,
        "committed_at": at,
        "notify_customer": False,
        "order_id": order.purchase.order_id,
        "reason": "",
        "staff_note": "",
        "user_id": 548380009,
        "line_items": {
            "additions": [{"id": id_, "delta": count} for id_, count in additions.items()],
            "removals": [{"id": id_, "delta": count} for id_, count in removals.items()],
        },
        "discounts": {"line_item": {"additions": [], "removals": []}},
        "shipping_lines": {"additions": [], "removals": []},
    }
    return _encode({"order_edit": edit})


def fulfillment_webhook(order: Order) -> bytes:
    """Return the payload of `fulfillments/create`."""
    purchase = order.purchase
    at = times_of(purchase.shop)(order.at)
    return _encode(
        {
            "id": purchase.order_id + 5,
            "order_id": purchase.order_id,
            "status": "success",
            "created_at": at,
            "updated_at": at,
            "service": "manual",
            "tracking_company": "UPS",
            "shipment_status": None,
            "location_id": None,
            "email": None if purchase.walk_in else purchase.customer.email,
            "name": f"#{purchase.number}.1",
            "line_items": [
                {"id": line.id, "product_id": line.product.id, "quantity": line.left} for line in purchase.lines
            ],
        }
    )


def transaction_webhook(order: Order) -> bytes:
    """Return the payload of `order_transactions/create`: the buyer's payment in the buyer's currency."""
    purchase = order.purchase
    at, currency = times_of(purchase.shop)(order.at), purchase.presentment.currency
    return _encode(
        {
            "id": purchase.order_id + 7,
            "order_id": purchase.order_id,
            "kind": "sale",
            "gateway": "shopify_payments",
            "status": "success",
            "message": None,
            "created_at": at,
            "processed_at": at,
            "test": purchase.test,
            "authorization": None,
            "location_id": None,
            "user_id": None,
            "parent_id": None,
            "device_id": None,
            "error_code": None,
            "source_name": purchase.source_name,
            "amount": decimal(purchase.shown_total(), currency),
            "currency": currency,
            "payment_id": f"#{purchase.number}.1",
            "admin_graphql_api_id": f"gid://shopify/OrderTransaction/{purchase.order_id + 7}",
        }
    )


def shop_webhook(shop: Shop, zone: str, at: int) -> bytes:
    """Return the payload of `shop/update`: the shop's time zone, currency and domains."""
    market = shop.market
    return _encode(
        {
            "id": int(shop.id),
            "name": shop.domain.partition(".")[0],
            "email": f"owner@{shop.host}",
            "domain": shop.host,
            "myshopify_domain": shop.domain,
            "country_code": market.country_code,
            "country_name": market.country,
            "currency": market.currency,
            "enabled_presentment_currencies": [market.currency, *(other.currency for other in shop.abroad)],
            "iana_timezone": zone,
            "taxes_included": market.tax_included,
            "primary_locale": market.language.partition("-")[0],
            "plan_name": "basic",
            "created_at": "2021-03-04T10:00:00+00:00",
            "updated_at": times_of(shop)(at),
        }
    )
