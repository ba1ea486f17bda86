"""Journeys over hours and days: visits, a purchase, and the later changes of its order."""

from __future__ import annotations

import msgspec

from truepixel_dagster.local.payloads.about_order import shop_webhook
from truepixel_dagster.local.payloads.model import Order, Purchase, Shop, Visitor
from truepixel_dagster.local.traffic import changes
from truepixel_dagster.local.traffic.campaigns import Source, source_of
from truepixel_dagster.local.traffic.chance import DAY, HOUR, MINUTE, geometric, happens, token
from truepixel_dagster.local.traffic.lifecycle import followed, plan_of, webhooks_of
from truepixel_dagster.local.traffic.shops import ZONES
from truepixel_dagster.local.traffic.visit import Cart, Visit
from truepixel_dagster.local.traffic.webhooks import webhook
from truepixel_dagster.local.traffic.world import Journey, Placed, World


def journey(world: World, visitor: Visitor, at: int, *, shopper: bool) -> Journey:
    """Yield a visitor's visits; a shopper's last one may end in an order, whose changes follow."""
    rng, profile, shop = world.rng, world.profile, visitor.shop
    curiosity = 5.0 if shopper else 2.2 if rng.random() < 0.5 else 0.4
    visits = 1 + int(rng.expovariate(0.5 if shopper else 1.6))
    cart = Cart(token(rng))
    source = source_of(rng, profile, shop, at)
    for remaining in reversed(range(visits)):
        visit = Visit(world, visitor, at, source, cart)
        visit.browse(pages=geometric(rng, curiosity), shopper=shopper)
        if shopper and not remaining and cart.lines and rng.random() < 0.75:
            yield from _ordered(visit)
            return
        if cart.lines and rng.random() < 0.2:
            visit.abandon_checkout()
        # Some return through the same ad within minutes, most hours or days later through another ad or none.
        soon = rng.random() < 0.15
        at = visit.at + int(rng.uniform(3, 25) * MINUTE if soon else (0.7 + rng.expovariate(1 / 9)) * HOUR)
        source = source if soon or rng.random() < 0.12 else source_of(rng, profile, shop, at)
        yield visit.finish(), at if remaining else None


def crawl(world: World, crawler: Visitor, at: int) -> Journey:
    """Yield a crawler's only visit. Some crawlers follow the links of ads."""
    rng = world.rng
    source = source_of(rng, world.profile, crawler.shop, at) if rng.random() < 0.15 else Source("", "")
    visit = Visit(world, crawler, at, source, Cart(token(rng)))
    visit.crawl(pages=geometric(rng, 4.0))
    yield visit.finish(), None


def shop_update(world: World, shop: Shop, at: int) -> Journey:
    """Yield the webhook with the shop's time zone, currency and domains."""
    value = shop_webhook(shop, ZONES[shop.market.country_code], at)
    yield [webhook(world.rng, shop, shop.domain, "shop/update", value, at)], None


def _ordered(visit: Visit) -> Journey:
    """Yield a visit that places an order, which the pixel, webhooks or both report, then the order's later webhooks."""
    world, rng, profile = visit.world, visit.rng, visit.world.profile
    if happens(rng, profile.shared_carts):
        _bought_before(visit)
    purchase = visit.check_out()
    placed = _placed(visit, purchase)
    seen_by = rng.random()
    if seen_by < 1 - profile.no_pixel:
        _seen(visit, placed)
    if seen_by < profile.no_webhooks:
        yield visit.finish(), None
        return
    paid = rng.random() < profile.paid_at_once
    placed.order = msgspec.structs.replace(placed.order, status="paid" if paid else _unpaid(world))
    visit.deliveries += webhooks_of(world, placed, changes.created, purchase.started_at)
    plan = plan_of(world, purchase, paid=paid)
    yield visit.finish(), plan[0][0]
    yield from followed(world, placed, plan)


def _bought_before(visit: Visit) -> None:
    """Place an order from the same cart through a checkout of its own; nothing happens to it after its payment."""
    visit.cart.shared = True
    purchase = visit.check_out()
    placed = _placed(visit, purchase)
    _seen(visit, placed)
    for change in (changes.created, changes.paid):
        visit.deliveries += webhooks_of(visit.world, placed, change, purchase.started_at)


def _seen(visit: Visit, placed: Placed) -> None:
    """Report the order by the pixel, sometimes again when the buyer opens the page once more."""
    placed.pixel = True
    visit.complete(placed.order.purchase)
    if happens(visit.rng, visit.world.profile.seen_again):
        visit.complete(placed.order.purchase, delay=int(visit.rng.uniform(0.2, 3) * DAY))


def _placed(visit: Visit, purchase: Purchase) -> Placed:
    visitor = visit.visitor
    order = Order(purchase, purchase.started_at, "paid")
    return visit.world.place(order, None if visitor.anonymous else visitor.client_id)


def _unpaid(world: World) -> str:
    """Choose the financial status of an order that is not paid at once."""
    return "authorized" if world.profile.every_change and world.rng.random() < 0.5 else "pending"
