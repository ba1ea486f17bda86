"""Whose order it is, and which visits led to it.

>>> from truepixel_dagster.events.ad import Ad
>>> from truepixel_dagster.events.touch import Touch
>>> from truepixel_dagster.orders.journey import touches_until
>>> seen = [Touch(f"e{n}", f"2026-01-0{n}T10:00:00.000Z", Ad("google"), 0, n) for n in (1, 2, 3)]
>>> [touch.event_id for touch in touches_until(seen, partition=0, offset=2, kept=50)]
['e1', 'e2']
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from truepixel_dagster.events.event import DAY, iso
from truepixel_dagster.events.order import ONLINE
from truepixel_dagster.events.touch import Touch
from truepixel_dagster.orders.credit import ENDS_PERCENT
from truepixel_dagster.orders.facts import CLIENTS_KEPT, CLOCK_GRACE, ClientFacts, Kept, preference
from truepixel_dagster.orders.order import Order

NO_RECORD = -1


class Rules(msgspec.Struct, frozen=True):
    """Hold the rules that an operator may set: window in days, half-life in days, the number of newest touches that
    count, the share of position_based for the first and for the last touch, and the limits per order: sightings in a
    document, products that count, clients and ids."""

    window_days: int
    half_life_days: float
    touches_kept: int
    position_ends_percent: int = ENDS_PERCENT
    sightings_kept: int = 50
    products_per_event: int = 2_000
    clients_per_order: int = CLIENTS_KEPT
    ids_per_order: int = 2_000

    @property
    def kept(self) -> Kept:
        """Return how much of an order is kept."""
        return Kept(self.sightings_kept, self.touches_kept, self.clients_per_order)


class Journey(msgspec.Struct, frozen=True):
    """Hold the client of an order, None if unknown, and the visits before it, in order."""

    client: str | None
    touches: tuple[Touch, ...]


def journey_of(order: Order, rules: Rules) -> Journey:
    """Return whose order it is and which visits led to it.

    Of the clients that name the order, one with a journey wins over one without; then `preference` decides. An order
    without a visit of its own has the landing page in its webhook, at the order's time. An order that was not placed
    online has no journey.
    """
    journeys = {client.client: _touches(order, client, rules) for client in order.clients}
    chosen = min(order.clients, key=lambda each: (not journeys[each.client], preference(each)), default=None)
    if order.sales_channel != ONLINE:
        return Journey(chosen.client if chosen else None, ())
    touches = journeys[chosen.client] if chosen else ()
    return Journey(chosen.client if chosen else None, touches or _landing(order))


def touches_until(touches: Sequence[Touch], partition: int, offset: int, kept: int) -> tuple[Touch, ...]:
    """Return the newest touches of a user up to one of the user's own records.

    A touch from another partition is earlier: a user's partition changes only when partitions are added.
    """
    known = [touch for touch in touches if touch.partition != partition or touch.offset <= offset]
    return tuple(known[-kept:])


def _touches(order: Order, client: ClientFacts, rules: Rules) -> tuple[Touch, ...]:
    earliest, latest = order.at - rules.window_days * DAY, order.at + CLOCK_GRACE
    within = [touch for touch in client.touches if earliest <= touch.millis <= latest]
    return tuple(within[-rules.touches_kept :])


def _landing(order: Order) -> tuple[Touch, ...]:
    noted = order.landing
    if noted is None or noted.landing is None:
        return ()
    return (Touch(noted.event_id, iso(order.at), noted.landing, NO_RECORD, NO_RECORD, noted.landing_referrer),)
