"""The changes of an order after it was placed, and their times."""

from __future__ import annotations

from itertools import zip_longest
from typing import TypeAlias

from truepixel_dagster.local.payloads.model import Purchase
from truepixel_dagster.local.traffic import changes
from truepixel_dagster.local.traffic.chance import HOUR, MINUTE, SECOND, happens
from truepixel_dagster.local.traffic.changes import Change
from truepixel_dagster.local.traffic.refunds import refunds_of
from truepixel_dagster.local.traffic.webhooks import of_order
from truepixel_dagster.local.traffic.world import Deliveries, Journey, Placed, World

Plan: TypeAlias = "list[tuple[int, Change]]"


def webhooks_of(world: World, placed: Placed, change: Change, at: int) -> Deliveries:
    """Change an order; return the webhooks of the change."""
    placed.order, webhooks = change(world, placed.order, at)
    placed.deleted = placed.deleted or change is changes.deleted
    return of_order(world, placed, placed.order.purchase, at, webhooks)


def followed(world: World, placed: Placed, plan: Plan) -> Journey:
    """Yield the webhooks of each planned change."""
    for (at, change), later in zip_longest(plan, plan[1:]):
        yield webhooks_of(world, placed, change, at), later[0] if later else None


def plan_of(world: World, purchase: Purchase, *, paid: bool) -> Plan:
    """Plan the changes of an order after its creation, in order of time.

    Arguments:
        world: The source of chance and its profile.
        purchase: The order.
        paid: Whether it was paid at once.
    """
    plan = _course(world, purchase, paid=paid)
    is_cancelled = any(change is changes.cancelled for _, change in plan)
    if world.profile.every_change and not is_cancelled:
        plan = sorted(plan + _extras(world, purchase, plan, paid=paid), key=lambda step: step[0])
    if (purchase.test or is_cancelled) and happens(world.rng, world.profile.deleted):
        plan.append((plan[-1][0] + _hours(world, 0.5, 10), changes.deleted))
    return plan


def _course(world: World, purchase: Purchase, *, paid: bool) -> Plan:
    """Plan payment, cancellation, fulfilment and refunds."""
    rng, profile = world.rng, world.profile
    fate = rng.random()
    cancelled = fate < profile.cancelled
    settled = purchase.started_at + (2 * SECOND if paid else _hours(world, 1, 40))
    if cancelled and not paid:
        return [(settled, changes.cancelled)]
    if not paid and happens(rng, profile.voided):
        return [(settled, changes.voided)]
    plan: Plan = [(settled, changes.paid)]
    if cancelled:
        plan.append((settled + _hours(world, 0.2, 20), changes.cancelled))
    elif fate < profile.cancelled + profile.refunded + profile.updated:
        updated = settled + _hours(world, 1, 30)
        plan.append((updated, changes.fulfilled))
        if fate < profile.cancelled + profile.refunded:
            plan += refunds_of(world, updated + _hours(world, 2, 60))
    return plan


def _extras(world: World, purchase: Purchase, plan: Plan, *, paid: bool) -> Plan:
    """Plan an offer after the payment, and edits by the merchant before any other change."""
    extras: Plan = []
    settled, change = plan[0]
    if paid and purchase.checkout_token and happens(world.rng, world.profile.upsold):
        extras.append((settled + int(world.rng.uniform(0.3, 4) * MINUTE), changes.upsold))
    if change is changes.paid and happens(world.rng, world.profile.edited):
        # The order's next change comes later than this.
        edited = settled + int(world.rng.uniform(5, 8) * MINUTE)
        way = world.rng.random()
        edit, after = (changes.added, changes.paid) if way < 0.5 else (changes.removed, changes.settled)
        extras.append((edited, edit))
        if way < 0.8:
            extras.append((edited + int(world.rng.uniform(0.5, 3) * MINUTE), after))
    return extras


def _hours(world: World, least: float, most: float) -> int:
    """Choose a duration in milliseconds, scaled by the profile's pace."""
    return int(world.rng.uniform(least, most) * world.profile.pace * HOUR)
