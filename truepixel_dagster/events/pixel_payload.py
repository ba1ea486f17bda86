"""The names of Shopify's web pixel events, and the objects in their payloads: only the fields that stages use.

The objects have the names and fields of Shopify's reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec

from truepixel_dagster.events.field_error import within
from truepixel_dagster.events.money import Money
from truepixel_dagster.events.shape import Id, bounded, distinct, identifier, money

PRODUCT_VIEWED = "product_viewed"
ADDED_TO_CART = "product_added_to_cart"
REMOVED_FROM_CART = "product_removed_from_cart"
CHECKOUT_STARTED = "checkout_started"
CHECKOUT_COMPLETED = "checkout_completed"


class Amount(msgspec.Struct, omit_defaults=True):
    amount: Decimal | None = None
    currencyCode: str | None = None  # noqa: N815 (Shopify's name)


class Number(msgspec.Struct, omit_defaults=True):
    amount: Decimal | None = None


class WithId(msgspec.Struct, omit_defaults=True):
    id: Id = None


class Variant(msgspec.Struct, omit_defaults=True):
    product: WithId | None = None


class PricedVariant(Variant, omit_defaults=True):
    price: Amount | None = None


class Discount(msgspec.Struct, omit_defaults=True):
    amount: Number | None = None


class CheckoutLine(msgspec.Struct, omit_defaults=True):
    quantity: int | None = None
    variant: PricedVariant | None = None
    discountAllocations: list[Discount | None] | None = None  # noqa: N815


class Buyer(WithId, omit_defaults=True):
    isFirstOrder: Any = None  # noqa: N815 (Shopify's name)


class PlacedOrder(msgspec.Struct, omit_defaults=True):
    id: Id = None
    customer: Buyer | None = None


class Checkout(msgspec.Struct, omit_defaults=True):
    token: Id = None
    cartToken: Any = None  # noqa: N815
    cart_token: Any = None
    currencyCode: str | None = None  # noqa: N815
    email: str | None = None
    totalPrice: Amount | None = None  # noqa: N815
    lineItems: list[CheckoutLine | None] | None = None  # noqa: N815
    order: PlacedOrder | None = None


class Cost(msgspec.Struct, omit_defaults=True):
    totalAmount: Amount | None = None  # noqa: N815


class ViewedLine(msgspec.Struct, omit_defaults=True):
    merchandise: Variant | None = None


class CartLine(ViewedLine, omit_defaults=True):
    cost: Cost | None = None
    quantity: int | None = None


class Cart(msgspec.Struct, omit_defaults=True):
    cost: Cost | None = None
    lines: list[ViewedLine | None] | None = None


class Products(msgspec.Struct, omit_defaults=True):
    productVariants: list[Variant | None] | None = None  # noqa: N815


def amount_of(amount: Amount | None, field: str) -> Money | None:
    """Return an amount with its currency; an error names the field."""
    if amount is None:
        return None
    try:
        return money(amount.amount, amount.currencyCode, "amount", "currencyCode")
    except ValueError as error:
        raise within(field, error) from None


def product_of(variant: Variant | None) -> str | None:
    """Return the id of a variant's product."""
    return identifier(variant.product.id, "product.id") if variant and variant.product else None


def products_of(variants: Sequence[Variant | None], most: int) -> tuple[str, ...]:
    """Return the ids of the variants' products, each once; more than `most` variants are an error."""
    bounded(variants, "data", most)
    return distinct(map(product_of, variants))
