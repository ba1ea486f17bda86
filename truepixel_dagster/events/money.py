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
# By the number of decimals: the smallest unit, and how many of them make a major unit.
_UNITS = [(Decimal(1).scaleb(-places), 10**places) for places in range(5)]
# Every store keeps a sum in 64 bits. A larger sum stops at this limit.
MAX_SUM = 2**63 - 1


class Money(msgspec.Struct, frozen=True):
    """Hold an amount in minor units (cents, yen, fils) of an ISO 4217 currency."""

    amount: int
    currency: str


def currency_code(text: str) -> str:
    """Return the upper-case ISO 4217 code.

    Raises:
        ValueError: The text is not a code of `CURRENCIES` in any case.
    """
    if text in CURRENCIES:
        return text
    code = text.upper()
    # `upper` turns some single non-ASCII characters into several letters.
    if code in CURRENCIES and text.isascii():
        return code
    raise ValueError(f"currency {text[:20]!r} is not in ISO 4217")


def bounded_sum(one: int, other: int) -> int:
    """Return the sum of two amounts or counts, limited to 64 bits."""
    return max(-MAX_SUM - 1, min(MAX_SUM, one + other))


def amount_of(amount: Decimal) -> Decimal:
    """Return an amount after checking it.

    Raises:
        ValueError: The amount is negative, not a number, or beyond 10^15.
    """
    # Compare first, so that a number such as 1e999999999 is not written out in full.
    if not (amount.is_finite() and _NOTHING <= amount <= _MOST):
        raise ValueError(f"amount {str(amount)[:40]} is not between 0 and {MAX_AMOUNT}")
    return amount


def decimals(currency: str) -> int:
    """Return the number of decimals of a currency's major unit, by ISO 4217."""
    return _DECIMALS.get(currency, 2)


def minor_units(amount: Decimal, currency: str) -> int:
    """Return an amount in major units as minor units, halves rounded up.

    Raises:
        ValueError: The amount is negative, not a number, or beyond 10^15 minor units.
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
