"""What the payloads speak of: shops, buyers, carts, and orders with what happens to them.

Amounts are integer minor units of the shop's currency and times milliseconds since the epoch, unless a name says
otherwise.
"""

from __future__ import annotations

import msgspec


class Market(msgspec.Struct, frozen=True):
    """Where a shop sells: its currency, the offset of its clock in minutes, and what an address there looks like.

    `price_level` is roughly what one dollar is in this currency.
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
    """What a buyer sees prices in: the currency of a market, and the minor units of it that one of the shop's is."""

    market: Market
    rate: float = 1.0

    @property
    def currency(self) -> str:
        """The ISO 4217 code."""
        return self.market.currency

    def of(self, units: int) -> int:
        """The shop's minor units in the buyer's."""
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
        """The variant with its price in this currency."""
        return self.abroad.get(currency, self.pixel)


class Collector(msgspec.Struct, frozen=True):
    """How a shop's webhooks come to the topic.

    `headers` are `ours`, or Shopify's passed on, which begin with `X-Shopify-` or `Shopify-`; `upper_case` writes
    topics as Shopify's libraries do (ORDERS_CREATE); `shared_ids` has the topics of one action of a merchant share an
    event id; `keyed_by_client` takes the client that the theme hands on for the key, and not the cart's token.
    """

    headers: str = "ours"
    upper_case: bool = False
    shared_ids: bool = False
    keyed_by_client: bool = True


class Shop(msgspec.Struct, frozen=True):
    """A shop. `passes_client`: its theme hands the pixel's client id on to carts and orders, as `client_note`.

    `full_payloads` has its payloads show all that Shopify sends today. `domain` is Shopify's, `host` the storefront's.
    `abroad` are the markets beside its own; `counts_orders` still has an order's webhook say how many its customer has.
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
        """The ISO 4217 code that the shop's amounts are in."""
        return self.market.currency


class Customer(msgspec.Struct, frozen=True):
    """A person as the checkout knows them."""

    id: int
    email: str
    first_name: str
    last_name: str
    phone: str | None


class History(msgspec.Struct):
    """How many orders a customer has placed so far."""

    orders: int = 0


class Visitor(msgspec.Struct, frozen=True):
    """A browser in a shop. `navigator` is what it says of itself, encoded; `viewport` is inner width and height.

    `clock_error` is how far ahead its clock is. `history` is its customer's, whatever the device. `client_id` may be
    the text that a collector writes where there is none: `anonymous` then.
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
    """A page that a visitor has open. `context` is the context of every pixel event on it, encoded."""

    url: str
    context: msgspec.Raw


class Line(msgspec.Struct, frozen=True):
    """Some of a product in a cart or an order. `discount` is what is taken off the whole line.

    Of `quantity`, `removed` were taken out by an edit or a cancellation, and `returned` came back with a refund.
    """

    id: int
    product: Product
    quantity: int
    discount: int = 0
    removed: int = 0
    returned: int = 0

    @property
    def full_price(self) -> int:
        """Before the discount."""
        return self.product.price * self.quantity

    @property
    def left(self) -> int:
        """How many the order still has."""
        return self.quantity - self.removed - self.returned

    def share(self, quantity: int) -> int:
        """What some of the line cost."""
        return (self.full_price - self.discount) * quantity // self.quantity


def shown_price(line: Line, seen_in: Presentment) -> int:
    """What a line costs before its discount, in minor units of the presentment currency."""
    return seen_in.of(line.product.price) * line.quantity


def shown_discount(line: Line, seen_in: Presentment) -> int:
    """What is taken off a line, in minor units of the presentment currency: of a line for nothing all of its price."""
    full = shown_price(line, seen_in)
    return full if line.discount == line.full_price else min(full, seen_in.of(line.discount))


class Purchase(msgspec.Struct, frozen=True):
    """A checkout and the order that it may become.

    `checkout_token` and `cart_token` are None for an order that was not placed on the storefront; `client_id` is None
    where the theme does not hand it on; `landing` is the path and query string that the buyer's session began with.
    `processed_at` differs from `started_at` for an order that was imported. `nth` is the how many-th order of its
    customer it is; `walk_in` is one without a customer.
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
        """The lines after their discounts."""
        return sum(line.full_price - line.discount for line in self.lines)

    @property
    def discount(self) -> int:
        """What is taken off all lines together."""
        return sum(line.discount for line in self.lines)

    @property
    def added_tax(self) -> int:
        """The tax where prices do not include it."""
        return 0 if self.shop.market.tax_included else self.tax

    def total(self, *, shipped: bool = True) -> int:
        """What the buyer pays; until a shipping rate is chosen (`shipped`) without its price."""
        return self.subtotal + self.added_tax + (self.shipping if shipped else 0)

    def shown_subtotal(self) -> int:
        """The subtotal as the buyer sees it, in minor units of the presentment currency."""
        seen_in = self.presentment
        return sum(shown_price(line, seen_in) - shown_discount(line, seen_in) for line in self.lines)

    def shown_discount(self) -> int:
        """The discount as the buyer sees it, in minor units of the presentment currency."""
        return sum(shown_discount(line, self.presentment) for line in self.lines)

    def shown_total(self, *, shipped: bool = True) -> int:
        """The total as the buyer sees it, in minor units of the presentment currency."""
        of = self.presentment.of
        return self.shown_subtotal() + of(self.added_tax) + (of(self.shipping) if shipped else 0)


class ReturnedLine(msgspec.Struct, frozen=True):
    """Some of an order's line that comes back with a refund or is taken out."""

    line: Line
    quantity: int


class Refund(msgspec.Struct, frozen=True):
    """What Shopify calls a refund: lines that come back or are taken out, and money that is given back or none.

    `presented` has its transaction say the buyer's money; `void` releases what was only authorized; `failed` puts one
    that did not succeed before the transaction; `settles` gives back what an edit took off before.
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
    """An order at a moment: `at` is its last change, `status` its financial status.

    `taken_off` is what edits and cancellations took off its total without a refund of money.
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
        """The money that was given back."""
        return sum(refund.amount for refund in self.refunds)

    @property
    def left(self) -> int:
        """What is left of the total after edits and refunds."""
        back = sum(refund.amount for refund in self.refunds if not refund.settles)
        return max(0, self.purchase.total() - self.taken_off - back)
