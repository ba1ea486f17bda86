"""The payloads of Shopify's web pixel standard events: only the fields that stages use."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import msgspec

from truepixel_dagster.events.bots import A_BOT, is_bot
from truepixel_dagster.events.event import LineItem
from truepixel_dagster.events.field_error import read_each, within
from truepixel_dagster.events.lenient import Reader
from truepixel_dagster.events.money import Money
from truepixel_dagster.events.order import Completion, OrderNews, SoldLine
from truepixel_dagster.events.shape import (
    Facts,
    Id,
    bounded,
    distinct,
    email_hash,
    identifier,
    line_item,
    money,
    name_of,
    quantity,
    text,
)
from truepixel_dagster.events.shopify_order import Arrival, alias_of, order_identifier
from truepixel_dagster.events.sites import NO_SITE, Site
from truepixel_dagster.events.visits import Alias

PRODUCT_VIEWED = "product_viewed"
ADDED_TO_CART = "product_added_to_cart"
REMOVED_FROM_CART = "product_removed_from_cart"
CHECKOUT_STARTED = "checkout_started"
CHECKOUT_COMPLETED = "checkout_completed"


class _Amount(msgspec.Struct, omit_defaults=True):
    amount: Decimal | None = None
    currencyCode: str | None = None  # noqa: N815 (Shopify's name)


class _Number(msgspec.Struct, omit_defaults=True):
    amount: Decimal | None = None


class _WithId(msgspec.Struct, omit_defaults=True):
    id: Id = None


class _Variant(msgspec.Struct, omit_defaults=True):
    product: _WithId | None = None


class _PricedVariant(_Variant, omit_defaults=True):
    price: _Amount | None = None


class _Discount(msgspec.Struct, omit_defaults=True):
    amount: _Number | None = None


class _CheckoutLine(msgspec.Struct, omit_defaults=True):
    quantity: int | None = None
    variant: _PricedVariant | None = None
    discountAllocations: list[_Discount | None] | None = None  # noqa: N815


class _Buyer(_WithId, omit_defaults=True):
    isFirstOrder: Any = None  # noqa: N815 (Shopify's name)


class _PlacedOrder(msgspec.Struct, omit_defaults=True):
    id: Id = None
    customer: _Buyer | None = None


class _Checkout(msgspec.Struct, omit_defaults=True):
    token: Id = None
    cartToken: Any = None  # noqa: N815
    cart_token: Any = None
    currencyCode: str | None = None  # noqa: N815
    email: str | None = None
    totalPrice: _Amount | None = None  # noqa: N815
    lineItems: list[_CheckoutLine | None] | None = None  # noqa: N815
    order: _PlacedOrder | None = None


class _Cost(msgspec.Struct, omit_defaults=True):
    totalAmount: _Amount | None = None  # noqa: N815


class _ViewedLine(msgspec.Struct, omit_defaults=True):
    merchandise: _Variant | None = None


class _CartLine(_ViewedLine, omit_defaults=True):
    cost: _Cost | None = None
    quantity: int | None = None


class _Cart(msgspec.Struct, omit_defaults=True):
    cost: _Cost | None = None
    lines: list[_ViewedLine | None] | None = None


class _Products(msgspec.Struct, omit_defaults=True):
    productVariants: list[_Variant | None] | None = None  # noqa: N815


class _Said(NamedTuple):
    """Hold what the data of an event say, whatever its name."""

    product_ids: tuple[str, ...] = ()
    items: tuple[LineItem, ...] = ()
    value: Money | None = None
    checkout: _Checkout | None = None


_NOTHING = _Said()


class _ViewedData(msgspec.Struct, omit_defaults=True):
    productVariant: _PricedVariant | None = None  # noqa: N815

    def said(self, most: int) -> _Said:
        variant = self.productVariant
        if variant is None:
            return _NOTHING
        return _Said(_products([variant], most), value=_amount(variant.price, "data.productVariant.price"))


class _LineData(msgspec.Struct, omit_defaults=True):
    cartLine: _CartLine | None = None  # noqa: N815

    def said(self, most: int) -> _Said:
        line = self.cartLine
        if line is None:
            return _NOTHING
        value = _amount(line.cost.totalAmount, "data.cartLine.cost.totalAmount") if line.cost else None
        products, count = _products([line.merchandise], most), quantity(line.quantity, "data.cartLine.quantity")
        return _Said(products, tuple(LineItem(product, count) for product in products), value)


class _CartData(msgspec.Struct, omit_defaults=True):
    cart: _Cart | None = None

    def said(self, most: int) -> _Said:
        if self.cart is None:
            return _NOTHING
        lines, cost = self.cart.lines or (), self.cart.cost
        value = _amount(cost.totalAmount, "data.cart.cost.totalAmount") if cost else None
        return _Said(_products([line.merchandise if line else None for line in lines], most), value=value)


class _CheckoutData(msgspec.Struct, omit_defaults=True):
    checkout: _Checkout | None = None

    def said(self, most: int) -> _Said:
        checkout = self.checkout
        if checkout is None:
            return _NOTHING
        lines = checkout.lineItems or ()
        # Read the total first, so that an error in a shared field names the total's.
        value = _total(checkout)
        return _Said(
            product_ids=_products([line.variant if line else None for line in lines], most),
            items=read_each(_LINES, lines, lambda line: _checkout_item(line, checkout)),
            value=value,
            checkout=checkout,
        )


class _CollectionData(msgspec.Struct, omit_defaults=True):
    collection: _Products | None = None

    def said(self, most: int) -> _Said:
        return _shown(self.collection, most)


class _SearchData(msgspec.Struct, omit_defaults=True):
    searchResult: _Products | None = None  # noqa: N815

    def said(self, most: int) -> _Said:
        return _shown(self.searchResult, most)


_Data: TypeAlias = "_ViewedData | _LineData | _CartData | _CheckoutData | _CollectionData | _SearchData"


class _Location(msgspec.Struct, omit_defaults=True):
    href: str | None = None
    search: str | None = None


class _Document(msgspec.Struct, omit_defaults=True):
    location: _Location | None = None
    referrer: str | None = None


class _Navigator(msgspec.Struct, omit_defaults=True):
    userAgent: Any = None  # noqa: N815


class _Context(msgspec.Struct, omit_defaults=True):
    document: _Document | None = None
    navigator: _Navigator | None = None


class _Pixel(msgspec.Struct, omit_defaults=True):
    id: Id = None
    name: str | None = None
    timestamp: str | None = None
    data: msgspec.Raw = msgspec.Raw(b"null")
    context: _Context | None = None


_ENVELOPE: Reader[_Pixel] = Reader(_Pixel)
# Created at import, because two threads may use a type for the first time at once.
_BY_NAME: dict[str, Reader[Any]] = {
    PRODUCT_VIEWED: Reader(_ViewedData | None),
    ADDED_TO_CART: Reader(_LineData | None),
    REMOVED_FROM_CART: Reader(_LineData | None),
    "cart_viewed": Reader(_CartData | None),
    "collection_viewed": Reader(_CollectionData | None),
    "search_submitted": Reader(_SearchData | None),
}
_OF_CHECKOUT: Reader[Any] = Reader(_CheckoutData | None)
_ENCODER = msgspec.json.Encoder(decimal_format="number")
_NO_DOCUMENT, _NO_LOCATION, _NO_ORDER = _Document(), _Location(), _PlacedOrder()
_LINES = "data.checkout.lineItems"


def facts(payload: bytes, site: Site = NO_SITE) -> Facts:
    """Return the facts of a pixel event.

    Arguments:
        payload: The JSON.
        site: The shop's site: its domains, hosts and aliases.

    Raises:
        ValueError: The payload is not JSON, or a field has a wrong type or is out of bounds.
    """
    event = _ENVELOPE.decode(payload)
    name = name_of(event.name)
    if name is None:
        raise ValueError("no event name")
    document = (event.context and event.context.document) or _NO_DOCUMENT
    location = document.location or _NO_LOCATION
    data = _data(name, event.data)
    said = data.said(site.lines) if data else _NOTHING
    checkout = said.checkout
    placed = (checkout and checkout.order) or _NO_ORDER
    seen = site.seen(location.href, location.search, document.referrer)
    # By position: msgspec takes ten times as long for keywords.
    return Facts(
        name,
        "pixel",
        None if event.id is None else str(event.id),
        event.timestamp,
        text(location.href),
        text(document.referrer),
        seen.came_from,
        seen.visit,
        said.product_ids,
        said.items,
        partial(_order, name, checkout, placed) if checkout else None,
        order_identifier(placed.id, "data.checkout.order.id"),
        None,
        _user_agent(event.context),
        None,
        said.value,
        identifier(placed.customer.id, "data.checkout.order.customer.id") if placed.customer else None,
        email_hash(checkout.email) if checkout else None,
    )


def anonymous(payload: bytes, alias: Alias, site: Site = NO_SITE) -> bytes:
    """Return the payload with personal data removed: only the fields above, with aliases for its ids.

    Arguments:
        payload: A payload that `facts` accepts.
        alias: Maps the kind of an id and the id to its alias.
        site: The shop's site: its domains, hosts and aliases.
    """
    event = _ENVELOPE.decode(payload)
    document = (event.context and event.context.document) or _NO_DOCUMENT
    location = document.location or _NO_LOCATION
    data = _data(event.name or "", event.data)
    if isinstance(data, _CheckoutData) and data.checkout:
        _anonymise(data.checkout, alias)
    query, referrer = site.anonymised_addresses(location.href, location.search, document.referrer, alias)
    context = _Context(
        _Document(_Location(query) if query else None, referrer) if query or referrer else None,
        _Navigator(A_BOT) if is_bot(_user_agent(event.context)) else None,
    )
    kept = _Pixel(
        name=event.name,
        timestamp=event.timestamp,
        data=msgspec.Raw(_ENCODER.encode(data or {})),
        context=context if context != _Context() else None,
    )
    return _ENCODER.encode(kept)


def _anonymise(checkout: _Checkout, alias: Alias) -> None:
    placed = checkout.order or _PlacedOrder()
    cart, first = _cart_token(checkout), _first_order(placed)
    order_id = alias_of("order", order_identifier(placed.id), alias)
    checkout.token = alias_of("token", order_identifier(checkout.token), alias)
    checkout.cartToken, checkout.cart_token = alias_of("token", cart, alias), None
    checkout.order = _PlacedOrder(order_id, None if first is None else _Buyer(isFirstOrder=first))
    checkout.email = None


def _data(name: str, raw: msgspec.Raw) -> _Data | None:
    """Return the event's data; None if no stage uses the data of events of this name."""
    reader = _BY_NAME.get(name)
    if reader is None:
        if not (name.startswith("checkout_") or name == "payment_info_submitted"):
            return None
        reader = _OF_CHECKOUT
    try:
        found: _Data | None = reader.decode(raw)
    except ValueError as error:
        raise within("data", error) from None
    return found


def _amount(amount: _Amount | None, field: str) -> Money | None:
    if amount is None:
        return None
    try:
        return money(amount.amount, amount.currencyCode, "amount", "currencyCode")
    except ValueError as error:
        raise within(field, error) from None


def _total(checkout: _Checkout) -> Money | None:
    """Return a checkout's total, in the checkout's currency if it has none of its own."""
    total = checkout.totalPrice or _Amount()
    if total.currencyCode:
        return _amount(total, "data.checkout.totalPrice")
    return money(total.amount, checkout.currencyCode, "data.checkout.totalPrice.amount", "data.checkout.currencyCode")


def _product(variant: _Variant | None) -> str | None:
    return identifier(variant.product.id, "product.id") if variant and variant.product else None


def _products(variants: Sequence[_Variant | None], most: int) -> tuple[str, ...]:
    bounded(variants, "data", most)
    return distinct(map(_product, variants))


def _shown(products: _Products | None, most: int) -> _Said:
    return _Said(_products(products.productVariants or (), most)) if products else _NOTHING


def _currency(line: _CheckoutLine, checkout: _Checkout) -> str | None:
    price = line.variant.price if line.variant else None
    total = checkout.totalPrice.currencyCode if checkout.totalPrice else None
    return total or checkout.currencyCode or (price.currencyCode if price else None)


def _checkout_item(line: _CheckoutLine, checkout: _Checkout) -> LineItem | None:
    price = line.variant.price if line.variant else None
    currency = _currency(line, checkout)
    given = line.discountAllocations or ()
    discounts = [entry.amount.amount if entry and entry.amount else None for entry in given]
    return line_item(_product(line.variant), line.quantity, price.amount if price else None, discounts, currency)


def _order(name: str, checkout: _Checkout, placed: _PlacedOrder, _arrival: Arrival) -> OrderNews | None:
    """Return what a checkout's event says of its order."""
    token = order_identifier(checkout.token, "data.checkout.token")
    order_id, cart = order_identifier(placed.id), _cart_token(checkout)
    if not (token or order_id or cart):
        return None
    completion = _completion(checkout, placed) if name == CHECKOUT_COMPLETED else None
    return OrderNews(order_id, token, cart, completion=completion)


def _cart_token(checkout: _Checkout) -> str | None:
    """Return the cart's token, which some shops' scripts add; None if it is not a token."""
    for written in (checkout.cartToken, checkout.cart_token):
        if written is not None and (isinstance(written, bool) or not isinstance(written, (int, str))):
            return None
        try:
            token = order_identifier(written)
        except ValueError:
            return None
        if token:
            return token
    return None


def _first_order(placed: _PlacedOrder) -> bool | None:
    first = placed.customer.isFirstOrder if placed.customer else None
    return first if isinstance(first, bool) else None


def _completion(checkout: _Checkout, placed: _PlacedOrder) -> Completion:
    return Completion(
        value=_total(checkout),
        lines=read_each(_LINES, checkout.lineItems or (), lambda line: _sold(line, checkout)),
        first_order=_first_order(placed),
    )


def _sold(line: _CheckoutLine, checkout: _Checkout) -> SoldLine | None:
    product, count = _product(line.variant), quantity(line.quantity)
    price = line.variant.price if line.variant else None
    currency = _currency(line, checkout)
    discounts = [entry.amount.amount for entry in line.discountAllocations or () if entry and entry.amount]
    off = sum(found.amount for each in discounts if (found := money(each, currency)))
    if product is None:
        return None
    unit = money(price.amount, currency) if price else None
    return SoldLine(product, count, unit, off)


def _user_agent(context: _Context | None) -> str | None:
    written = context.navigator.userAgent if context and context.navigator else None
    return written if isinstance(written, str) else None
