"""What an order's lines sold of their products, after edits and discounts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from truepixel_dagster.events.money import Money
from truepixel_dagster.events.order import Refund, SoldLine


class Sold(NamedTuple):
    """Hold what one line sold of a product, after edits and discounts; returns are not subtracted."""

    product_id: str
    units: int
    revenue: Money | None


def sold_of(line: SoldLine, refunds: Sequence[Refund]) -> Sold:
    """Return a line after edits. Items refunded with money were sold; items refunded without were removed.

    Arguments:
        line: The line as its payload has it.
        refunds: The refunds that the line's payload includes.
    """
    if line.current_quantity is None:
        units = max(0, line.quantity - _refunded_units(line, refunds, for_money=False))
    else:
        units = min(line.quantity, line.current_quantity + _refunded_units(line, refunds, for_money=True))
    if line.price is None:
        return Sold(line.product_id, units, None)
    off = (2 * line.discount * units + line.quantity) // (2 * line.quantity) if line.quantity else 0
    return Sold(line.product_id, units, Money(line.price.amount * units - off, line.price.currency))


def _refunded_units(line: SoldLine, refunds: Iterable[Refund], *, for_money: bool) -> int:
    if line.line_id is None:
        return 0
    wanted = (refund for refund in refunds if refund.is_money is for_money)
    return sum(each.quantity for refund in wanted for each in refund.lines if each.line_id == line.line_id)
