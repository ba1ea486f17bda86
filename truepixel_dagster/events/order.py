"""What one record says of an order: the ids that it names and, by what kind of record it is, the rest."""

from __future__ import annotations

import msgspec

from truepixel_dagster.events.ad import Ad
from truepixel_dagster.events.money import Money

#: The statuses of an order, the later one of two last. Of a payload they are a part of its version.
STATUSES = ("open", "paid", "partially_refunded", "refunded", "cancelled", "voided")
ONLINE = "online"


class SoldLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """A product of an order as it was sold: after edits, its discounts off. Gift cards are none."""

    product_id: str
    units: int
    revenue: Money | None = None


class ReturnedLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """A product of a refund that gave money back. Gift cards are none."""

    product_id: str
    units: int
    revenue: Money | None = None


class Refund(msgspec.Struct, frozen=True, omit_defaults=True):
    """Money given back: what the successful transactions of kind `refund` sum to, more than 0.

    `at` is in milliseconds since the epoch; `utc_offset` is what its time was written with, in minutes.
    """

    refund_id: str
    amount: Money
    at: int
    utc_offset: int = 0
    lines: tuple[ReturnedLine, ...] = ()


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

    `noted_client` is the client that a webhook's `note_attributes` name. Of a refund `refunds` has one entry, or none
    where it gave no money back.
    """

    order_id: str | None = None
    checkout_token: str | None = None
    cart_token: str | None = None
    payload: OrderPayload | None = None
    completion: Completion | None = None
    refunds: tuple[Refund, ...] = ()
    deleted: bool = False
    noted_client: str | None = None
