"""Purchases: what is bought, at which price, and by which way."""

from __future__ import annotations

from typing import Any

import msgspec

from truepixel_dagster.local.payloads.model import Customer, Line, Presentment, Purchase, Shop
from truepixel_dagster.local.traffic.chance import geometric, happens, shopify_id, token
from truepixel_dagster.local.traffic.shops import price
from truepixel_dagster.local.traffic.world import World

# Orders of more than this many dollars are shipped for nothing, in cents.
_SHIPPED_FREE = 8000


def line_of(world: World, shop: Shop) -> Line:
    """Some of one of the shop's products."""
    return Line(shopify_id(world.rng), world.rng.choice(shop.products), 1 + geometric(world.rng, 0.3))


def tax_on(units: int) -> int:
    """The tax on an amount, in minor units."""
    return units * 8 // 100


def purchase_of(
    world: World, shop: Shop, customer: Customer, lines: tuple[Line, ...], at: int, **fields: Any
) -> Purchase:
    """A purchase, with a discount code now and then.

    Arguments:
        world: What chooses, and how often.
        shop: Where.
        customer: By whom.
        lines: What.
        at: When, in milliseconds since the epoch.
        fields: Of `Purchase`. One that names its `source_name` is not placed in the online shop, and ships nothing.
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
    """Tests of the merchant, and the first orders of subscriptions."""
    fields: dict[str, Any] = {}
    if happens(world.rng, world.profile.test):
        fields["test"] = True
    if happens(world.rng, world.profile.subscribed):
        fields["tags"] = "Subscription, Subscription First Order"
    return fields
