"""Read pixel events: Shopify's web pixel standard events.

Fields: https://shopify.dev/docs/api/web-pixels-api/standard-events (`data.checkout` of `checkout_completed` and the
other `checkout_*` events; amounts are what the buyer saw).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from truepixel_dagster.audit.oracle.channels import Channels
from truepixel_dagster.audit.oracle.events import Checkout, Content, Line
from truepixel_dagster.audit.oracle.records import DeadLetter, Doc, Shop
from truepixel_dagster.audit.oracle.shapes import PIXEL_CHECKOUT, check_types
from truepixel_dagster.audit.oracle.values import (
    currency,
    cut,
    distinct,
    email_hash,
    id_,
    inside,
    minor,
    money,
    number,
    objects,
    order_name,
    quantity,
    text,
)


def pixel_content(name: str, payload: Doc, shop: Shop, domain: str | None, channels: Channels) -> Content:
    """Return the content of the event, with the visit of its page."""
    page = inside(payload, "context", "document")
    location = inside(page, "location")
    url = text(location.get("href"), "href")
    search = text(location.get("search"), "search")
    referrer = text(page.get("referrer"), "referrer")
    own = [*shop.domains, domain or ""]
    return replace(
        _data(name, payload),
        url=cut(url),
        referrer=cut(referrer),
        ad=channels.visit(url, search, referrer, own, shop.aliases),
        referrer_host=channels.outside(url, referrer, own),
    )


def _data(name: str, payload: Doc) -> Content:
    if name == "product_viewed":
        return _viewed_product(inside(payload, "data", "productVariant"))
    if name in ("product_added_to_cart", "product_removed_from_cart"):
        return _cart_line(inside(payload, "data", "cartLine"))
    if name == "cart_viewed":
        return _viewed_cart(inside(payload, "data", "cart"))
    if name == "collection_viewed":
        return _viewed_products(inside(payload, "data", "collection"))
    if name == "search_submitted":
        return _viewed_products(inside(payload, "data", "searchResult"))
    if name.startswith("checkout_") or name == "payment_info_submitted":
        check_types(inside(payload, "data").get("checkout"), PIXEL_CHECKOUT, "checkout")
        return _checkout(name, inside(payload, "data", "checkout"))
    return Content()


def _product_of(variant: Doc) -> str | None:
    return id_(inside(variant, "product").get("id"), "product id")


def _price(price: Doc) -> Doc | None:
    return money(price.get("amount"), currency(price.get("currencyCode"), "currencyCode"))


def _viewed_product(variant: Doc) -> Content:
    return Content(product_ids=distinct([_product_of(variant)]), value=_price(inside(variant, "price")))


def _cart_line(line: Doc) -> Content:
    return Content(
        product_ids=distinct([_product_of(inside(line, "merchandise"))]),
        value=_price(inside(line, "cost", "totalAmount")),
        quantity=quantity(line.get("quantity")),
    )


def _viewed_cart(cart: Doc) -> Content:
    lines = objects(cart.get("lines"), "lines")
    return Content(
        product_ids=distinct(_product_of(inside(line, "merchandise")) for line in lines),
        value=_price(inside(cart, "cost", "totalAmount")),
    )


def _viewed_products(shown: Doc) -> Content:
    return Content(product_ids=distinct(map(_product_of, objects(shown.get("productVariants"), "productVariants"))))


# --- Checkouts ---


def _checkout(name: str, checkout: Doc) -> Content:
    total = inside(checkout, "totalPrice")
    code = currency(total.get("currencyCode"), "currencyCode") or currency(checkout.get("currencyCode"), "currencyCode")
    lines = [_line(item, code) for item in objects(checkout.get("lineItems"), "lineItems")]
    order = inside(checkout, "order")
    customer = inside(order, "customer")
    value = money(total.get("amount"), code, "totalPrice")
    told = Checkout(
        completed=name == "checkout_completed",
        order_id=order_name(order.get("id"), "order id"),
        checkout_token=order_name(checkout.get("token"), "checkout token"),
        cart_token=_cart_token(checkout),
        value=value,
        lines=lines,
        first_order=_boolean(customer.get("isFirstOrder")),
    )
    return Content(
        product_ids=distinct(line.product for line in lines),
        order_id=told.order_id,
        value=value,
        email_hash=email_hash([checkout.get("email")]),
        customer_id=id_(customer.get("id"), "customer id"),
        checkout=told if told.order_id or told.checkout_token or told.cart_token else None,
    )


def _cart_token(checkout: Doc) -> str | None:
    """Return the cart token, which shops' scripts add to Shopify's fields; an invalid token is missing."""
    try:
        tokens: Iterable[Any] = (order_name(checkout.get(name), name) for name in ("cartToken", "cart_token"))
        return next((token for token in tokens if token), None)
    except DeadLetter:
        return None


def _boolean(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _line(item: Doc, code: str | None) -> Line:
    variant = inside(item, "variant")
    price = inside(variant, "price")
    allocations = objects(item.get("discountAllocations"), "discountAllocations")
    code = code or currency(price.get("currencyCode"), "currencyCode")
    amount = number(price.get("amount"), "price")
    discounts = [number(inside(each, "amount").get("amount"), "discountAllocations") for each in allocations]
    line = Line(
        id=None,
        product=_product_of(variant),
        quantity=quantity(item.get("quantity")),
        left=None,
        price=None if amount is None or code is None else minor(amount, code),
        discount=0 if code is None else sum(minor(each, code) for each in discounts if each is not None),
        currency=code,
    )
    sold = (line.price or 0) * line.quantity - line.discount
    if line.product is not None and line.price is not None and abs(sold) > 10**15:
        raise DeadLetter("lineItems: revenue beyond 10^15 minor units")
    return line
