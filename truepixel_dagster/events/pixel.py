"""The payloads of Shopify's web pixel standard events: only the fields that stages use."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec

from truepixel_dagster.events.ad import ad_of, anonymous_query, query_of
from truepixel_dagster.events.event import LineItem, Order
from truepixel_dagster.events.lenient import Reader
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
    name_of,
    quantity,
    text,
)

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


class _Data(msgspec.Struct, omit_defaults=True):
    """What is read of any event's data: of each only what belongs to its name."""

    productVariant: _PricedVariant | None = None  # noqa: N815
    cartLine: _CartLine | None = None  # noqa: N815
    cart: _Cart | None = None
    checkout: _Checkout | None = None
    collection: _Products | None = None
    searchResult: _Products | None = None  # noqa: N815


class _ViewedData(msgspec.Struct):
    productVariant: _PricedVariant | None = None  # noqa: N815


class _LineData(msgspec.Struct):
    cartLine: _CartLine | None = None  # noqa: N815


class _CartData(msgspec.Struct):
    cart: _Cart | None = None


class _CheckoutData(msgspec.Struct):
    checkout: _Checkout | None = None


class _CollectionData(msgspec.Struct):
    collection: _Products | None = None


class _SearchData(msgspec.Struct):
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
    timestamp: str | None = None
    data: msgspec.Raw = msgspec.Raw(b"null")
    context: _Context | None = None


_ENVELOPE: Reader[_Pixel] = Reader(_Pixel)
# Made at import: a second thread may come by while a type is looked at for the first time.
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
_NOTHING = _Data()


def facts(payload: bytes) -> Facts:
    """What a pixel event says.

    Raises:
        ValueError: Not JSON, of wrong types or out of bounds.
    """
    event = _ENVELOPE.decode(payload)
    name = name_of(event.name)
    if name is None:
        raise ValueError("no event name")
    document = (event.context and event.context.document) or _Document()
    location = document.location or _Location()
    data = _data(name, event.data)
    checkout = data.checkout
    placed = (checkout and checkout.order) or _PlacedOrder()
    return Facts(
        name=name,
        source="pixel",
        event_id=None if event.id is None else str(event.id),
        occurred_at=event.timestamp,
        url=text(location.href),
        referrer=text(document.referrer),
        ad=ad_of(query) if (query := _query(location)) else None,
        product_ids=_product_ids(data),
        items=_items(data),
        order=_order(name, checkout, placed) if checkout else None,
        value=_value(data),
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
    query = anonymous_query(f"?{_query(location)}", alias)
    context = _Context(_Document(_Location(query))) if query else None
    kept = _Pixel(name=event.name, timestamp=event.timestamp, data=msgspec.Raw(_ENCODER.encode(data)), context=context)
    return _ENCODER.encode(kept)


def _query(location: _Location) -> str:
    """The query of the page's address, or where that has none what stands in `search`."""
    query = query_of(location.href)
    return query or (query_of("?" + location.search.lstrip("?")) if location.search else "")


def _data(name: str, raw: msgspec.Raw) -> _Data:
    """What the event's data say; those of a name that no stage looks into are not looked at."""
    decoder = _BY_NAME.get(name)
    if decoder is None:
        if not (name.startswith("checkout_") or name == "payment_info_submitted"):
            return _NOTHING
        decoder = _OF_CHECKOUT
    found = decoder.decode(raw)
    return _Data(**{field: getattr(found, field) for field in found.__struct_fields__}) if found else _NOTHING


def _amount(amount: _Amount | None, currency: str | None = None) -> Money | None:
    return money(amount.amount, amount.currencyCode or currency) if amount else None


def _value(data: _Data) -> Money | None:
    if data.checkout:
        return _amount(data.checkout.totalPrice, data.checkout.currencyCode)
    if data.productVariant:
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
    variants: list[_Variant | None] = []
    if data.productVariant:
        variants.append(data.productVariant)
    if data.cartLine:
        variants.append(data.cartLine.merchandise)
    for lines in (data.cart and data.cart.lines, data.checkout and data.checkout.lineItems):
        variants += map(_shown, lines or ())
    for products in (data.collection, data.searchResult):
        variants += (products.productVariants or ()) if products else ()
    bounded(variants)
    return distinct(map(_product, variants))


def _shown(line: _ViewedLine | _CheckoutLine | None) -> _Variant | None:
    if line is None:
        return None
    return line.variant if isinstance(line, _CheckoutLine) else line.merchandise


def _items(data: _Data) -> tuple[LineItem, ...]:
    if data.cartLine:
        product, count = _product(data.cartLine.merchandise), quantity(data.cartLine.quantity)
        return (LineItem(product, count),) if product else ()
    if data.checkout:
        checkout = data.checkout
        return tuple(item for line in checkout.lineItems or () if line and (item := _checkout_item(line, checkout)))
    return ()


def _checkout_item(line: _CheckoutLine, checkout: _Checkout) -> LineItem | None:
    price = line.variant.price if line.variant else None
    total = checkout.totalPrice.currencyCode if checkout.totalPrice else None
    currency = total or checkout.currencyCode or (price.currencyCode if price else None)
    discounts = [entry.amount.amount for entry in line.discountAllocations or () if entry and entry.amount]
    return line_item(_product(line.variant), line.quantity, price.amount if price else None, discounts, currency)


def _order(name: str, checkout: _Checkout, placed: _PlacedOrder) -> Order | None:
    token, order_id = identifier(checkout.token), identifier(placed.id)
    if name != CHECKOUT_COMPLETED or not (token or order_id):
        return None
    return Order(order_id, token, status="open", sighting=True)
