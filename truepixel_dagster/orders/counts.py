"""What an order counts, for its client and for its products.

Customers' figures are summed over the orders that are theirs. A product's are added up from differences: each record
that changes what an order counts adds the difference between what it counted before and what it counts then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from decimal import Decimal
from typing import Any

import msgspec

from truepixel_dagster.events.money import Money, bounded_sum, minor_units
from truepixel_dagster.orders.order import Order

ORDERS, UNITS, RETURNED_UNITS = "orders", "units", "returned_units"
REVENUE, RETURNED = "revenue:", "returned:"

# Product, day and field with what is counted.
Counted = dict[tuple[str, str, str], int]
# From a time in milliseconds and the minutes of offset that it was written with to the shop's day.
DayOf = Callable[[int, int], str]


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one order counts for a client (`user` is `shop:client`). Amounts are minor units of `currency`."""

    user: str
    currency: str | None = None
    revenue: int = 0
    refunded: int = 0


def entry_of(order: Order, client: str | None) -> Entry | None:
    """Return what an order counts for its client; None for nobody's order and for a test."""
    if client is None or order.test:
        return None
    figures = order.figures
    return Entry(f"{order.shop_id}:{client}", figures.currency, figures.value, figures.refunded)


def counted(order: Order, day_of: DayOf, products: int) -> Counted:
    """Return what an order counts for its products.

    Arguments:
        order: The order.
        day_of: The shop's day of a time.
        products: How many products of one order count, the first ones.
    """
    found: Counted = {}
    if order.test:
        return found
    day = day_of(order.at, order.utc_offset)
    kept = _first(order, products)
    for product in kept:
        _add(found, (product, day, ORDERS), 1)
    for sold in order.sold:
        if sold.product_id in kept and sold.units:
            _add_pieces(found, sold.product_id, day, (UNITS, REVENUE), sold.units, sold.revenue)
    for refund in order.refunds:
        day = day_of(refund.at, refund.utc_offset)
        for line in refund.lines:
            if line.product_id in kept:
                subtotal = line.subtotal or _in_currency(line.bare, order.figures.currency)
                _add_pieces(found, line.product_id, day, (RETURNED_UNITS, RETURNED), line.quantity, subtotal)
    return {key: amount for key, amount in found.items() if amount}


def _in_currency(amount: str | None, currency: str | None) -> Money | None:
    """An amount that was written without its currency; None where it is more than minor units can hold."""
    if amount is None or currency is None:
        return None
    with suppress(ValueError):
        return Money(minor_units(Decimal(amount), currency), currency)
    return None


def _first(order: Order, products: int) -> dict[str, None]:
    """The products of an order that count: those of which something was sold, the first ones."""
    products_sold = dict.fromkeys(sold.product_id for sold in order.sold if sold.units)
    return dict.fromkeys(list(products_sold)[:products])


def _add_pieces(
    found: Counted, product: str, day: str, fields: tuple[str, str], units: int, money: Money | None
) -> None:
    _add(found, (product, day, fields[0]), units)
    if money:
        _add(found, (product, day, fields[1] + money.currency), money.amount)


def is_sold(field: str) -> bool:
    """Return whether a field counts what was sold, not what came back."""
    return field in (ORDERS, UNITS) or field.startswith(REVENUE)


def difference(after: Counted, before: Counted) -> Counted:
    """Return what must be added to what was counted before."""
    keys = dict.fromkeys((*before, *after))
    found = {key: after.get(key, 0) - before.get(key, 0) for key in keys}
    return {key: amount for key, amount in found.items() if amount}


def total(parts: Iterable[Counted]) -> Counted:
    """Return the sum of several."""
    found: Counted = {}
    for part in parts:
        for key, amount in part.items():
            _add(found, key, amount)
    return found


def as_rows(counted_: Counted) -> list[list[Any]]:
    """Return counts as a document holds them: names of products are no names of fields."""
    return [[*key, amount] for key, amount in sorted(counted_.items())]


def from_rows(rows: Iterable[tuple[str, str, str, int]]) -> Counted:
    """Return counts as `as_rows` has written them."""
    return {(product, day, field): amount for product, day, field, amount in rows}


def days_of(counted_: Mapping[tuple[str, str, str], int]) -> set[str]:
    """Return the days on which something is counted."""
    return {day for _, day, _ in counted_}


def _add(found: Counted, key: tuple[str, str, str], amount: int) -> None:
    found[key] = bounded_sum(found.get(key, 0), amount)
