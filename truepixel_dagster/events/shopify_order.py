"""Read orders in Shopify's webhooks: https://shopify.dev/docs/api/admin-rest/latest/resources/order.

A field that affects neither money nor identity never refuses an event: with another type than Shopify's it counts as
missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal, InvalidOperation
from typing import NamedTuple

import msgspec

from truepixel_dagster.events.ad import Ad
from truepixel_dagster.events.field_error import read_each
from truepixel_dagster.events.money import MAX_AMOUNT, Money
from truepixel_dagster.events.noted_client import noted_client
from truepixel_dagster.events.order import OrderNews, OrderPayload, SoldLine
from truepixel_dagster.events.order_id import order_identifier
from truepixel_dagster.events.order_money import (
    currency_field,
    current_total,
    of_set,
    presentment,
    shop_currency,
    total_of,
)
from truepixel_dagster.events.sales_channel import IMPORT, sales_channel
from truepixel_dagster.events.shape import MAX_QUANTITY, email_hash, identifier, money, quantity, word_of
from truepixel_dagster.events.shopify_payload import Allocation, CartLine, Customer, Line, OrderBody
from truepixel_dagster.events.shopify_refund import refund_of
from truepixel_dagster.events.written_times import Arrival, bounded_time, first_time, moment_of, offset_of

# The financial statuses of an unpaid order.
UNPAID = frozenset({"", "pending", "authorized", "voided", "expired"})
# Those that a payload may have by itself; a cancelled one is that before all but voided ones.
OWN_STATUSES = frozenset({"voided", "refunded", "partially_refunded", "paid"})


class Landing(NamedTuple):
    """Hold the first page of the session before an order: its visit, if it is one, and the outside host before it."""

    visit: Ad | None
    referrer: str | None


def order_news(
    name: str, body: OrderBody, arrival: Arrival, landing: Landing, lines: tuple[SoldLine, ...]
) -> OrderNews | None:
    """Return what an order's webhook says of it; None if it neither shows the order nor names its client.

    Arguments:
        name: The topic.
        body: The order.
        arrival: The arrival of the webhook.
        landing: Its landing page.
        lines: Its lines from `sold_lines` in the currency of `shop_currency`.

    Raises:
        ValueError: An amount or an id is out of bounds.
    """
    if not is_payload(name, body):
        return None
    token = order_identifier(body.checkout_token, "checkout_token")
    cart = order_identifier(body.cart_token, "cart_token")
    return OrderNews(
        order_id=order_identifier(body.id),
        checkout_token=token,
        cart_token=cart,
        payload=msgspec.structs.replace(
            _payload(name, body, arrival, lines),
            checkout_token=token,
            cart_token=cart,
            landing=landing.visit,
            landing_referrer=landing.referrer,
            names_landing=bool(body.landing_site or body.referring_site),
        ),
        noted_client=noted_client(body.note_attributes),
    )


def is_payload(name: str, body: OrderBody) -> bool:
    """Return whether a webhook shows the order itself and not only a change of it."""
    if name in ("orders/delete", "orders/edited"):
        return False
    return not (body.line_items is None and body.total_price is None and body.financial_status is None)


def _payload(name: str, body: OrderBody, arrival: Arrival, lines: tuple[SoldLine, ...]) -> OrderPayload:
    channel, financial = sales_channel(body), word_of(body.financial_status)
    if name == "orders/paid" and financial not in OWN_STATUSES:
        financial = "paid"
    placed = body.processed_at if channel == IMPORT and moment_of(body.processed_at) is not None else body.created_at
    total = total_of(body)
    currency = shop_currency(body)
    # An invalid currency is refused, even if no amount uses it.
    money(None, currency, "total_price", currency_field(body))
    if total and total.currency != (currency or "").upper():
        # Shopify cannot have sent such an order; the total decides.
        currency = total.currency
        lines = sold_lines(body.line_items or (), currency)
    refunds = read_each("refunds", body.refunds or (), lambda each: refund_of(each, currency, arrival))
    customer = body.customer or Customer()
    updated = first_time(arrival, body.updated_at, body.cancelled_at, body.created_at)
    moment = moment_of(placed)
    return OrderPayload(
        updated_at=updated[0] if updated else arrival.occurred_at,
        event_id=arrival.event_id,
        status=_status(name, body, financial),
        received_at=arrival.received_at,
        at=None if moment is None else bounded_time(moment, arrival),
        utc_offset=offset_of(placed),
        was_paid=financial not in UNPAID,
        was_refunded=financial == "refunded",
        total=total,
        current_total=current_total(body, currency),
        presentment=presentment(body),
        lines=None if body.line_items is None else lines,
        refunds=refunds,
        test=body.test is True,
        sales_channel=channel,
        customer_id=identifier(customer.id, "customer.id"),
        email_hash=email_hash(body.email, body.contact_email, customer.email),
        customer_orders=count_of(customer),
    )


def _status(name: str, body: OrderBody, financial: str) -> str:
    """Return the payload's own status."""
    is_cancelled = body.cancelled_at not in (None, "") or name == "orders/cancelled"
    if is_cancelled and financial != "voided":
        return "cancelled"
    return financial if financial in OWN_STATUSES else "open"


def sold_lines(
    lines: Sequence[CartLine | None], currency: str | None, currency_field: str = "currency"
) -> tuple[SoldLine, ...]:
    """Return the lines of an order that name products, gift cards left out.

    Arguments:
        lines: The lines of the payload.
        currency: The currency of plain amounts.
        currency_field: The payload's field with the currency.

    Raises:
        FieldError: A value of a line is out of bounds.
    """
    # Report a wrong currency as the payload's, not as a line's.
    if any(line and line.product_id not in (None, "") and line.gift_card is not True for line in lines):
        money(None, currency, "line_items", currency_field)
    return read_each("line_items", lines, lambda line: _line(line, currency))


def _line(line: CartLine, currency: str | None) -> SoldLine | None:
    product = identifier(line.product_id, "product_id")
    # Nothing else of such a line is read, so it cannot refuse the order.
    if product is None or line.gift_card is True:
        return None
    count = quantity(line.quantity)
    price = of_set(line.price_set, "price_set") or money(line.price, currency, "price")
    off = sum(discount.amount for discount in _discounts(line, price.currency if price else currency))
    current = None if line.current_quantity is None else quantity(line.current_quantity, "current_quantity")
    if price and abs(price.amount * count - off) > MAX_AMOUNT:
        raise ValueError(f"{count} at {price.amount} minor units are beyond {MAX_AMOUNT}")
    return SoldLine(product, count, price, off, current, identifier(line.id) if isinstance(line, Line) else None)


def _discounts(line: CartLine, currency: str | None) -> Iterable[Money]:
    """Return the discounts of a line."""
    if line.discount_allocations is None:
        total = money(line.total_discount, currency, "total_discount")
        return (total,) if total else ()
    return read_each("discount_allocations", line.discount_allocations, lambda each: _allocated(each, currency))


def _allocated(allocation: Allocation, currency: str | None) -> Money | None:
    return of_set(allocation.amount_set, "amount_set") or money(allocation.amount, currency)


def count_of(customer: Customer) -> int | None:
    """Return the number of a customer's orders; None if it is missing."""
    for count in (customer.orders_count, customer.number_of_orders, customer.numberOfOrders):
        if isinstance(count, bool) or not isinstance(count, (int, float, str)) or count == "":
            continue
        try:
            number = Decimal(count)
        except InvalidOperation:
            continue
        if number.is_finite() and 0 <= number <= MAX_QUANTITY and number == int(number):
            return int(number)
    return None
