"""Credits: an order's value and net, shared among the touches of its journey by five models."""

from __future__ import annotations

from decimal import Decimal, localcontext
from fractions import Fraction

from truepixel_dagster.audit.oracle.records import Doc, present
from truepixel_dagster.audit.oracle.times import DAY_MS
from truepixel_dagster.audit.oracle.touches import Touch

MODELS = ("last_click", "first_click", "linear", "time_decay", "position_based")


def credits_of_nobody(platform: str, amount: int, net: int) -> dict[str, list[Doc]]:
    """Return one credit in every model for an order without a journey: direct, or of a channel that is not online."""
    credit = {"platform": platform, "channel": platform, "amount": amount, "net": net}
    return {model: [credit] for model in MODELS}


def credits_of(
    journey: list[Touch], ordered_at: int, amount: int, net: int, half_life_days: float
) -> dict[str, list[Doc]]:
    """Return each model's credits of a journey, which must not be empty. Amounts sum to `amount`, nets to `net`."""
    ages = [ordered_at - touch.at for touch in journey]
    last = len(journey) - 1
    weights: dict[str, list[Fraction]] = {
        "linear": [Fraction(1)] * len(journey),
        "time_decay": decay_weights(ages, half_life_days),
        "position_based": position_weights(len(journey)),
    }
    shared = {
        model: [
            _credit(touch, part, net_part)
            for touch, part, net_part in zip(journey, split(amount, weight), split(net, weight))
        ]
        for model, weight in weights.items()
    }
    return {
        "last_click": [_credit(journey[last], amount, net)],
        "first_click": [_credit(journey[0], amount, net)],
        **shared,
    }


def _credit(touch: Touch, amount: int, net: int) -> Doc:
    ad = touch.ad
    return present(
        event_id=touch.event_id,
        platform=ad["platform"],
        channel=ad["channel"],
        source=ad.get("source"),
        medium=ad.get("medium"),
        campaign=ad.get("campaign"),
        campaign_id=ad.get("campaign_id"),
        amount=amount,
        net=net,
    )


def decay_weights(ages_ms: list[int], half_life_days: float) -> list[Fraction]:
    """Return 2^(−age / half-life) for each age, to 60 digits and a common factor: the youngest weighs 1."""
    youngest = min(ages_ms)
    with localcontext() as context:
        context.prec = 60
        half_life_ms = Decimal(str(half_life_days)) * DAY_MS
        return [Fraction(Decimal(2) ** ((youngest - age) / half_life_ms)) for age in ages_ms]


def position_weights(touches: int) -> list[Fraction]:
    """Return 40 % for the first, 40 % for the last, 20 % shared by the rest; half each for two; all for one."""
    if touches <= 2:
        return [Fraction(1)] * touches
    rest = touches - 2
    return [Fraction(40), *[Fraction(20, rest)] * rest, Fraction(40)]


def split(amount: int, weights: list[Fraction]) -> list[int]:
    """Split minor units by weight, the units left over to the largest remainders, ties to the earlier weight."""
    total = sum(weights)
    # Round to 40 digits: powers of two are not exact beyond, and equal remainders must compare equal.
    shares = [round(amount * weight / total, 40) for weight in weights]
    amounts = [share.numerator // share.denominator for share in shares]
    by_remainder = sorted(range(len(shares)), key=lambda place: amounts[place] - shares[place])
    for place in by_remainder[: amount - sum(amounts)]:
        amounts[place] += 1
    return amounts
