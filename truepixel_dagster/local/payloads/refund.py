"""The payload of `refunds/create`, also part of an order's `refunds` (shopify.dev: Refund, REST Admin API).

Shopify also creates a refund without an amount when an edit or a cancellation removes lines. A transaction is in the
currency of the buyer's payment unless the request sets `in_shop_currency`.
"""

from __future__ import annotations

from typing import Any

import msgspec

from truepixel_dagster.local.payloads.model import Purchase, Refund, ReturnedLine
from truepixel_dagster.local.payloads.shared import money_set, order_line, times_of
from truepixel_dagster.local.payloads.text import decimal, number

_encode = msgspec.json.Encoder().encode


def refund_webhook(purchase: Purchase, refund: Refund) -> bytes:
    """Return the payload of `refunds/create`. The purchase has its lines after the refund."""
    return _encode(refund_fields(purchase, refund))


def refund_fields(purchase: Purchase, refund: Refund) -> dict[str, Any]:
    """Return a refund's fields, not encoded."""
    at = times_of(purchase.shop)(refund.at)
    fields = {
        "id": refund.id,
        "order_id": purchase.order_id,
        "created_at": at,
        "note": "it broke during shipping",
        "user_id": 548380009,
        "processed_at": at,
        "restock": True,
        "admin_graphql_api_id": f"gid://shopify/Refund/{refund.id}",
        "refund_line_items": [_line(purchase, returned) for returned in refund.lines],
        "transactions": _transactions(purchase, refund, at),
        "order_adjustments": [],
    }
    return fields | _todays(purchase, refund) if purchase.shop.full_payloads else fields


def _todays(purchase: Purchase, refund: Refund) -> dict[str, Any]:
    zero = money_set(purchase, 0)
    return {
        "additional_fees": [],
        "duties": [],
        "note": None,
        "order_adjustments": _adjustments(purchase, refund),
        "refund_shipping_lines": [],
        "restock": bool(refund.lines),
        "return": None,
        "total_additional_fees_set": zero,
        "total_duties_set": zero,
    }


def _line(purchase: Purchase, returned: ReturnedLine) -> dict[str, Any]:
    line, currency = returned.line, purchase.shop.currency
    subtotal = line.share(returned.quantity)
    fields = {
        "id": line.id + 1,
        "quantity": returned.quantity,
        "line_item_id": line.id,
        "location_id": None,
        "restock_type": "return",
        "subtotal": number(subtotal, currency),
        "total_tax": 0,
        "line_item": order_line(line, purchase),
    }
    if purchase.shop.full_payloads:
        fields |= {"subtotal_set": money_set(purchase, subtotal), "total_tax_set": money_set(purchase, 0)}
    return fields


def _transactions(purchase: Purchase, refund: Refund, at: str) -> list[dict[str, Any]]:
    found = []
    if refund.failed:
        found.append(_transaction(purchase, refund, at, status="failure", number=2))
    if refund.amount or refund.void:
        found.append(_transaction(purchase, refund, at))
    return found


def _transaction(
    purchase: Purchase, refund: Refund, at: str, *, status: str = "success", number: int = 1
) -> dict[str, Any]:
    units = refund.amount or refund.void
    currency = purchase.shop.currency
    if refund.presented:
        currency = purchase.presentment.currency
        units = purchase.shown_total() if units == purchase.total() else purchase.presentment.of(units)
    fields: dict[str, Any] = {
        "id": refund.id + number,
        "order_id": purchase.order_id,
        "kind": "refund" if refund.amount else "void",
        "gateway": "shopify_payments",
        "status": status,
        "amount": decimal(units, currency),
        "currency": currency,
        "created_at": at,
    }
    if purchase.shop.full_payloads:
        fields |= {
            "admin_graphql_api_id": f"gid://shopify/OrderTransaction/{refund.id + number}",
            "error_code": None if status == "success" else "processing_error",
            "message": None,
            "parent_id": purchase.order_id + 7,
            "payment_id": f"#{purchase.number}.1",
            "processed_at": at,
            "source_name": "1830279",
            "test": purchase.test,
            "user_id": None,
        }
    return fields


def _adjustments(purchase: Purchase, refund: Refund) -> list[dict[str, Any]]:
    """Return the difference between the refunded amount and the price of the returned lines."""
    beyond = refund.amount - sum(returned.line.share(returned.quantity) for returned in refund.lines)
    if not refund.amount or not beyond:
        return []
    currency = purchase.shop.currency
    adjustment = {
        "id": refund.id + 9,
        "order_id": purchase.order_id,
        "refund_id": refund.id,
        "amount": decimal(-beyond, currency),
        "amount_set": money_set(purchase, -beyond),
        "kind": "refund_discrepancy",
        "reason": "Refund discrepancy",
        "tax_amount": decimal(0, currency),
        "tax_amount_set": money_set(purchase, 0),
    }
    return [adjustment]
