"""Convert amounts by exchange rates, as exact fractions that are rounded once.

>>> from datetime import date
>>> from decimal import Decimal
>>> from truepixel_dagster.answers.rates import Rate, Rates
>>> friday, sunday = date(2026, 1, 30), date(2026, 2, 1)
>>> rates = Rates([Rate(friday, "EUR", "USD", Decimal("1.10")), Rate(friday, "EUR", "JPY", Decimal(160))])
>>> rates.convert(1000, "EUR", "USD", sunday), rates.convert(1100, "USD", "JPY", friday)
(1100, 1600)
>>> rates.convert(1000, "EUR", "USD", date(2026, 2, 7)) is None
True
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction

import msgspec

from truepixel_dagster.events.money import decimals

# Markets close at weekends and on holidays: a rate is valid until the next one, for at most this long.
STANDS_DAYS = 7


class Rate(msgspec.Struct, frozen=True):
    """Hold how many major units of `to_currency` one unit of `from_currency` was worth on a day."""

    day: date
    from_currency: str
    to_currency: str
    rate: Decimal


class Rates:
    """Convert by the rates of some days: directly, by the inverse rate, or through a third currency."""

    def __init__(self, rates: Iterable[Rate]) -> None:
        self._of: dict[date, dict[tuple[str, str], Fraction]] = {}
        for each in rates:
            own = self._of.setdefault(each.day, {})
            own[each.from_currency, each.to_currency] = Fraction(each.rate)

    def convert(self, amount: int, source: str, target: str, day: date) -> int | None:
        """Return an amount in minor units of another currency, rounded half up.

        The rates are those of the newest day that has them, the day itself or one of the seven before it.

        Arguments:
            amount: Minor units of `source`, not negative.
            source: ISO 4217 code.
            target: ISO 4217 code.
            day: The day of the amount.

        Returns:
            Minor units of `target`; None if no rate is known.
        """
        if source == target:
            return amount
        for before in range(STANDS_DAYS + 1):
            rate = self._rate(source, target, self._of.get(day - timedelta(days=before), {}))
            if rate is not None:
                exact = amount * rate * 10 ** decimals(target) / 10 ** decimals(source)
                return int(exact + Fraction(1, 2))
        return None

    def _rate(self, source: str, target: str, of_day: dict[tuple[str, str], Fraction]) -> Fraction | None:
        if (found := _either(source, target, of_day)) is not None:
            return found
        crossed = (
            one * other
            for middle in sorted(_named(of_day))
            if (one := _either(source, middle, of_day)) is not None
            and (other := _either(middle, target, of_day)) is not None
        )
        return next(crossed, None)


def _either(source: str, target: str, of_day: dict[tuple[str, str], Fraction]) -> Fraction | None:
    """Return a rate, or the inverse of the opposite one."""
    if (source, target) in of_day:
        return of_day[source, target]
    return 1 / of_day[target, source] if (target, source) in of_day else None


def _named(of_day: dict[tuple[str, str], Fraction]) -> Iterator[str]:
    for pair in of_day:
        yield from pair
