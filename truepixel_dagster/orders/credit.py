"""Credit an order's value and net to the visits before it: five models, in minor units that sum up exactly.

>>> from truepixel_dagster.orders.credit import weights_of
>>> day = 86_400_000  # milliseconds
>>> ages = [9 * day, 2 * day, 0]  # of the touches, the earliest first
>>> [int(weight) for weight in weights_of("last_click", ages, half_life=7 * day)]
[0, 0, 1]
>>> [str(weight) for weight in weights_of("position_based", ages, half_life=7 * day)]
['40', '20', '40']
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal, localcontext
from fractions import Fraction

import msgspec

from truepixel_dagster.events.money import shares
from truepixel_dagster.events.touch import Touch

DIRECT = "direct"
ENDS_PERCENT = 40
_PRECISION = 50

Weight = int | Fraction


class Credit(msgspec.Struct, frozen=True, omit_defaults=True):
    """Hold the credit of one touch, in minor units of the order's value and of its net.

    An order without a touch has one credit, whose platform is `direct`, or the place where the order was placed.
    """

    platform: str
    amount: int
    event_id: str | None = None
    campaign: str | None = None
    channel: str | None = None
    source: str | None = None
    medium: str | None = None
    campaign_id: str | None = None
    net: int | None = None


class Credits(msgspec.Struct, frozen=True):
    """Hold an order's credits under every model, in the order of its touches; touches of no weight are left out."""

    last_click: tuple[Credit, ...] = ()
    first_click: tuple[Credit, ...] = ()
    linear: tuple[Credit, ...] = ()
    time_decay: tuple[Credit, ...] = ()
    position_based: tuple[Credit, ...] = ()


def last_click(ages: Sequence[int]) -> list[Weight]:
    """Give everything to the last touch."""
    return [int(i == len(ages) - 1) for i in range(len(ages))]


def first_click(ages: Sequence[int]) -> list[Weight]:
    """Give everything to the first touch."""
    return [int(i == 0) for i in range(len(ages))]


def linear(ages: Sequence[int]) -> list[Weight]:
    """Give every touch the same."""
    return [1] * len(ages)


def time_decay(ages: Sequence[int], half_life: int) -> list[Weight]:
    """Weigh a touch by 2^(-age / half-life), both in milliseconds, with 50 digits, the same on every machine."""
    with localcontext() as context:
        context.prec = _PRECISION
        return [Fraction(Decimal(2) ** (Decimal(-age) / Decimal(half_life))) for age in ages]


def position_based(ages: Sequence[int], ends_percent: int = ENDS_PERCENT) -> list[Weight]:
    """Give 40 % to the first, 40 % to the last, the rest to the others; halves for two touches, all to a single one."""
    count = len(ages)
    if count <= 2:
        return linear(ages)
    end = ends_percent * (count - 2)
    return [end, *[100 - 2 * ends_percent] * (count - 2), end]


MODELS = Credits.__struct_fields__


def weights_of(model: str, ages: Sequence[int], half_life: int, ends_percent: int = ENDS_PERCENT) -> list[Weight]:
    """Return the weight of each touch of a journey under a model; a touch of no weight has no credit.

    Arguments:
        model: One of `MODELS`.
        ages: The time between each touch and the order, in milliseconds, in the order of the touches.
        half_life: Milliseconds, for time decay.
        ends_percent: The percentage for the first and for the last touch each, for position based.
    """
    if len(ages) == 1:
        return [1]
    if model == "time_decay":
        return time_decay(ages, half_life)
    if model == "position_based":
        return position_based(ages, ends_percent)
    return {"last_click": last_click, "first_click": first_click, "linear": linear}[model](ages)


def credit(
    amount: int,
    net: int,
    touches: Sequence[Touch],
    occurred_at: int,
    half_life: int,
    ends_percent: int = ENDS_PERCENT,
    *,
    without_touch: str = DIRECT,
) -> Credits:
    """Credit an order's value and net to its journey.

    Arguments:
        amount: The value in minor units.
        net: The value minus refunds, in minor units.
        touches: The journey, in order.
        occurred_at: The order's time in milliseconds since the epoch.
        half_life: Milliseconds, for time decay.
        ends_percent: The percentage for the first and for the last touch each, for position based.
        without_touch: Platform and channel of the single credit of an order without a touch.
    """
    ages = [occurred_at - touch.millis for touch in touches]

    def by(model: str) -> tuple[Credit, ...]:
        if not touches:
            return (Credit(without_touch, amount, channel=without_touch, net=net),)
        weights = weights_of(model, ages, half_life, ends_percent)
        parts = shares(amount, weights)
        rests = parts if net == amount else shares(net, weights)
        found = zip(touches, weights, parts, rests)
        return tuple(_credit(touch, part, rest) for touch, weight, part, rest in found if weight)

    return Credits(*map(by, MODELS))


def _credit(touch: Touch, amount: int, net: int) -> Credit:
    ad = touch.ad
    return Credit(
        platform=ad.platform,
        amount=amount,
        event_id=touch.event_id,
        campaign=ad.campaign,
        channel=ad.channel,
        source=ad.source,
        medium=ad.medium,
        campaign_id=ad.campaign_id,
        net=net,
    )
