"""Money as integer minor units with its currency; never a float.

>>> from decimal import Decimal
>>> from truepixel_dagster.events.money import minor_units, shares
>>> minor_units(Decimal("19.99"), "EUR"), minor_units(Decimal("500"), "JPY")
(1999, 500)
>>> shares(100, [1, 1, 1])
[34, 33, 33]
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from math import lcm

import msgspec

from truepixel_dagster.events.currencies import CURRENCIES

# ISO 4217: currencies whose minor unit is not a hundredth.
_DECIMALS = (
    dict.fromkeys(
        [
            "BIF",
            "CLP",
            "DJF",
            "GNF",
            "ISK",
            "JPY",
            "KMF",
            "KRW",
            "PYG",
            "RWF",
            "UGX",
            "UYI",
            "VND",
            "VUV",
            "XAF",
            "XOF",
            "XPF",
        ],
        0,
    )
    | dict.fromkeys(["BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"], 3)
    | dict.fromkeys(["CLF", "UYW"], 4)
)
MAX_AMOUNT = 10**15
_NOTHING, _MOST = Decimal(0), Decimal(MAX_AMOUNT)
# By the number of decimals: the smallest unit, and how many of it make a major one.
_UNITS = [(Decimal(1).scaleb(-places), 10**places) for places in range(5)]
# A sum is kept in 64 bits by every store. What goes beyond stops at the bound.
MAX_SUM = 2**63 - 1


class Money(msgspec.Struct, frozen=True):
    """An amount in minor units (cents, yen, fils) of an ISO 4217 currency."""

    amount: int
    currency: str


def currency_code(text: str) -> str:
    """The upper-case ISO 4217 code.

    Raises:
        ValueError: Not a code of `CURRENCIES`, in whatever case.
    """
    if text in CURRENCIES:
        return text
    code = text.upper()
    # `upper` makes three letters of some single ones that are none of ours.
    if code in CURRENCIES and text.isascii():
        return code
    raise ValueError(f"currency {text[:20]!r} is not in ISO 4217")


def bounded_sum(one: int, other: int) -> int:
    """The sum of two amounts or counts, at most what 64 bits hold."""
    return max(-MAX_SUM - 1, min(MAX_SUM, one + other))


def amount_of(amount: Decimal) -> Decimal:
    """An amount as it is.

    Raises:
        ValueError: Negative, not a number, or beyond 10^15.
    """
    # Comparing keeps a number such as 1e999999999 from being written out in full.
    if not (amount.is_finite() and _NOTHING <= amount <= _MOST):
        raise ValueError(f"amount {str(amount)[:40]} is not between 0 and {MAX_AMOUNT}")
    return amount


def decimals(currency: str) -> int:
    """How many decimals a currency's major unit has, by ISO 4217."""
    return _DECIMALS.get(currency, 2)


def minor_units(amount: Decimal, currency: str) -> int:
    """An amount in major units as minor units, halves rounded up.

    Raises:
        ValueError: Negative, not a number, or beyond 10^15 minor units.
    """
    unit, in_major = _UNITS[decimals(currency)]
    units = int(amount_of(amount).quantize(unit, ROUND_HALF_UP) * in_major)
    if units > MAX_AMOUNT:
        raise ValueError(f"amount {str(amount)[:40]} is beyond {MAX_AMOUNT} minor units")
    return units


def shares(amount: int, weights: Sequence[int | Fraction]) -> list[int]:
    """Divide an amount by weights so that the parts sum to it exactly (largest remainder, ties to the earlier part).

    Arguments:
        amount: Minor units, not negative.
        weights: At least one, not negative, not all zero.

    Returns:
        One part for each weight, in minor units.
    """
    if len(weights) == 1:
        return [amount]
    scale = lcm(*(weight.denominator for weight in weights))
    whole = [weight.numerator * (scale // weight.denominator) for weight in weights]
    total = sum(whole)
    parts = [amount * weight // total for weight in whole]
    by_remainder = sorted(range(len(parts)), key=lambda i: (-(amount * whole[i] % total), i))
    for i in by_remainder[: amount - sum(parts)]:
        parts[i] += 1
    return parts
