"""A decoded record, and the event's document."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

from truepixel_dagster.audit.oracle.records import Doc, Origin, present
from truepixel_dagster.audit.oracle.times import Moment, iso


@dataclass(frozen=True)
class Line:
    """A line of an order: price and discount in minor units; `left` is its remaining quantity (`current_quantity`)."""

    id: str | None
    product: str | None
    quantity: int
    left: int | None
    price: int | None
    discount: int
    currency: str | None


@dataclass(frozen=True)
class RefundedLine:
    """A returned line; `subtotal` is in units of its currency, or of the order's if it has none."""

    id: str | None
    product: str | None
    quantity: int
    subtotal: Decimal | None
    currency: str | None


@dataclass(frozen=True)
class Refund:
    """One report of a refund: the amounts paid back, by transaction, and the returned lines."""

    id: str
    at: int
    offset: int
    paid: tuple[tuple[Decimal, str], ...]
    lines: tuple[RefundedLine, ...]


@dataclass(frozen=True)
class Payload:
    """An order in an `orders/*` webhook. Times are milliseconds since the epoch, money is in minor units."""

    order_id: str | None
    checkout_token: str | None
    cart_token: str | None
    updated_at: int
    financial_status: str
    cancelled: bool
    currency: str | None
    total: Doc | None
    current_total: Doc | None
    presentment: Doc | None
    lines: list[Line] | None
    refunds: list[Refund]
    test: bool
    sales_channel: str
    created: Moment | None
    processed: Moment | None
    orders_count: int | None
    customer_id: str | None
    email_hash: str | None
    noted_client: str | None
    has_landing: bool
    landing: Doc | None
    landing_referrer: str | None


@dataclass(frozen=True)
class Checkout:
    """An order in a pixel's checkout event."""

    completed: bool
    order_id: str | None
    checkout_token: str | None
    cart_token: str | None
    value: Doc | None
    lines: list[Line]
    first_order: bool | None


@dataclass(frozen=True)
class Links:
    """Ids that belong to one order, from a webhook that does not show the order itself."""

    order_id: str | None = None
    checkout_token: str | None = None
    cart_token: str | None = None


@dataclass(frozen=True)
class Content:
    """What the payload says besides identity and time. `ad` is the visit's, `referrer_host` its outside referrer."""

    url: str | None = None
    referrer: str | None = None
    ad: Doc | None = None
    referrer_host: str | None = None
    product_ids: list[str] = field(default_factory=list)
    order_id: str | None = None
    value: Doc | None = None
    quantity: int = 1
    email_hash: str | None = None
    customer_id: str | None = None
    checkout: Checkout | None = None
    payload: Payload | None = None
    refund: Refund | None = None
    links: Links | None = None
    deletes: bool = False


@dataclass(frozen=True)
class Event:
    """A decoded record. Times are milliseconds since the epoch."""

    topic: str
    partition: int
    offset: int
    shop: str
    client: str
    event_id: str
    name: str
    source: str
    occurred_at: int
    received_at: int
    content: Content
    client_at: str | None = None
    bot: bool = False
    nobody: bool = False

    @property
    def id(self) -> str:
        return f"{self.shop}:{self.event_id}"

    @property
    def user(self) -> str:
        return f"{self.shop}:{self.client}"

    @property
    def origin(self) -> Origin:
        return self.partition, self.offset

    @property
    def is_visit(self) -> bool:
        """Return whether the event can be a touch of its user: not a webhook's, a bot's or one without a client."""
        return self.source == "pixel" and self.content.ad is not None and not self.bot and not self.nobody


def event_doc(event: Event) -> Doc:
    """Return the event's document, without the raw payload."""
    content = event.content
    payload = content.payload
    return present(
        shop_id=event.shop,
        client_id=event.client,
        event_id=event.event_id,
        name=event.name,
        source=event.source,
        occurred_at=iso(event.occurred_at),
        received_at=iso(event.received_at),
        url=content.url,
        referrer=content.referrer,
        ad=content.ad,
        channel=content.ad["channel"] if content.ad and event.is_visit else None,
        product_ids=content.product_ids or None,
        order_id=content.order_id,
        value=content.value,
        client_at=event.client_at,
        bot=event.bot or None,
        sales_channel=payload.sales_channel if payload else None,
        test=(payload.test or None) if payload else None,
        kafka=kafka(event),
    )


def kafka(event: Event) -> Doc:
    """Return the position of the event's record."""
    return {"topic": event.topic, "partition": event.partition, "offset": event.offset}
