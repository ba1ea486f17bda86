"""Orders without a buyer's browser: at the till, from a draft, a subscription, an import, another sales channel."""

from __future__ import annotations

from bisect import bisect
from itertools import accumulate
from typing import Any

from truepixel_dagster.local.payloads.model import Order, Shop, Visitor
from truepixel_dagster.local.traffic import changes
from truepixel_dagster.local.traffic.chance import DAY, geometric
from truepixel_dagster.local.traffic.lifecycle import followed, plan_of, webhooks_of
from truepixel_dagster.local.traffic.purchases import line_of, purchase_of
from truepixel_dagster.local.traffic.visitors import customer_of
from truepixel_dagster.local.traffic.world import Journey, World


def offline_order(world: World, shop: Shop, at: int, known: list[Visitor]) -> Journey:
    """Yield the webhooks of such an order: it has no checkout, no cart and no ad.

    Arguments:
        world: The source of chance and its profile.
        shop: The shop.
        at: The time of the order, in milliseconds since the epoch.
        known: Earlier visitors; some of them also buy without the online shop.
    """
    rng = world.rng
    lines = tuple(line_of(world, shop) for _ in range(1 + geometric(rng, 0.8)))
    weights = list(accumulate(world.profile.offline_kinds))
    fields = _KINDS[bisect(weights, rng.random() * weights[-1])](world, at)
    customer = customer_of(rng)
    mine = [visitor for visitor in known if visitor.shop is shop] if world.profile.every_change else []
    if mine and rng.random() < 0.4:
        buyer = rng.choice(mine)
        customer = buyer.customer
        buyer.history.orders += 1
        fields["nth"] = buyer.history.orders
        if fields["source_name"].startswith("subscription") and shop.passes_client and not buyer.anonymous:
            # Subscription apps copy the first order's attributes to its renewals.
            fields["client_id"] = buyer.client_id
    elif fields["source_name"] == "pos" and world.profile.every_change:
        fields["walk_in"] = rng.random() < 0.5
    purchase = purchase_of(world, shop, customer, lines, at, **fields)
    placed = world.place(Order(purchase, at, "paid"), None)
    plan = plan_of(world, purchase, paid=True)
    yield webhooks_of(world, placed, changes.created, at), plan[0][0]
    yield from followed(world, placed, plan)


def _till(world: World, _at: int) -> dict[str, Any]:
    if not world.profile.every_change:
        return {"source_name": "pos"}
    return {"source_name": world.rng.choice(("pos", "pos", "pos", "iphone", "android")), "app_id": 129785}


def _draft(world: World, _at: int) -> dict[str, Any]:
    return {"source_name": "shopify_draft_order"} | ({"app_id": 1354745} if world.profile.every_change else {})


def _renewal(world: World, _at: int) -> dict[str, Any]:
    name = world.rng.choice(("subscription_contract", "subscription_contract_checkout_one"))
    return {"source_name": name, "app_id": 294517, "tags": "Subscription, Subscription Recurring Order"}


def _import(world: World, at: int) -> dict[str, Any]:
    """Return the fields of an order of another system, processed long before it was created in this shop."""
    source_name, tags = world.rng.choice((("1758145", "imported"), ("import", ""), ("matrixify", "Imported")))
    back = int(world.rng.uniform(0.1, 40) * DAY)
    return {"source_name": source_name, "app_id": 1758145, "tags": tags, "processed_at": at - back}


def _elsewhere(world: World, _at: int) -> dict[str, Any]:
    name = world.rng.choice(("amazon-us", "ebay", "tiktok_shop", "6167201"))
    return {"source_name": name, "app_id": 6167201}


_KINDS = (_till, _draft, _renewal, _import, _elsewhere)
