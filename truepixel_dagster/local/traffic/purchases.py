"""Purchases: products, prices and the way of buying."""

from __future__ import annotations

from typing import Any

import msgspec

from truepixel_dagster.local.payloads.model import Customer, Line, Presentment, Purchase, Shop
from truepixel_dagster.local.traffic.chance import geometric, happens, shopify_id, token
from truepixel_dagster.local.traffic.shops import price
from truepixel_dagster.local.traffic.world import World

# Orders above this value, in cents of a dollar, are shipped free.
_SHIPPED_FREE = 8000


def line_of(world: World, shop: Shop) -> Line:
    """Choose a product of the shop and a quantity."""
    return Line(shopify_id(world.rng), world.rng.choice(shop.products), 1 + geometric(world.rng, 0.3))


def tax_on(units: int) -> int:
    """Return the tax on an amount, in minor units."""
    return units * 8 // 100


def purchase_of(
    world: World, shop: Shop, customer: Customer, lines: tuple[Line, ...], at: int, **fields: Any
) -> Purchase:
    """Return a purchase; some have a discount code.

    Arguments:
        world: The source of chance and its profile.
        shop: The shop.
        customer: The buyer.
        lines: What is bought.
        at: The time, in milliseconds since the epoch.
        fields: Further fields of `Purchase`. With a `source_name` it is not from the online shop, and ships nothing.
    """
    rng = world.rng
    online = "source_name" not in fields
    percent = rng.choice((10, 15, 20)) if rng.random() < 0.3 else 0
    free = online and happens(rng, world.profile.free)
    lines = tuple(_discounted(line, 100 if free else percent) for line in lines)
    paid_for = sum(line.full_price - line.discount for line in lines)
    order_id = shopify_id(rng)
    unshipped = paid_for > _SHIPPED_FREE * shop.market.price_level or not online or free
    if online:
        fields |= _kind(world)
    fields.setdefault("presentment", Presentment(shop.market))
    return Purchase(
        shop=shop,
        customer=customer,
        lines=lines,
        checkout_id=shopify_id(rng),
        order_id=order_id,
        order_token=token(rng),
        number=1001 + order_id % 90_000,
        shipping=0 if unshipped else price(shop.market, 6),
        tax=tax_on(paid_for),
        started_at=at,
        discount_code="SAMPLE" if free else f"SAVE{percent}" if percent else None,
        **fields,
    )


def _discounted(line: Line, percent: int) -> Line:
    return msgspec.structs.replace(line, discount=line.full_price * percent // 100) if percent else line


def _kind(world: World) -> dict[str, Any]:
    """Choose whether it is a merchant's test, and whether it is the first order of a subscription."""
    fields: dict[str, Any] = {}
    if happens(world.rng, world.profile.test):
        fields["test"] = True
    if happens(world.rng, world.profile.subscribed):
        fields["tags"] = "Subscription, Subscription First Order"
    return fields
