"""The model behind the payloads: shops, buyers, carts, and orders with their changes.

Amounts are integer minor units of the shop's currency, and times are milliseconds since the epoch, unless a docstring
says otherwise.
"""

from __future__ import annotations

import msgspec


class Market(msgspec.Struct, frozen=True):
    """A market: its currency, the offset of its clock in minutes, and an address there.

    `price_level` is the approximate value of a dollar in this currency.
    """

    currency: str
    offset: int
    price_level: float
    tax_included: bool
    language: str
    country: str
    country_code: str
    province: str
    province_code: str
    city: str
    postal_code: str
    street: str


class Presentment(msgspec.Struct, frozen=True):
    """The market in whose currency a buyer sees prices; `rate` converts the shop's minor units to the buyer's."""

    market: Market
    rate: float = 1.0

    @property
    def currency(self) -> str:
        """Return the ISO 4217 code."""
        return self.market.currency

    def of(self, units: int) -> int:
        """Convert the shop's minor units to the buyer's."""
        return units if self.rate == 1 else int(units * self.rate + 0.5)


class Product(msgspec.Struct, frozen=True):
    """A product with its one variant.

    `pixel` is the variant as pixel events show it, and `abroad` the same by the currency of another market.
    """

    id: int
    variant_id: int
    handle: str
    title: str
    variant_title: str | None
    vendor: str
    sku: str | None
    price: int
    pixel: msgspec.Raw
    abroad: dict[str, msgspec.Raw] = {}
    gift_card: bool = False

    def shown(self, currency: str) -> msgspec.Raw:
        """Return the variant with its price in this currency."""
        return self.abroad.get(currency, self.pixel)


class Collector(msgspec.Struct, frozen=True):
    """How a shop's webhooks reach the topic.

    `headers` is `ours`, or the prefix of Shopify's headers: `X-Shopify-` or `Shopify-`. If `upper_case`, topics are
    written as by Shopify's libraries (ORDERS_CREATE). If `shared_ids`, all topics of one change share an event id. If
    `keyed_by_client`, the key has the client that the theme passes on, instead of the cart's token.
    """

    headers: str = "ours"
    upper_case: bool = False
    shared_ids: bool = False
    keyed_by_client: bool = True


class Shop(msgspec.Struct, frozen=True):
    """A shop. `domain` is Shopify's, `host` the storefront's, and `abroad` are its markets beside its own.

    If `passes_client`, its theme writes the pixel's client id into carts and orders, as attribute `client_note`. If
    `full_payloads`, payloads have all of Shopify's current fields. If `counts_orders`, an order's webhook still has the
    number of its customer's orders.
    """

    id: str
    domain: str
    host: str
    market: Market
    passes_client: bool
    sends_cart_webhooks: bool
    products: tuple[Product, ...]
    campaigns: tuple[str, ...]
    abroad: tuple[Presentment, ...] = ()
    full_payloads: bool = False
    client_note: str = "_truepixel_client_id"
    collector: Collector = Collector()
    counts_orders: bool = False

    @property
    def currency(self) -> str:
        """Return the ISO 4217 code of the shop's amounts."""
        return self.market.currency


class Customer(msgspec.Struct, frozen=True):
    """A customer as the checkout knows them."""

    id: int
    email: str
    first_name: str
    last_name: str
    phone: str | None


class History(msgspec.Struct):
    """The number of orders that a customer has placed so far."""

    orders: int = 0


class Visitor(msgspec.Struct, frozen=True):
    """A browser in a shop. `navigator` is its encoded `navigator` object; `viewport` is its inner width and height.

    `clock_error` is how far its clock is ahead. `history` is its customer's, across devices. If the visitor is
    `anonymous`, `client_id` is the text that a collector writes instead of an id.
    """

    shop: Shop
    client_id: str
    customer: Customer
    navigator: msgspec.Raw
    viewport: tuple[int, int]
    presentment: Presentment
    history: History
    clock_error: int = 0
    anonymous: bool = False


class Page(msgspec.Struct, frozen=True):
    """A page that a visitor has open. `context` is the encoded context of every pixel event on it."""

    url: str
    context: msgspec.Raw


class Line(msgspec.Struct, frozen=True):
    """A line of a cart or an order. `discount` is that of the whole line.

    Of `quantity` units, an edit or a cancellation removed `removed`, and `returned` were returned with a refund.
    """

    id: int
    product: Product
    quantity: int
    discount: int = 0
    removed: int = 0
    returned: int = 0

    @property
    def full_price(self) -> int:
        """Return the price before the discount."""
        return self.product.price * self.quantity

    @property
    def left(self) -> int:
        """Return the number of units that the order still has."""
        return self.quantity - self.removed - self.returned

    def share(self, quantity: int) -> int:
        """Return the discounted price of some units of the line."""
        return (self.full_price - self.discount) * quantity // self.quantity


def shown_price(line: Line, seen_in: Presentment) -> int:
    """Return a line's price before its discount, in minor units of the presentment currency."""
    return seen_in.of(line.product.price) * line.quantity


def shown_discount(line: Line, seen_in: Presentment) -> int:
    """Return a line's discount in minor units of the presentment currency; a free line's discount is its full price."""
    full = shown_price(line, seen_in)
    return full if line.discount == line.full_price else min(full, seen_in.of(line.discount))


class Purchase(msgspec.Struct, frozen=True):
    """A checkout and the order that it may become.

    `checkout_token` and `cart_token` are None for an order that was not placed on the storefront; `client_id` is None
    if the theme does not pass it on; `landing` is the path and query string with which the buyer's session began.
    `processed_at` differs from `started_at` for an imported order. The order is its customer's `nth`, from 1; a
    `walk_in` order has no customer.
    """

    shop: Shop
    customer: Customer
    lines: tuple[Line, ...]
    presentment: Presentment
    checkout_id: int
    order_id: int
    order_token: str
    number: int
    shipping: int
    tax: int
    started_at: int
    discount_code: str | None = None
    checkout_token: str | None = None
    cart_token: str | None = None
    client_id: str | None = None
    landing: str | None = None
    referrer: str | None = None
    source_name: str = "web"
    app_id: int = 580111
    tags: str = ""
    test: bool = False
    processed_at: int | None = None
    nth: int = 1
    walk_in: bool = False

    @property
    def subtotal(self) -> int:
        """Return the sum of the lines after their discounts."""
        return sum(line.full_price - line.discount for line in self.lines)

    @property
    def discount(self) -> int:
        """Return the sum of the lines' discounts."""
        return sum(line.discount for line in self.lines)

    @property
    def added_tax(self) -> int:
        """Return the tax that prices do not include."""
        return 0 if self.shop.market.tax_included else self.tax

    def total(self, *, shipped: bool = True) -> int:
        """Return the amount that the buyer pays; before a shipping rate is chosen, use `shipped=False`."""
        return self.subtotal + self.added_tax + (self.shipping if shipped else 0)

    def shown_subtotal(self) -> int:
        """Return the subtotal in minor units of the presentment currency."""
        seen_in = self.presentment
        return sum(shown_price(line, seen_in) - shown_discount(line, seen_in) for line in self.lines)

    def shown_discount(self) -> int:
        """Return the discount in minor units of the presentment currency."""
        return sum(shown_discount(line, self.presentment) for line in self.lines)

    def shown_total(self, *, shipped: bool = True) -> int:
        """Return the total in minor units of the presentment currency."""
        of = self.presentment.of
        return self.shown_subtotal() + of(self.added_tax) + (of(self.shipping) if shipped else 0)


class ReturnedLine(msgspec.Struct, frozen=True):
    """Units of an order's line that are returned or removed."""

    line: Line
    quantity: int


class Refund(msgspec.Struct, frozen=True):
    """A refund in Shopify's sense: returned or removed lines, with an amount or without one.

    If `presented`, its transaction is in the buyer's currency. `void` is the authorized amount that it releases. If
    `failed`, a transaction that did not succeed precedes the successful one. If `settles`, it refunds the amount by
    which an earlier edit reduced the order.
    """

    id: int
    at: int
    lines: tuple[ReturnedLine, ...] = ()
    amount: int = 0
    presented: bool = False
    void: int = 0
    failed: bool = False
    settles: bool = False


class Order(msgspec.Struct, frozen=True):
    """An order after its last change at `at`; `status` is its financial status.

    `taken_off` is the amount by which edits and cancellations reduced its total without a refund.
    """

    purchase: Purchase
    at: int
    status: str
    fulfilled: bool = False
    cancelled_at: int | None = None
    refunds: tuple[Refund, ...] = ()
    taken_off: int = 0

    @property
    def refunded(self) -> int:
        """Return the refunded amount."""
        return sum(refund.amount for refund in self.refunds)

    @property
    def left(self) -> int:
        """Return the rest of the total after edits and refunds."""
        back = sum(refund.amount for refund in self.refunds if not refund.settles)
        return max(0, self.purchase.total() - self.taken_off - back)
