"""Define the shop that a person clicks through: its products, and its orders as Shopify reports them.

shop = STOREFRONT
purchase = purchase_of([Wanted("linen-shirt", 2)], client_id="c-1", landing="/?utm_source=google", referrer="", at=0)
signed_body = order_webhook(purchase)
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import msgspec

from truepixel_dagster.local.payloads.model import Customer, Line, Market, Order, Presentment, Product, Purchase, Shop
from truepixel_dagster.local.payloads.order import order_webhook
from truepixel_dagster.local.payloads.pixel import variant
from truepixel_dagster.local.traffic.chance import shopify_id, token

MOST_OF_A_LINE = 99
_DOMAIN = "corner-shop.myshopify.com"
_MARKET = Market(
    "USD", 0, 1, True, "en-US", "United States", "US", "New York", "NY", "New York", "10013", "33 Spring St"
)
_SHIPPING = 500


class UnknownProduct(ValueError):
    """The shop does not sell this product, or not in this quantity."""


class Wanted(msgspec.Struct, frozen=True):
    """Hold a line of the cart: a product's handle and the quantity."""

    handle: str
    quantity: int


def _product(number: int, handle: str, title: str, vendor: str, price: int) -> Product:
    ids: dict[str, Any] = {"id": 7_700_000_000_000 + number, "variant_id": 47_700_000_000_000 + number}
    fields = ids | {"handle": handle, "vendor": vendor, "sku": f"CS-{number:04d}", "price": price}
    shown = variant(_MARKET.currency, _DOMAIN, title=title, variant_title=None, **fields)
    return Product(title=title, variant_title=None, pixel=shown, **fields)


#: The shop of the storefront; README's example uses it, too.
STOREFRONT = Shop(
    id="70000000001",
    domain=_DOMAIN,
    host=_DOMAIN,
    market=_MARKET,
    passes_client=True,
    sends_cart_webhooks=False,
    products=(
        _product(1, "linen-shirt", "Linen Shirt", "Atelier Lumen", 5900),
        _product(2, "oak-lamp", "Oak Lamp", "Northwind Goods", 8900),
        _product(3, "everyday-mug", "Everyday Mug", "Kumo Works", 1800),
        _product(4, "alpine-backpack", "Alpine Backpack", "Northwind Goods", 12900),
        _product(5, "wool-blanket", "Wool Blanket", "Atelier Lumen", 9900),
        _product(6, "pocket-notebook", "Pocket Notebook", "Kumo Works", 1200),
    ),
    campaigns=(),
    full_payloads=True,
)
_BY_HANDLE = {product.handle: product for product in STOREFRONT.products}


def purchase_of(
    cart: Sequence[Wanted], *, client_id: str, landing: str, referrer: str, at: int, rng: random.Random | None = None
) -> Purchase:
    """Return a checkout of a cart.

    Arguments:
        cart: At least one line.
        client_id: The browser's client id, which the theme writes into the cart.
        landing: Path and query string of the visit's first page.
        referrer: The page that the visit came from; empty for none.
        at: The time in milliseconds since the epoch.
        rng: Chooses the ids.

    Raises:
        UnknownProduct: The cart is empty or has a product that the shop does not sell.
    """
    rng = rng or random.SystemRandom()
    if not cart or any(not 0 < line.quantity <= MOST_OF_A_LINE or line.handle not in _BY_HANDLE for line in cart):
        raise UnknownProduct(f"the cart must have products of the shop, 1 to {MOST_OF_A_LINE} of each")
    order_id = shopify_id(rng)
    return Purchase(
        shop=STOREFRONT,
        customer=Customer(shopify_id(rng), "you@example.com", "You", "Yourself", None),
        lines=tuple(Line(shopify_id(rng), _BY_HANDLE[line.handle], line.quantity) for line in cart),
        presentment=Presentment(_MARKET),
        checkout_id=shopify_id(rng),
        order_id=order_id,
        order_token=token(rng),
        number=1001 + order_id % 9000,
        shipping=_SHIPPING,
        tax=0,
        started_at=at,
        checkout_token=token(rng),
        cart_token=token(rng),
        client_id=client_id,
        landing=landing,
        referrer=referrer or None,
    )


def created(purchase: Purchase) -> bytes:
    """Return the body of the purchase's webhook `orders/create`."""
    return order_webhook(Order(purchase, purchase.started_at, "paid"))
