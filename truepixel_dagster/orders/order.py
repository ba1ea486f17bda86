"""An order as its facts show it: what they add up to.

    >>> from truepixel_dagster.events.decode import decode
    >>> from truepixel_dagster.events.event import Message
    >>> from truepixel_dagster.events.origin import Origin
    >>> from truepixel_dagster.orders.division import orders_of
    >>> from truepixel_dagster.orders.event_facts import facts_of
    >>> value = b'{"id": 5, "financial_status": "paid", "currency": "EUR", "total_price": "19.99"}'
    >>> headers = (("topic", b"orders/paid"), ("event_id", b"w1"))
    >>> event = decode(Message(Origin("events", 0, 7), b"shop:c", value, headers, 1_767_607_201_000))
    >>> (order,) = orders_of("shop", [facts_of(event, touches=())])
    >>> order.document_id, order.figures
    ('shop:5', Figures(currency='EUR', value=1999, refunded=0, net=1999))

The rules follow Shopify's admin: the newest payload decides total, lines and status, and refunds add up by their ids
(https://shopify.dev/docs/api/admin-rest/latest/resources/order and …/refund).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

from truepixel_dagster.events.money import Money
from truepixel_dagster.events.order import ONLINE, OrderPayload, Refund, SoldLine
from truepixel_dagster.orders.facts import ORDER, ClientFacts, Node, Sighting, names_landing
from truepixel_dagster.orders.refunds import amount_of, in_currency, is_known_to
from truepixel_dagster.orders.sold import Sold, sold_of

OPEN, PAID, PARTIALLY_REFUNDED, REFUNDED, CANCELLED, VOIDED = (
    "open",
    "paid",
    "partially_refunded",
    "refunded",
    "cancelled",
    "voided",
)


class Figures(NamedTuple):
    """Hold an order's amounts in minor units. Without a value the currency is None and all amounts are 0."""

    currency: str | None
    value: int
    refunded: int
    net: int


class Order:
    """Combine all facts of one order."""

    def __init__(self, shop_id: str, facts: Node, order_id: str | None, cart: str | None = None) -> None:
        self.shop_id = shop_id
        self.order_id = order_id
        #: Whether another order has the same checkout token and the document under it.
        self.is_second = False
        self._facts = facts
        self._cart = cart

    @property
    def payload(self) -> OrderPayload | None:
        """Return what its newest webhook says."""
        return self._facts.payloads[-1] if self._facts.payloads else None

    @property
    def clients(self) -> tuple[ClientFacts, ...]:
        """Return the clients whose records name it."""
        return self._facts.clients

    @cached_property
    def landing(self) -> OrderPayload | None:
        """Return the newest payload that names the first page of the session before it."""
        return self._newest(names_landing)

    @cached_property
    def identity(self) -> tuple[str | None, str | None]:
        """Return the customer's id and the hash of the e-mail address, each from the newest payload that has it."""
        named = self._newest(lambda payload: payload.customer_id)
        mailed = self._newest(lambda payload: payload.email_hash)
        return named.customer_id if named else None, mailed.email_hash if mailed else None

    @property
    def test(self) -> bool:
        """Return whether it is a test order."""
        return bool(self.payload and self.payload.test)

    @property
    def sales_channel(self) -> str:
        """Return where it was placed."""
        return self.payload.sales_channel if self.payload else ONLINE

    @cached_property
    def checkout_token(self) -> str | None:
        """Return its checkout token: a webhook's wins over a pixel's."""
        if newest := self._newest(lambda payload: payload.checkout_token):
            return newest.checkout_token
        # A pixel's own token is the id of its node.
        return self._facts.id if self._facts.kind != ORDER and self._facts.id else None

    @cached_property
    def cart_token(self) -> str | None:
        """Return its cart token: a webhook's wins over a pixel's."""
        newest = self._newest(lambda payload: payload.cart_token)
        return newest.cart_token if newest else self._cart

    @property
    def document_id(self) -> str:
        """Return the id of its attribution: the checkout token, else the order id, else the cart token."""
        token = None if self.is_second else self.checkout_token
        return f"{self.shop_id}:{token or self.order_id or self.cart_token}"

    @property
    def at(self) -> int:
        """Return when it was placed, in milliseconds since the epoch."""
        if self._placed and self._placed.at is not None:
            return self._placed.at
        if self._facts.completed_at:
            return self._facts.completed_at[0]
        return self.payload.received_at if self.payload else 0

    @property
    def utc_offset(self) -> int:
        """Return the UTC offset in minutes that a webhook wrote its time with; 0 if only the pixel reported it."""
        return self._placed.utc_offset if self._placed else 0

    @cached_property
    def _placed(self) -> OrderPayload | None:
        return self._newest(lambda payload: payload.at is not None)

    @property
    def new_customer(self) -> bool | None:
        """Return whether it is its customer's first order; None if that is unknown."""
        for payload in self._facts.payloads:
            if payload.customer_orders is not None:
                return payload.customer_orders <= 1
        known = self._facts.known_first_order
        return known[2] if known else None

    @cached_property
    def sold(self) -> tuple[Sold, ...]:
        """Return what was sold: by the newest webhook, else by the first pixel event."""
        refunds = [refund for refund in self._facts.refunds if is_known_to(self._listed, refund)]
        return tuple(sold_of(line, refunds) for line in self._lines)

    @property
    def value_from(self) -> str | None:
        """Return the source of the value: `webhook` or `pixel`; None without a value."""
        if self._valued:
            return "webhook"
        return "pixel" if self._total else None

    @cached_property
    def refunds(self) -> tuple[Refund, ...]:
        """Return the refunds that gave money back, in the order's currency; leave out inconvertible ones."""
        found = (in_currency(refund, self._total, self._valued) for refund in self._facts.refunds)
        return tuple(refund for refund in found if refund.is_money)

    @cached_property
    def figures(self) -> Figures:
        """Return value, refunded amount and net."""
        total = self._total
        if total is None:
            return Figures(None, 0, 0, 0)
        refunded = sum(amount_of(refund) for refund in self.refunds)
        return Figures(total.currency, total.amount, refunded, max(0, self._net(total, refunded)))

    @property
    def status(self) -> str:
        """Return the status that Shopify's admin shows."""
        own = self.payload.status if self.payload else OPEN
        money = self.figures
        if own == VOIDED:
            return VOIDED
        went_back = self.payload is not None and self.payload.was_refunded
        if went_back or own == REFUNDED or 0 < money.value <= money.refunded:
            return REFUNDED
        if own == CANCELLED:
            return CANCELLED
        return PARTIALLY_REFUNDED if money.refunded else own

    def sightings(self, most: int) -> tuple[Sighting, ...]:
        """Return the first records that reported it."""
        return self._facts.sightings[:most]

    @property
    def topic(self) -> str:
        """Return the Kafka topic of its records."""
        return self._facts.sightings[0].kafka.topic if self._facts.sightings else ""

    @cached_property
    def _valued(self) -> OrderPayload | None:
        return self._newest(lambda payload: payload.total)

    @cached_property
    def _total(self) -> Money | None:
        if self._valued:
            return self._valued.total
        return self._facts.completion.completion.value if self._facts.completion else None

    def _newest(self, says: Callable[[OrderPayload], object]) -> OrderPayload | None:
        return next((payload for payload in reversed(self._facts.payloads) if says(payload)), None)

    def _net(self, total: Money, refunded: int) -> int:
        payload = self.payload
        if payload is None:
            return total.amount - refunded
        if payload.status == VOIDED or (payload.status == CANCELLED and not payload.was_paid):
            return 0
        if payload.current_total is None or payload.current_total.currency != total.currency:
            return total.amount - refunded
        return payload.current_total.amount - sum(amount_of(r) for r in self.refunds if not is_known_to(payload, r))

    @cached_property
    def _listed(self) -> OrderPayload | None:
        return self._newest(lambda payload: payload.lines is not None)

    @property
    def _lines(self) -> tuple[SoldLine, ...]:
        if self._listed and self._listed.lines is not None:
            return self._listed.lines
        return self._facts.completion.completion.lines if self._facts.completion else ()
