"""What one record says of an order: its ids and, depending on the kind of record, the rest."""

from __future__ import annotations

import msgspec

from truepixel_dagster.events.ad import Ad
from truepixel_dagster.events.money import Money

#: The statuses of an order, sorted from earlier to later. They are a part of a payload's version.
STATUSES = ("open", "paid", "partially_refunded", "refunded", "cancelled", "voided")
ONLINE = "online"


class SoldLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """Hold a line of an order that names a product; gift cards are left out.

    `quantity` is the ordered quantity, `current_quantity` what remains of it by a webhook, after edits and returns.
    `discount` is the total discount for `quantity`, in minor units of the price's currency.
    """

    product_id: str
    quantity: int
    price: Money | None = None
    discount: int = 0
    current_quantity: int | None = None
    line_id: str | None = None


class RefundedLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """Hold a line of a refund that names a product: how many were returned or removed, and their subtotal.

    `bare` is the subtotal in major units if the record does not name its currency: it is the order's.
    """

    product_id: str
    quantity: int
    subtotal: Money | None = None
    line_id: str | None = None
    bare: str | None = None


class Refund(msgspec.Struct, frozen=True, omit_defaults=True):
    """Hold a refund: the sums of its successful transactions of kind `refund` by currency, which may be empty.

    `at` is in milliseconds since the epoch, and `utc_offset` is the offset in minutes that it was written with. Without
    money it is not a refund: an edit of the order removed its lines.
    """

    refund_id: str
    at: int
    amounts: tuple[Money, ...] = ()
    utc_offset: int = 0
    lines: tuple[RefundedLine, ...] = ()

    @property
    def is_money(self) -> bool:
        """Return whether money was paid back."""
        return any(money.amount for money in self.amounts)


class OrderPayload(msgspec.Struct, frozen=True, omit_defaults=True):
    """Hold an order as one of Shopify's `orders/…` webhooks shows it, in the shop's currency.

    Missing fields are None: a webhook's subscription may select some of its fields. Times are milliseconds since the
    epoch. `updated_at` is the time of the payload's version, `received_at` that of its event. `at` is the order's own
    time, and `utc_offset` the offset in minutes that it was written with. `status` is the payload's own, regardless of
    other payloads and refunds. By its financial status, `was_paid` says whether money was paid, and `was_refunded`
    whether all of it was paid back, even if the order was cancelled. `current_total` is `total` after edits and
    refunds, `presentment` the total that the buyer saw. `landing` is the visit of its landing page, if it is a visit;
    `names_landing` says whether it names a landing page at all.
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
    """Hold an order as a pixel's `checkout_completed` shows it, in the currency that the buyer saw."""

    value: Money | None = None
    lines: tuple[SoldLine, ...] = ()
    first_order: bool | None = None


class OrderNews(msgspec.Struct, frozen=True, omit_defaults=True):
    """Hold what a record says of an order. It has at least one id.

    `noted_client` is the client in a webhook's `note_attributes`.
    """

    order_id: str | None = None
    checkout_token: str | None = None
    cart_token: str | None = None
    payload: OrderPayload | None = None
    completion: Completion | None = None
    refunds: tuple[Refund, ...] = ()
    deleted: bool = False
    noted_client: str | None = None
