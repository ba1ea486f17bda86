"""What one record says of an order: the ids that it names and, by what kind of record it is, the rest."""

from __future__ import annotations

import msgspec

from truepixel_dagster.events.ad import Ad
from truepixel_dagster.events.money import Money

#: The statuses of an order, the later one of two last. Of a payload they are a part of its version.
STATUSES = ("open", "paid", "partially_refunded", "refunded", "cancelled", "voided")
ONLINE = "online"


class SoldLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """A line of an order that names a product. Gift cards are none.

    `quantity` is what was ordered, `current_quantity` what an order's webhook says is left of it after edits and returns;
    `discount` is what all of `quantity` costs less, in minor units of the price.
    """

    product_id: str
    quantity: int
    price: Money | None = None
    discount: int = 0
    current_quantity: int | None = None
    line_id: str | None = None


class RefundedLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """A line of a refund that names a product: how many came back, or were taken out, and their subtotal."""

    product_id: str
    quantity: int
    subtotal: Money | None = None
    line_id: str | None = None


class Refund(msgspec.Struct, frozen=True, omit_defaults=True):
    """A refund: what its successful transactions of kind `refund` sum to, which may be nothing.

    `at` is in milliseconds since the epoch; `utc_offset` is what its time was written with, in minutes. One of no money is
    no refund: an order's edit takes its lines out. `amount` is None where its transactions name no currency.
    """

    refund_id: str
    at: int
    amount: Money | None = None
    utc_offset: int = 0
    lines: tuple[RefundedLine, ...] = ()


class OrderPayload(msgspec.Struct, frozen=True, omit_defaults=True):
    """An order as one of Shopify's `orders/…` webhooks shows it, in the shop's money.

    `updated_at` is the time of its version and `at` the order's own time, in milliseconds since the epoch; `utc_offset`
    is what that was written with, in minutes. `status` is its own, whatever other payloads and refunds say. `was_paid` is
    whether its financial status says that money came in. `current_total` knows the refunds that `refunds` names.
    `presentment` is the total that the buyer saw. `landing` is the visit that its landing page speaks of, if it does.
    """

    updated_at: int
    event_id: str
    status: str
    at: int
    utc_offset: int
    was_paid: bool = False
    total: Money | None = None
    current_total: Money | None = None
    presentment: Money | None = None
    lines: tuple[SoldLine, ...] = ()
    refunds: tuple[Refund, ...] = ()
    test: bool = False
    sales_channel: str = ONLINE
    landing: Ad | None = None
    landing_referrer: str | None = None
    customer_id: str | None = None
    email_hash: str | None = None
    customer_orders: int | None = None


class Completion(msgspec.Struct, frozen=True, omit_defaults=True):
    """An order as a pixel's `checkout_completed` shows it, in the money that the buyer saw."""

    value: Money | None = None
    lines: tuple[SoldLine, ...] = ()
    first_order: bool | None = None


class OrderNews(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a record says of an order. At least one id is there.

    `noted_client` is the client that a webhook's `note_attributes` name.
    """

    order_id: str | None = None
    checkout_token: str | None = None
    cart_token: str | None = None
    payload: OrderPayload | None = None
    completion: Completion | None = None
    refunds: tuple[Refund, ...] = ()
    deleted: bool = False
    noted_client: str | None = None
