"""The rules, touches and days with which the stages settle orders."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from truepixel_dagster.events.event import Event
from truepixel_dagster.events.shop_time import ShopDays
from truepixel_dagster.events.touch import Touch
from truepixel_dagster.orders.cluster import Settling
from truepixel_dagster.orders.event_facts import sighting_of_visit
from truepixel_dagster.orders.journey import Rules, touches_until
from truepixel_dagster.settings import Settings
from truepixel_dagster.stages.ad_lead import NotedOrder


class StageRules(NamedTuple):
    """Hold the stages' settings: the rules of attribution, and when the same visit counts again (ms)."""

    attribution: Rules
    touch_repeat: int


def stage_rules_of(settings: Settings) -> StageRules:
    """Return the rules of the stages from the settings."""
    return StageRules(rules_of(settings), int(settings.touch_repeat * 1000))


def rules_of(settings: Settings) -> Rules:
    """Return the rules of attribution from the settings."""
    return Rules(
        settings.attribution_window_days,
        settings.attribution_half_life_days,
        settings.touches_kept,
        sightings_kept=settings.sightings_kept,
        products_per_event=settings.products_per_event,
        clients_per_order=settings.clients_per_order,
        ids_per_order=settings.ids_per_order,
    )


def with_visits(events: Sequence[Event], orders: Mapping[str, Sequence[NotedOrder]]) -> list[Event]:
    """Return the events, each visit followed by a sighting for every order whose note names its user.

    Arguments:
        events: The events that continue, in order.
        orders: Stage 2's result: the orders whose notes name a user.
    """
    if not orders:
        return list(events)
    found: list[Event] = []
    for event in events:
        found.append(event)
        if event.ad:
            noted = (order for order in orders.get(event.user, ()) if event.occurred_at <= order.until)
            found += (sighting_of_visit(event, order.kind, order.id) for order in noted)
    return found


def settling(
    rules: Rules,
    touches: Mapping[str, Sequence[Touch]],
    days: ShopDays,
    is_applied: Callable[[int, int], bool],
) -> Settling:
    """Return the data with which orders are settled.

    Arguments:
        rules: The rules of attribution.
        touches: Stage 2's result: all touches by user.
        days: Maps times to the days of shops.
        is_applied: Whether the product statistics contain the changes of the record at a partition and offset.
    """

    def touches_of(event: Event) -> Sequence[Touch]:
        origin = event.origin
        return touches_until(touches.get(event.user, ()), origin.partition, origin.offset, rules.touches_kept)

    def noted_touches(event: Event) -> Sequence[Touch]:
        noted = event.order.noted_client if event.order else None
        return touches.get(f"{event.shop_id}:{noted}", ()) if noted else ()

    return Settling(rules, touches_of, noted_touches, lambda shop: days.of(shop).day, is_applied)
