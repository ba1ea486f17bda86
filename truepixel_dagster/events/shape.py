"""The common parts of pixel and webhook payloads."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import Any, TypeAlias

import msgspec

from truepixel_dagster.events.ad import Ad
from truepixel_dagster.events.event import LineItem
from truepixel_dagster.events.field_error import FieldError, read_each
from truepixel_dagster.events.money import MAX_AMOUNT, Money, amount_of, currency_code, minor_units
from truepixel_dagster.events.order import OrderNews

# Shopify's pixel sends ids as strings, its webhooks as integers, its GraphQL as gid://shopify/Product/1.
Id: TypeAlias = int | str | None

# The default of TRUEPIXEL_LINES_PER_EVENT.
LINES_PER_EVENT = 2_000
MAX_QUANTITY = 1_000_000
MAX_ID_BYTES = 256
MAX_TEXT = 4_096
MAX_NAME_BYTES = 256
_GID = re.compile(r"gid://shopify/[^/?]+/([^/?]+)(?:\?.*)?", re.DOTALL)


class Facts(msgspec.Struct, frozen=True):
    """Hold the facts of a payload.

    `occurred_at` is the time as written, and `utc_offset` its offset in minutes. `order` is called with the arrival and
    returns what the payload says of an order. `landing` is the visit of a webhook's landing page, `came_from` the host
    outside of the shop that a page view came from.
    """

    name: str
    source: str
    event_id: str | None = None
    occurred_at: str | None = None
    url: str | None = None
    referrer: str | None = None
    came_from: str | None = None
    ad: Ad | None = None
    product_ids: tuple[str, ...] = ()
    items: tuple[LineItem, ...] = ()
    order: Callable[..., OrderNews | None] | None = None
    order_id: str | None = None
    landing: Ad | None = None
    user_agent: str | None = None
    utc_offset: int | None = None
    value: Money | None = None
    customer_id: str | None = None
    email_hash: str | None = None


def identifier(value: Id, field: str = "id") -> str | None:
    """Return an id as a string, `gid://shopify/Product/1?x` as `1`; None for null and the empty string.

    Raises:
        FieldError: Longer than 256 bytes.
    """
    if value is None or value == "":
        return None
    text = str(value)
    if text.startswith("gid://") and (found := _GID.fullmatch(text)):
        text = found[1]
    if longer_than(MAX_ID_BYTES, text):
        raise FieldError(field, f"longer than {MAX_ID_BYTES} bytes")
    return text


def longer_than(limit: int, text: str) -> bool:
    """Return whether a text takes more bytes than a limit, in UTF-8."""
    # A character has at most four bytes, so few texts must be encoded to measure them.
    return 4 * len(text) > limit and len(text.encode()) > limit


def money(
    amount: Decimal | None, currency: str | None, field: str = "amount", currency_field: str = "currency"
) -> Money | None:
    """Return an amount in major units as money; None if amount or currency is missing.

    Raises:
        FieldError: The amount or the currency is invalid.
    """
    code = _code(currency, currency_field) if currency else None
    if amount is None:
        return None
    try:
        if code is None:
            amount_of(amount)
            return None
        return Money(minor_units(amount, code), code)
    except ValueError as error:
        raise FieldError(field, str(error)) from None


def _code(currency: str, field: str) -> str:
    try:
        return currency_code(currency)
    except ValueError as error:
        raise FieldError(field, str(error)) from None


def quantity(value: int | None, field: str = "quantity") -> int:
    """Return a quantity; 1 if it is missing.

    Raises:
        FieldError: The quantity is not between 0 and 1,000,000.
    """
    count = 1 if value is None else value
    if not 0 <= count <= MAX_QUANTITY:
        raise FieldError(field, f"{str(count)[:20]} is not between 0 and {MAX_QUANTITY}")
    return count


def line_item(
    product: Id, count: int | None, price: Decimal | None, discounts: Iterable[Decimal | None], currency: str | None
) -> LineItem | None:
    """Return one line; None if it names no product (a tip, a custom item).

    Raises:
        FieldError: A quantity or an amount is out of bounds.
    """
    product_id = identifier(product, "variant.product.id")
    count = quantity(count)
    unit = money(price, currency, "variant.price.amount", "variant.price.currencyCode")
    reductions = read_each("discountAllocations", discounts, lambda each: money(each, currency, "amount.amount"))
    if product_id is None:
        return None
    if unit is None:
        return LineItem(product_id, count)
    off = sum(reduction.amount for reduction in reductions)
    revenue = unit.amount * count - off
    if abs(revenue) > MAX_AMOUNT:
        raise ValueError(f"{count} at {price} are beyond {MAX_AMOUNT} minor units")
    return LineItem(product_id, count, Money(revenue, unit.currency))


def distinct(ids: Iterable[str | None]) -> tuple[str, ...]:
    """Return the ids without repeats and nulls, in order of appearance."""
    return tuple(dict.fromkeys(item for item in ids if item))


def bounded(items: Sequence[object] | None, field: str, most: int) -> None:
    """Check the number of lines or products.

    Raises:
        FieldError: There are more than `most`.
    """
    if items and len(items) > most:
        raise FieldError(field, f"{len(items)} items, more than {most}")


def email_hash(*candidates: str | None) -> str | None:
    """Return the SHA-256 of the first address that is not empty, trimmed and lower-cased."""
    for address in candidates:
        normal = address.strip().lower() if address else ""
        if normal:
            return hashlib.sha256(normal.encode()).hexdigest()
    return None


def text(value: str | None) -> str | None:
    """Return a free text cut to 4,096 characters; None for the empty string."""
    return value[:MAX_TEXT] if value else None


def name_of(value: str | None) -> str | None:
    """Return the name of an event or topic; None for the empty string.

    Raises:
        ValueError: The name is longer than 256 bytes. Names are counted and listed, so a sender could fill the lists.
    """
    if value and longer_than(MAX_NAME_BYTES, value):
        raise ValueError(f"the name of the event is longer than {MAX_NAME_BYTES} bytes")
    return value or None


def word_of(value: Any) -> str:
    """Return a text trimmed and lower-cased; empty for anything else."""
    return value.strip().lower() if isinstance(value, str) else ""


def number_text(value: Any) -> str:
    """Return a number, or the text of one, as text; empty for anything else."""
    text = str(value).strip() if isinstance(value, (int, str)) and not isinstance(value, bool) else ""
    return text if text.isdigit() else ""
