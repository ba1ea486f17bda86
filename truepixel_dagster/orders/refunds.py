"""Refunds of an order: their amounts in the order's currency, and whether a payload contains them."""

from __future__ import annotations

import msgspec

from truepixel_dagster.events.money import Money
from truepixel_dagster.events.order import OrderPayload, Refund


def amount_of(refund: Refund) -> int:
    """Return the amount of a refund in minor units."""
    return sum(money.amount for money in refund.amounts)


def is_known_to(payload: OrderPayload | None, refund: Refund) -> bool:
    """Return whether a payload was written after a refund: Shopify may write both in one second."""
    if payload is None:
        return False
    return refund.at <= payload.updated_at or any(each.refund_id == refund.refund_id for each in payload.refunds)


def in_currency(refund: Refund, total: Money | None, payload: OrderPayload | None) -> Refund:
    """Return a refund in the currency of the order's total."""
    if total is None:
        return refund
    amounts = (_converted(money, total, payload) for money in refund.amounts)
    return msgspec.structs.replace(refund, amounts=tuple(money for money in amounts if money))


def _converted(money: Money, total: Money, payload: OrderPayload | None) -> Money | None:
    """Convert an amount in the buyer's currency by the ratio of the totals; None if the ratio is unknown."""
    if money.currency == total.currency:
        return money
    seen = payload.presentment if payload else None
    if seen is None or seen.currency != money.currency or not seen.amount:
        return None
    return Money((2 * money.amount * total.amount + seen.amount) // (2 * seen.amount), total.currency)
