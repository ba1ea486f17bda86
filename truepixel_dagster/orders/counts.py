"""What an order counts for its client and for its products.

A customer's figures are sums over the customer's orders. A product's figures add up differences: each record that
changes an order's count adds the difference between the count before and the count after.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from decimal import Decimal
from itertools import islice
from typing import Any

import msgspec

from truepixel_dagster.events.money import Money, bounded_sum, minor_units
from truepixel_dagster.orders.order import Order

ORDERS, UNITS, RETURNED_UNITS = "orders", "units", "returned_units"
REVENUE, RETURNED = "revenue:", "returned:"

# Counts by product, day and field.
Counted = dict[tuple[str, str, str], int]
# Maps a time in milliseconds and its UTC offset in minutes, as written, to the shop's day.
DayOf = Callable[[int, int], str]


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """Hold what one order counts for a client (`user` is `shop:client`). Amounts are minor units of `currency`."""

    user: str
    currency: str | None = None
    revenue: int = 0
    refunded: int = 0


def entry_of(order: Order, client: str | None) -> Entry | None:
    """Return what an order counts for its client; None for an order without a client and for a test order."""
    if client is None or order.test:
        return None
    figures = order.figures
    return Entry(f"{order.shop_id}:{client}", figures.currency, figures.value, figures.refunded)


def counted(order: Order, day_of: DayOf, products: int) -> Counted:
    """Return what an order counts for its products.

    Arguments:
        order: The order.
        day_of: Maps a time to the shop's day.
        products: The maximum number of products that count per order and per refund, the first ones.
    """
    found: Counted = {}
    if order.test:
        return found
    day = day_of(order.at, order.utc_offset)
    kept = _first((sold.product_id for sold in order.sold if sold.units), products)
    for product in kept:
        _add(found, (product, day, ORDERS), 1)
    for sold in order.sold:
        if sold.product_id in kept and sold.units:
            _add_pieces(found, sold.product_id, day, (UNITS, REVENUE), sold.units, sold.revenue)
    for refund in order.refunds:
        day = day_of(refund.at, refund.utc_offset)
        returned = _first((line.product_id for line in refund.lines), products)
        for line in refund.lines:
            if line.product_id in returned:
                subtotal = line.subtotal or _in_currency(line.bare, order.figures.currency)
                _add_pieces(found, line.product_id, day, (RETURNED_UNITS, RETURNED), line.quantity, subtotal)
    return {key: amount for key, amount in found.items() if amount}


def _in_currency(amount: str | None, currency: str | None) -> Money | None:
    """Return an amount that was written without its currency; None if it exceeds what minor units can hold."""
    if amount is None or currency is None:
        return None
    with suppress(ValueError):
        return Money(minor_units(Decimal(amount), currency), currency)
    return None


def _first(ids: Iterable[str], most: int) -> dict[str, None]:
    """Return the first ids, each once."""
    return dict.fromkeys(islice(dict.fromkeys(ids), most))


def _add_pieces(
    found: Counted, product: str, day: str, fields: tuple[str, str], units: int, money: Money | None
) -> None:
    _add(found, (product, day, fields[0]), units)
    if money:
        _add(found, (product, day, fields[1] + money.currency), money.amount)


def is_sold(field: str) -> bool:
    """Return whether a field counts sales rather than returns."""
    return field in (ORDERS, UNITS) or field.startswith(REVENUE)


def difference(after: Counted, before: Counted) -> Counted:
    """Return what must be added to the previous counts."""
    keys = dict.fromkeys((*before, *after))
    found = {key: after.get(key, 0) - before.get(key, 0) for key in keys}
    return {key: amount for key, amount in found.items() if amount}


def total(parts: Iterable[Counted]) -> Counted:
    """Return the sum of several counts."""
    found: Counted = {}
    for part in parts:
        for key, amount in part.items():
            _add(found, key, amount)
    return found


def as_rows(counted_: Counted) -> list[list[Any]]:
    """Return counts as rows for a document: product names must not become field names."""
    return [[*key, amount] for key, amount in sorted(counted_.items())]


def from_rows(rows: Iterable[tuple[str, str, str, int]]) -> Counted:
    """Return counts from the rows that `as_rows` wrote."""
    return {(product, day, field): amount for product, day, field, amount in rows}


def days_of(counted_: Mapping[tuple[str, str, str], int]) -> set[str]:
    """Return the days that have counts."""
    return {day for _, day, _ in counted_}


def _add(found: Counted, key: tuple[str, str, str], amount: int) -> None:
    found[key] = bounded_sum(found.get(key, 0), amount)
