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

    `quantity` is what was ordered, `current_quantity` what a webhook says is left of it after edits and returns;
    `discount` is what all of `quantity` costs less, in minor units of the price.
    """

    product_id: str
    quantity: int
    price: Money | None = None
    discount: int = 0
    current_quantity: int | None = None
    line_id: str | None = None


class RefundedLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """A line of a refund that names a product: how many came back, or were taken out, and their subtotal.

    `bare` is the subtotal in major units where the record does not say in which currency: it is in the order's.
    """

    product_id: str
    quantity: int
    subtotal: Money | None = None
    line_id: str | None = None
    bare: str | None = None


class Refund(msgspec.Struct, frozen=True, omit_defaults=True):
    """A refund: what its successful transactions of kind `refund` sum to, by currency, which may be nothing.

    `at` is in milliseconds since the epoch; `utc_offset` is what its time was written with, in minutes. One of no money
    is no refund: an order's edit takes its lines out.
    """

    refund_id: str
    at: int
    amounts: tuple[Money, ...] = ()
    utc_offset: int = 0
    lines: tuple[RefundedLine, ...] = ()

    @property
    def is_money(self) -> bool:
        """Whether it gave money back."""
        return any(money.amount for money in self.amounts)


class OrderPayload(msgspec.Struct, frozen=True, omit_defaults=True):
    """An order as one of Shopify's `orders/…` webhooks shows it, in the shop's money.

    What a payload does not say is None: a webhook may be subscribed to with some of its fields. Times are
    milliseconds since the epoch. `updated_at` is the time of its version, `received_at` that of its event. `at` is
    the order's own time and `utc_offset` what that was written with, in minutes. `status` is its own, whatever other
    payloads and refunds say. `was_paid` is whether its financial status says that money came in, `was_refunded` that
    all of it went back, also where the order was cancelled. `current_total` is what is left of `total` after edits
    and refunds, `presentment` the total that the buyer saw. `landing` is the visit that its landing page speaks of,
    if it is one; `names_landing` is whether it names a landing page at all.
    """

    updated_at: int
    event_id: str
    status: str
    received_at: int
    at: int | None = None
    utc_offset: int = 0
    was_paid: bool = False
    was_refunded: bool = False
    total: Money | None = None
    current_total: Money | None = None
    presentment: Money | None = None
    lines: tuple[SoldLine, ...] | None = None
    refunds: tuple[Refund, ...] = ()
    test: bool = False
    sales_channel: str = ONLINE
    checkout_token: str | None = None
    cart_token: str | None = None
    landing: Ad | None = None
    landing_referrer: str | None = None
    customer_id: str | None = None
    email_hash: str | None = None
    customer_orders: int | None = None
    names_landing: bool = False


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
