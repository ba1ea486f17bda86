"""The payloads of Shopify's web pixel standard events: only the fields that stages use."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import msgspec

from truepixel_dagster.events.ad import ad_from_url, anonymous_query
from truepixel_dagster.events.event import LineItem, Order
from truepixel_dagster.events.money import Money
from truepixel_dagster.events.shape import (
    Facts,
    Id,
    bounded,
    distinct,
    email_hash,
    identifier,
    line_item,
    money,
    text,
)

PRODUCT_VIEWED = "product_viewed"
ADDED_TO_CART = "product_added_to_cart"
CHECKOUT_STARTED = "checkout_started"
CHECKOUT_COMPLETED = "checkout_completed"


class _Amount(msgspec.Struct, omit_defaults=True):
    amount: Decimal | None = None
    currencyCode: str | None = None  # noqa: N815 (Shopify's name)


class _WithId(msgspec.Struct, omit_defaults=True):
    id: Id = None


class _Variant(msgspec.Struct, omit_defaults=True):
    price: _Amount | None = None
    product: _WithId | None = None


class _Discount(msgspec.Struct, omit_defaults=True):
    amount: _Amount | None = None


class _CheckoutLine(msgspec.Struct, omit_defaults=True):
    quantity: int | None = None
    variant: _Variant | None = None
    discountAllocations: list[_Discount | None] | None = None  # noqa: N815


class _PlacedOrder(msgspec.Struct, omit_defaults=True):
    id: Id = None
    customer: _WithId | None = None


class _Checkout(msgspec.Struct, omit_defaults=True):
    token: Id = None
    currencyCode: str | None = None  # noqa: N815
    email: str | None = None
    totalPrice: _Amount | None = None  # noqa: N815
    lineItems: list[_CheckoutLine | None] | None = None  # noqa: N815
    order: _PlacedOrder | None = None


class _Cost(msgspec.Struct, omit_defaults=True):
    totalAmount: _Amount | None = None  # noqa: N815


class _CartLine(msgspec.Struct, omit_defaults=True):
    cost: _Cost | None = None
    merchandise: _Variant | None = None
    quantity: int | None = None


class _Cart(msgspec.Struct, omit_defaults=True):
    cost: _Cost | None = None
    lines: list[_CartLine | None] | None = None


class _Products(msgspec.Struct, omit_defaults=True):
    productVariants: list[_Variant | None] | None = None  # noqa: N815


class _Data(msgspec.Struct, omit_defaults=True):
    productVariant: _Variant | None = None  # noqa: N815
    cartLine: _CartLine | None = None  # noqa: N815
    cart: _Cart | None = None
    checkout: _Checkout | None = None
    collection: _Products | None = None
    searchResult: _Products | None = None  # noqa: N815


class _Location(msgspec.Struct, omit_defaults=True):
    href: str | None = None
    search: str | None = None


class _Document(msgspec.Struct, omit_defaults=True):
    location: _Location | None = None
    referrer: str | None = None


class _Context(msgspec.Struct, omit_defaults=True):
    document: _Document | None = None


class _Pixel(msgspec.Struct, omit_defaults=True):
    id: Id = None
    name: str | None = None
    clientId: Id = None  # noqa: N815
    timestamp: str | None = None
    data: msgspec.Raw = msgspec.Raw(b"null")
    context: _Context | None = None


_ENVELOPE = msgspec.json.Decoder(_Pixel)
_KNOWN = msgspec.json.Decoder(_Data | None)
_UNKNOWN = msgspec.json.Decoder(dict[str, msgspec.Raw] | None)
_ENCODER = msgspec.json.Encoder(decimal_format="number")
_NOTHING = _Data()
_KNOWN_NAMES = {
    PRODUCT_VIEWED,
    ADDED_TO_CART,
    "product_removed_from_cart",
    "cart_viewed",
    "collection_viewed",
    "search_submitted",
}


def facts(payload: bytes) -> Facts:
    """What a pixel event says.

    Raises:
        ValueError: Not JSON, of wrong types or out of bounds.
    """
    event = _ENVELOPE.decode(payload)
    if not event.name:
        raise ValueError("no event name")
    document = (event.context and event.context.document) or _Document()
    location = document.location or _Location()
    data = _data(event.name, event.data)
    checkout = data.checkout
    placed = (checkout and checkout.order) or _PlacedOrder()
    return Facts(
        name=text(event.name) or "",
        source="pixel",
        event_id=None if event.id is None else str(event.id),
        occurred_at=event.timestamp or None,
        url=text(location.href),
        referrer=text(document.referrer),
        ad=ad_from_url(_with_query(location)),
        product_ids=_product_ids(data),
        items=_items(event.name, data),
        order=_order(event.name, checkout, placed) if checkout else None,
        value=_value(event.name, data),
        customer_id=identifier(placed.customer.id) if placed.customer else None,
        email_hash=email_hash(checkout.email) if checkout else None,
    )


def anonymous(payload: bytes, alias: Callable[[str, str], str]) -> bytes:
    """The payload without whom it is about: what the fields above hold, its ids by aliases.

    Arguments:
        payload: One that `facts` understands.
        alias: From the kind of an id and the id to its alias.
    """
    event = _ENVELOPE.decode(payload)
    location = (event.context and event.context.document and event.context.document.location) or _Location()
    data = _data(event.name or "", event.data)
    if checkout := data.checkout:
        token, order_id = identifier(checkout.token), identifier((checkout.order or _PlacedOrder()).id)
        checkout.token = alias("token", token) if token else None
        checkout.order = _PlacedOrder(alias("order", order_id)) if order_id else None
        checkout.email = None
    query = anonymous_query(_with_query(location), alias)
    context = _Context(_Document(_Location(query))) if query else None
    kept = _Pixel(name=event.name, timestamp=event.timestamp, data=msgspec.Raw(_ENCODER.encode(data)), context=context)
    return _ENCODER.encode(kept)


def _with_query(location: _Location) -> str | None:
    return location.href if location.href and "?" in location.href else location.search


def _data(name: str, raw: msgspec.Raw) -> _Data:
    if name in _KNOWN_NAMES or name.startswith("checkout_") or name == "payment_info_submitted":
        return _KNOWN.decode(raw) or _NOTHING
    _UNKNOWN.decode(raw)
    return _NOTHING


def _amount(amount: _Amount | None, currency: str | None = None) -> Money | None:
    return money(amount.amount, amount.currencyCode or currency) if amount else None


def _value(name: str, data: _Data) -> Money | None:
    if data.checkout:
        return _amount(data.checkout.totalPrice, data.checkout.currencyCode)
    if name == PRODUCT_VIEWED and data.productVariant:
        return _amount(data.productVariant.price)
    if data.cartLine and data.cartLine.cost:
        return _amount(data.cartLine.cost.totalAmount)
    if data.cart and data.cart.cost:
        return _amount(data.cart.cost.totalAmount)
    return None


def _product(variant: _Variant | None) -> str | None:
    return identifier(variant.product.id) if variant and variant.product else None


def _product_ids(data: _Data) -> tuple[str, ...]:
    if data is _NOTHING:
        return ()
    variants: list[_Variant | None] = [data.productVariant]
    if data.cartLine:
        variants.append(data.cartLine.merchandise)
    if data.cart:
        variants += [line.merchandise for line in data.cart.lines or () if line]
    for products in (data.collection, data.searchResult):
        variants += (products.productVariants or ()) if products else ()
    if data.checkout:
        variants += [line.variant for line in data.checkout.lineItems or () if line]
    bounded(variants)
    return distinct(map(_product, variants))


def _items(name: str, data: _Data) -> tuple[LineItem, ...]:
    if name == ADDED_TO_CART and data.cartLine:
        item = line_item(_product(data.cartLine.merchandise), data.cartLine.quantity, None, (), None)
        return (item,) if item else ()
    if data.checkout:
        checkout = data.checkout
        return tuple(item for line in checkout.lineItems or () if line and (item := _checkout_item(line, checkout)))
    return ()


def _checkout_item(line: _CheckoutLine, checkout: _Checkout) -> LineItem | None:
    price = line.variant.price if line.variant else None
    currency = checkout.currencyCode or (price.currencyCode if price else None)
    discounts = [entry.amount.amount for entry in line.discountAllocations or () if entry and entry.amount]
    return line_item(_product(line.variant), line.quantity, price.amount if price else None, discounts, currency)


def _order(name: str, checkout: _Checkout, placed: _PlacedOrder) -> Order | None:
    token, order_id = identifier(checkout.token), identifier(placed.id)
    if name != CHECKOUT_COMPLETED or not (token or order_id):
        return None
    return Order(order_id, token, status="open", sighting=True)
