"""Count products by the shop's day: views, carts and checkouts from events, sales and returns from orders."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from truepixel_dagster.audit.oracle.attributions import Resolved
from truepixel_dagster.audit.oracle.events import Event, Line, Refund
from truepixel_dagster.audit.oracle.figures import Return
from truepixel_dagster.audit.oracle.ids import Order, checkout_of, payload_of
from truepixel_dagster.audit.oracle.records import Doc, Shop
from truepixel_dagster.audit.oracle.times import day
from truepixel_dagster.audit.oracle.values import add, distinct, minor_units, share

COUNTERS = {"product_viewed": "views", "product_added_to_cart": "carts", "checkout_started": "checkouts"}


class Days:
    """The documents of the days, created when something is first counted."""

    def __init__(self, shops: Mapping[str, Shop]) -> None:
        self.docs: dict[str, Doc] = {}
        self._shops = shops

    def of(self, shop: str, product: str, at: int, offset: int = 0) -> Doc:
        """Return the product's document of the shop's day."""
        on = day(at, self._shops.get(shop), offset)
        counters = {"views": 0, "carts": 0, "checkouts": 0, "orders": 0, "units": 0, "revenue": {}}
        returns = {"returned_units": 0, "returned_revenue": {}}
        new = {"shop_id": shop, "product_id": product, "day": on, **counters, **returns}
        return self.docs.setdefault(f"{shop}:{product}:{on}", new)


def product_stats(
    events: Iterable[Event], orders: Iterable[Resolved], shops: Mapping[str, Shop], products_per_event: int
) -> dict[str, Doc]:
    """Return the document of each product's day."""
    days = Days(shops)
    for event in events:
        if not event.bot:
            _count_event(days, event, products_per_event)
    for resolved in orders:
        if resolved.counts:
            _count_order(days, resolved, products_per_event)
            for each in resolved.figures.returns:
                if each.of_money:
                    _count_return(days, resolved, each.refund, products_per_event)
    return days.docs


def _count_event(days: Days, event: Event, products_per_event: int) -> None:
    counter = COUNTERS.get(event.name)
    if counter is None or event.source != "pixel":
        return
    for product in event.content.product_ids[:products_per_event]:
        counted = days.of(event.shop, product, event.occurred_at)
        counted[counter] += event.content.quantity if counter == "carts" else 1


# --- Orders ---


def _count_order(days: Days, resolved: Resolved, products_per_event: int) -> None:
    order, figures = resolved.order, resolved.figures
    lines = _lines(order)
    products = distinct(line.product for line in lines)[:products_per_event]
    ordered = set()
    for line in lines:
        units = _units(line, figures.returns)
        if line.product not in products or line.product is None or units == 0:
            continue
        counted = days.of(order.shop, line.product, figures.at, figures.offset)
        counted["units"] += units
        if line.product not in ordered:
            ordered.add(line.product)
            counted["orders"] += 1
        if line.price is not None and line.currency is not None:
            revenue = line.price * units - (share(line.discount, units, line.quantity) if line.quantity else 0)
            add(counted["revenue"], {"amount": revenue, "currency": line.currency})


def _lines(order: Order) -> list[Line]:
    """Return the lines of the newest payload with lines, else of the pixel's first page."""
    for event in order.payloads:
        lines = payload_of(event).lines
        if lines is not None:
            return lines
    return next((lines for event in order.completed if (lines := checkout_of(event).lines)), [])


def _units(line: Line, returns: list[Return]) -> int:
    """Return the units sold: those left and those returned for money; units that an edit removed were not sold."""
    known = [each for each in returns if each.known]
    if line.left is not None:
        return min(line.quantity, line.left + _went_back(line, [each for each in known if each.of_money]))
    return max(0, line.quantity - _went_back(line, [each for each in known if not each.of_money]))


def _went_back(line: Line, returns: list[Return]) -> int:
    lines = [gone for each in returns for gone in each.refund.lines]
    return sum(gone.quantity for gone in lines if gone.id is not None and gone.id == line.id)


# --- Returns ---


def _count_return(days: Days, resolved: Resolved, refund: Refund, products_per_event: int) -> None:
    value = resolved.figures.value
    products = distinct(line.product for line in refund.lines)[:products_per_event]
    for line in refund.lines:
        if line.product not in products or line.product is None:
            continue
        counted = days.of(resolved.order.shop, line.product, refund.at, refund.offset)
        counted["returned_units"] += line.quantity
        code = line.currency or (value["currency"] if value else None)
        if line.subtotal is not None and code is not None:
            add(counted["returned_revenue"], {"amount": minor_units(line.subtotal, code), "currency": code})
