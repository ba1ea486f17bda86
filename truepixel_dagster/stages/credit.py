"""How an order's value is credited to the touches before it: five models, in minor units that sum to the value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal, localcontext
from fractions import Fraction

import msgspec

from truepixel_dagster.events.money import shares
from truepixel_dagster.stages.ad_lead import Touch

DIRECT = "direct"
ENDS_PERCENT = 40
_PRECISION = 50

Weight = int | Fraction


class Credit(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one touch is credited with, in minor units. An order without a touch has one credit, platform `direct`."""

    platform: str
    amount: int
    event_id: str | None = None
    campaign: str | None = None


class Credits(msgspec.Struct, frozen=True):
    """The credits of one order under every model, in the order of its touches; those of no weight are left out."""

    last_click: tuple[Credit, ...] = ()
    first_click: tuple[Credit, ...] = ()
    linear: tuple[Credit, ...] = ()
    time_decay: tuple[Credit, ...] = ()
    position_based: tuple[Credit, ...] = ()


def last_click(ages: Sequence[int]) -> list[Weight]:
    """All to the last touch."""
    return [int(i == len(ages) - 1) for i in range(len(ages))]


def first_click(ages: Sequence[int]) -> list[Weight]:
    """All to the first touch."""
    return [int(i == 0) for i in range(len(ages))]


def linear(ages: Sequence[int]) -> list[Weight]:
    """The same to every touch."""
    return [1] * len(ages)


def time_decay(ages: Sequence[int], half_life: int) -> list[Weight]:
    """A weight of 2^(-age / half-life), both in milliseconds, to 50 digits, the same everywhere."""
    with localcontext() as context:
        context.prec = _PRECISION
        return [Fraction(Decimal(2) ** (Decimal(-age) / Decimal(half_life))) for age in ages]


def position_based(ages: Sequence[int], ends_percent: int = ENDS_PERCENT) -> list[Weight]:
    """40 % to the first, 40 % to the last, the rest shared by the others; halves for two; all to a single one."""
    count = len(ages)
    if count <= 2:
        return linear(ages)
    end = ends_percent * (count - 2)
    return [end, *[100 - 2 * ends_percent] * (count - 2), end]


def credit(
    amount: int, touches: Sequence[Touch], occurred_at: int, half_life: int, ends_percent: int = ENDS_PERCENT
) -> Credits:
    """Credit an order's value to its journey.

    Arguments:
        amount: Minor units.
        touches: The journey, in order.
        occurred_at: The order's time, milliseconds since the epoch.
        half_life: Milliseconds, for time decay.
        ends_percent: What the first touch and the last one get each, for position based.
    """
    ages = [occurred_at - touch.millis for touch in touches]

    def by(model: Callable[[Sequence[int]], list[Weight]]) -> tuple[Credit, ...]:
        if not touches:
            return (Credit(DIRECT, amount),)
        weights = model(ages)
        parts = zip(touches, weights, shares(amount, weights))
        return tuple(Credit(t.ad.platform, part, t.event_id, t.ad.campaign) for t, weight, part in parts if weight)

    return Credits(
        last_click=by(last_click),
        first_click=by(first_click),
        linear=by(linear),
        time_decay=by(lambda ages: time_decay(ages, half_life)),
        position_based=by(lambda ages: position_based(ages, ends_percent)),
    )
