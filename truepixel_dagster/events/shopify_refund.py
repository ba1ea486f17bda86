"""Read refunds, in an order or in `refunds/create`: https://shopify.dev/docs/api/admin-rest/latest/resources/refund."""

from __future__ import annotations

from decimal import Decimal
from typing import TypeVar

import msgspec

from truepixel_dagster.events.field_error import FieldError, read_each
from truepixel_dagster.events.lenient import Reader
from truepixel_dagster.events.money import Money
from truepixel_dagster.events.order import OrderNews, Refund, RefundedLine
from truepixel_dagster.events.order_id import order_identifier
from truepixel_dagster.events.order_money import of_bag, of_set
from truepixel_dagster.events.shape import identifier, money, quantity, word_of
from truepixel_dagster.events.shopify_payload import (
    ItemOfRefund,
    LineOfRefund,
    MoneySet,
    RefundBody,
    ShopMoney,
    Transaction,
)
from truepixel_dagster.events.written_times import Arrival, first_time

T = TypeVar("T")
AMOUNT: Reader[Decimal | None] = Reader(Decimal | None)
CURRENCY: Reader[str | None] = Reader(str | None)
MONEY_SET: Reader[MoneySet | None] = Reader(MoneySet | None)


def refund_news(body: RefundBody, arrival: Arrival) -> OrderNews:
    """Return what `refunds/create` says of an order.

    Raises:
        ValueError: An amount or an id is out of bounds.
    """
    refund = refund_of(body, None, arrival)
    order_id = order_identifier(body.order_id, "order_id")
    return OrderNews(order_id=order_id, refunds=(refund,) if refund else ())


def refund_of(body: RefundBody, currency: str | None, arrival: Arrival) -> Refund | None:
    """Return a refund; None if it has no id.

    Arguments:
        body: The refund.
        currency: The currency of plain amounts without one of their own: the order's.
        arrival: The arrival of the webhook.

    Raises:
        ValueError: An amount or an id is out of bounds.
    """
    sums: dict[str, int] = {}
    for back in read_each("transactions", body.transactions or (), lambda each: _given_back(each, currency)):
        sums[back.currency] = sums.get(back.currency, 0) + back.amount
    lines = read_each("refund_line_items", body.refund_line_items or (), lambda each: _refunded(each, currency))
    at, offset = first_time(arrival, body.processed_at, body.created_at) or (arrival.occurred_at, 0)
    refund_id = order_identifier(body.id)
    if refund_id is None:
        return None
    amounts = tuple(Money(amount, code) for code, amount in sorted(sums.items()))
    return Refund(refund_id, at, amounts, offset, lines)


def _given_back(transaction: Transaction, currency: str | None) -> Money | None:
    if not gives_back(transaction):
        return None
    found = of_set(_decoded(MONEY_SET, transaction.amount_set, "amount_set"), "amount_set")
    if found:
        # The plain amount is not read, so it cannot refuse the refund.
        return found
    amount = _decoded(AMOUNT, transaction.amount, "amount")
    return money(amount, _decoded(CURRENCY, transaction.currency, "currency") or currency)


def _decoded(reader: Reader[T], raw: msgspec.Raw, field: str) -> T:
    try:
        return reader.decode(raw)
    except ValueError as error:
        raise FieldError(field, str(error)) from None


def gives_back(transaction: Transaction) -> bool:
    """Return whether a transaction is a successful repayment."""
    return word_of(transaction.kind) == "refund" and word_of(transaction.status) in ("", "success")


def _refunded(line: LineOfRefund, currency: str | None) -> RefundedLine | None:
    item = line.line_item or ItemOfRefund()
    product = identifier(item.product_id, "line_item.product_id")
    if product is None or item.gift_card is True:
        return None
    shop = (line.subtotal_set.shop_money if line.subtotal_set else None) or ShopMoney()
    subtotal, amount = of_bag(shop, "subtotal_set", "shop_money"), shop.amount
    if amount is None:
        subtotal, amount = money(line.subtotal, currency, "subtotal"), line.subtotal
    count = quantity(line.quantity)
    line_id = identifier(item.id, "line_item.id") or identifier(line.line_item_id, "line_item_id")
    return RefundedLine(product, count, subtotal, line_id, None if subtotal or amount is None else str(amount))
