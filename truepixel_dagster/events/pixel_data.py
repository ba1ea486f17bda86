"""Read the data of a pixel event, whose shape depends on the event's name."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import msgspec

from truepixel_dagster.events.event import LineItem
from truepixel_dagster.events.field_error import read_each, within
from truepixel_dagster.events.lenient import Reader
from truepixel_dagster.events.money import Money
from truepixel_dagster.events.pixel_checkout import LINES, item_of, total_of
from truepixel_dagster.events.pixel_payload import (
    ADDED_TO_CART,
    PRODUCT_VIEWED,
    REMOVED_FROM_CART,
    Cart,
    CartLine,
    Checkout,
    PricedVariant,
    Products,
    amount_of,
    products_of,
)
from truepixel_dagster.events.shape import quantity


class Said(NamedTuple):
    """Hold what the data of an event say, whatever its name."""

    product_ids: tuple[str, ...] = ()
    items: tuple[LineItem, ...] = ()
    value: Money | None = None
    checkout: Checkout | None = None


NOTHING = Said()


class _ViewedData(msgspec.Struct, omit_defaults=True):
    productVariant: PricedVariant | None = None  # noqa: N815

    def said(self, most: int) -> Said:
        variant = self.productVariant
        if variant is None:
            return NOTHING
        return Said(products_of([variant], most), value=amount_of(variant.price, "data.productVariant.price"))


class _LineData(msgspec.Struct, omit_defaults=True):
    cartLine: CartLine | None = None  # noqa: N815

    def said(self, most: int) -> Said:
        line = self.cartLine
        if line is None:
            return NOTHING
        value = amount_of(line.cost.totalAmount, "data.cartLine.cost.totalAmount") if line.cost else None
        products, count = products_of([line.merchandise], most), quantity(line.quantity, "data.cartLine.quantity")
        return Said(products, tuple(LineItem(product, count) for product in products), value)


class _CartData(msgspec.Struct, omit_defaults=True):
    cart: Cart | None = None

    def said(self, most: int) -> Said:
        if self.cart is None:
            return NOTHING
        lines, cost = self.cart.lines or (), self.cart.cost
        value = amount_of(cost.totalAmount, "data.cart.cost.totalAmount") if cost else None
        return Said(products_of([line.merchandise if line else None for line in lines], most), value=value)


class CheckoutData(msgspec.Struct, omit_defaults=True):
    """Hold the data of the events of a checkout."""

    checkout: Checkout | None = None

    def said(self, most: int) -> Said:
        checkout = self.checkout
        if checkout is None:
            return NOTHING
        lines = checkout.lineItems or ()
        # Read the total first, so that an error in a shared field names the total's.
        value = total_of(checkout)
        return Said(
            product_ids=products_of([line.variant if line else None for line in lines], most),
            items=read_each(LINES, lines, lambda line: item_of(line, checkout)),
            value=value,
            checkout=checkout,
        )


class _CollectionData(msgspec.Struct, omit_defaults=True):
    collection: Products | None = None

    def said(self, most: int) -> Said:
        return _shown(self.collection, most)


class _SearchData(msgspec.Struct, omit_defaults=True):
    searchResult: Products | None = None  # noqa: N815

    def said(self, most: int) -> Said:
        return _shown(self.searchResult, most)


PixelData: TypeAlias = "_ViewedData | _LineData | _CartData | CheckoutData | _CollectionData | _SearchData"


# Created at import, because two threads may use a type for the first time at once.
_BY_NAME: dict[str, Reader[Any]] = {
    PRODUCT_VIEWED: Reader(_ViewedData | None),
    ADDED_TO_CART: Reader(_LineData | None),
    REMOVED_FROM_CART: Reader(_LineData | None),
    "cart_viewed": Reader(_CartData | None),
    "collection_viewed": Reader(_CollectionData | None),
    "search_submitted": Reader(_SearchData | None),
}
_OF_CHECKOUT: Reader[Any] = Reader(CheckoutData | None)


def data_of(name: str, raw: msgspec.Raw) -> PixelData | None:
    """Return the event's data; None if no stage uses the data of events of this name."""
    reader = _BY_NAME.get(name)
    if reader is None:
        if not (name.startswith("checkout_") or name == "payment_info_submitted"):
            return None
        reader = _OF_CHECKOUT
    try:
        found: PixelData | None = reader.decode(raw)
    except ValueError as error:
        raise within("data", error) from None
    return found


def _shown(products: Products | None, most: int) -> Said:
    return Said(products_of(products.productVariants or (), most)) if products else NOTHING
