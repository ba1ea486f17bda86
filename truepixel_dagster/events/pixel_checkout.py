"""Read the checkout in a pixel event: its order, lines and total, and its form without personal data."""

from __future__ import annotations

from truepixel_dagster.events.anonymous_order import alias_of
from truepixel_dagster.events.event import LineItem
from truepixel_dagster.events.field_error import read_each
from truepixel_dagster.events.money import Money
from truepixel_dagster.events.order import Completion, OrderNews, SoldLine
from truepixel_dagster.events.order_id import order_identifier
from truepixel_dagster.events.pixel_payload import (
    CHECKOUT_COMPLETED,
    Amount,
    Buyer,
    Checkout,
    CheckoutLine,
    PlacedOrder,
    amount_of,
    product_of,
)
from truepixel_dagster.events.shape import line_item, money, quantity
from truepixel_dagster.events.visits import Alias
from truepixel_dagster.events.written_times import Arrival

LINES = "data.checkout.lineItems"


def total_of(checkout: Checkout) -> Money | None:
    """Return a checkout's total, in the checkout's currency if it has none of its own."""
    total = checkout.totalPrice or Amount()
    if total.currencyCode:
        return amount_of(total, "data.checkout.totalPrice")
    return money(total.amount, checkout.currencyCode, "data.checkout.totalPrice.amount", "data.checkout.currencyCode")


def _currency(line: CheckoutLine, checkout: Checkout) -> str | None:
    price = line.variant.price if line.variant else None
    total = checkout.totalPrice.currencyCode if checkout.totalPrice else None
    return total or checkout.currencyCode or (price.currencyCode if price else None)


def item_of(line: CheckoutLine, checkout: Checkout) -> LineItem | None:
    """Return the item that a line of a checkout sells."""
    price = line.variant.price if line.variant else None
    currency = _currency(line, checkout)
    given = line.discountAllocations or ()
    discounts = [entry.amount.amount if entry and entry.amount else None for entry in given]
    return line_item(product_of(line.variant), line.quantity, price.amount if price else None, discounts, currency)


def order_news(name: str, checkout: Checkout, placed: PlacedOrder, _arrival: Arrival) -> OrderNews | None:
    """Return what a checkout's event says of its order."""
    token = order_identifier(checkout.token, "data.checkout.token")
    order_id, cart = order_identifier(placed.id), _cart_token(checkout)
    if not (token or order_id or cart):
        return None
    completion = _completion(checkout, placed) if name == CHECKOUT_COMPLETED else None
    return OrderNews(order_id, token, cart, completion=completion)


def _cart_token(checkout: Checkout) -> str | None:
    """Return the cart's token, which some shops' scripts add; None if it is not a token."""
    for written in (checkout.cartToken, checkout.cart_token):
        if written is not None and (isinstance(written, bool) or not isinstance(written, (int, str))):
            return None
        try:
            token = order_identifier(written)
        except ValueError:
            return None
        if token:
            return token
    return None


def _first_order(placed: PlacedOrder) -> bool | None:
    first = placed.customer.isFirstOrder if placed.customer else None
    return first if isinstance(first, bool) else None


def _completion(checkout: Checkout, placed: PlacedOrder) -> Completion:
    return Completion(
        value=total_of(checkout),
        lines=read_each(LINES, checkout.lineItems or (), lambda line: _sold(line, checkout)),
        first_order=_first_order(placed),
    )


def _sold(line: CheckoutLine, checkout: Checkout) -> SoldLine | None:
    product, count = product_of(line.variant), quantity(line.quantity)
    price = line.variant.price if line.variant else None
    currency = _currency(line, checkout)
    discounts = [entry.amount.amount for entry in line.discountAllocations or () if entry and entry.amount]
    off = sum(found.amount for each in discounts if (found := money(each, currency)))
    if product is None:
        return None
    unit = money(price.amount, currency) if price else None
    return SoldLine(product, count, unit, off)


def anonymise(checkout: Checkout, alias: Alias) -> None:
    """Remove personal data from a checkout, and replace its ids by their aliases."""
    placed = checkout.order or PlacedOrder()
    cart, first = _cart_token(checkout), _first_order(placed)
    order_id = alias_of("order", order_identifier(placed.id), alias)
    checkout.token = alias_of("token", order_identifier(checkout.token), alias)
    checkout.cartToken, checkout.cart_token = alias_of("token", cart, alias), None
    checkout.order = PlacedOrder(order_id, None if first is None else Buyer(isFirstOrder=first))
    checkout.email = None
