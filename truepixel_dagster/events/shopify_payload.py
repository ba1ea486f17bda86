"""Define the fields that are read of orders, refunds and their lines in Shopify's webhooks.

See https://shopify.dev/docs/api/admin-rest/latest/resources/order.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Protocol

import msgspec

from truepixel_dagster.events.shape import Id

_NOTHING = msgspec.Raw(b"null")


class ShopMoney(msgspec.Struct, omit_defaults=True):
    """An amount in one currency."""

    amount: Decimal | None = None
    currency_code: str | None = None


class MoneySet(msgspec.Struct, omit_defaults=True):
    """An amount in the shop's currency; the buyer's amount is not read."""

    shop_money: ShopMoney | None = None


class TotalSet(MoneySet, omit_defaults=True):
    """An amount in the shop's currency and in the buyer's."""

    presentment_money: ShopMoney | None = None


class Allocation(msgspec.Struct, omit_defaults=True):
    """A part of a discount."""

    amount: Decimal | None = None
    amount_set: MoneySet | None = None


class CartLine(msgspec.Struct, omit_defaults=True):
    """A line of a cart."""

    product_id: Id = None
    quantity: int | None = None
    current_quantity: int | None = None
    price: Decimal | None = None
    price_set: MoneySet | None = None
    total_discount: Decimal | None = None
    discount_allocations: list[Allocation | None] | None = None
    gift_card: Any = None


class Line(CartLine, omit_defaults=True):
    """A line of an order or checkout."""

    id: Id = None


class ItemOfRefund(msgspec.Struct, omit_defaults=True):
    """The order's line to which a line of a refund belongs."""

    id: Id = None
    product_id: Id = None
    gift_card: Any = None


class LineOfRefund(msgspec.Struct, omit_defaults=True):
    """A line of a refund."""

    line_item_id: Id = None
    quantity: int | None = None
    subtotal: Decimal | None = None
    subtotal_set: MoneySet | None = None
    line_item: ItemOfRefund | None = None


class Transaction(msgspec.Struct, omit_defaults=True):
    """A payment or a repayment."""

    kind: Any = None
    status: Any = None
    # Read only for repayments, so that the amount of a sale never refuses an event.
    amount: msgspec.Raw = _NOTHING
    currency: msgspec.Raw = _NOTHING
    amount_set: msgspec.Raw = _NOTHING


class RefundBody(msgspec.Struct, omit_defaults=True):
    """A refund, in an order or in `refunds/create`."""

    id: Id = None
    order_id: Id = None
    created_at: Any = None
    processed_at: Any = None
    transactions: list[Transaction | None] | None = None
    refund_line_items: list[LineOfRefund | None] | None = None


class Customer(msgspec.Struct, omit_defaults=True):
    """The customer of an order."""

    id: Id = None
    email: str | None = None
    orders_count: Any = None
    number_of_orders: Any = None
    numberOfOrders: Any = None  # noqa: N815 (Shopify's name)


class OrderBody(msgspec.Struct, omit_defaults=True):
    """The fields that are read of an order."""

    id: Id = None
    checkout_token: Id = None
    cart_token: Id = None
    created_at: Any = None
    updated_at: Any = None
    processed_at: Any = None
    cancelled_at: Any = None
    currency: str | None = None
    presentment_currency: str | None = None
    total_price: Decimal | None = None
    total_price_set: TotalSet | None = None
    current_total_price: Decimal | None = None
    current_total_price_set: MoneySet | None = None
    financial_status: Any = None
    line_items: list[Line | None] | None = None
    refunds: list[RefundBody | None] | None = None
    test: Any = None
    source_name: Any = None
    app_id: Any = None
    tags: Any = None
    note_attributes: Any = None
    landing_site: str | None = None
    referring_site: str | None = None
    customer: Customer | None = None
    email: str | None = None
    contact_email: str | None = None


class HasCurrency(Protocol):
    """An order or a checkout."""

    currency: str | None
    presentment_currency: str | None
