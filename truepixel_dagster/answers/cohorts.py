"""Cohorts: the persons who first ordered in a month, by the channel of that order, and what they brought since.

>>> from datetime import date
>>> from truepixel_dagster.answers.cohorts import Placed, Purchases
>>> from truepixel_dagster.events.event import DAY
>>> from truepixel_dagster.events.shop_time import UTC
>>> start = 1_767_225_600_000  # 2026-01-01T00:00:00Z
>>> purchases = Purchases(UTC)
>>> purchases.add("ann", Placed("1", start, "EUR", 5000, refunds=((start + 40 * DAY, 1000),)))
>>> purchases.add("ann", Placed("2", start + 20 * DAY, "EUR", 3000))
>>> (row,) = purchases.cohorts("2026-01", {"ann": "email"}, today=date(2026, 4, 2))
>>> row.customers, row.repeat_customers, row.net_by_age, row.net_to_date
(1, 1, {30: 8000, 60: 7000, 90: None, 180: None}, 7000)
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from typing import NamedTuple

import msgspec

from truepixel_dagster.events.event import DAY
from truepixel_dagster.events.shop_time import ShopTime

#: Days after a customer's first order at which a cohort is looked at.
AGES = (30, 60, 90, 180)


class Placed(msgspec.Struct, frozen=True):
    """Hold one order. `value` is what it brought before refunds: its net and its refunds together, in minor units.

    `at` and the times of `refunds` are milliseconds since the epoch; `utc_offset` is the offset in minutes that a
    webhook wrote the order's time with.
    """

    order: str
    at: int
    currency: str
    value: int
    refunds: tuple[tuple[int, int], ...] = ()
    utc_offset: int = 0


class Cohort(NamedTuple):
    """The figures of one month, channel and currency; amounts in minor units.

    `net_by_age` is what the customers brought in the days after each one's first order, refunds of these days taken
    off; None while a customer of the month may still be younger. `net_to_date` is all that is known. A customer counts
    in the currency of the first order; orders in another currency count in that one's row.
    """

    month: str
    channel: str
    currency: str
    customers: int
    repeat_customers: int
    net_by_age: dict[int, int | None]
    net_to_date: int


class Purchases:
    """The orders of one shop by person. Memory grows with the number of orders."""

    def __init__(self, time: ShopTime) -> None:
        self._time = time
        self._by_person: dict[str, list[Placed]] = defaultdict(list)

    def add(self, person: str, order: Placed) -> None:
        """Add an order of a person; orders may come in any order."""
        self._by_person[person].append(order)

    def firsts(self, month: str) -> Iterator[tuple[str, Placed]]:
        """Yield the persons whose first order is of one of the shop's months, such as `2026-01`, with that order."""
        for person, orders in self._by_person.items():
            first = _first(orders)
            if self._time.day(first.at, first.utc_offset).startswith(month):
                yield person, first

    def cohorts(self, month: str, channels: Mapping[str, str], today: date) -> list[Cohort]:
        """Return the cohorts of a month, by channel and currency.

        Arguments:
            month: One of the shop's months, such as `2026-01`.
            channels: Of each person's first order.
            today: The shop's day now: no age is shown that is not over for all customers of the month by then.
        """
        customers: Counter[tuple[str, str]] = Counter()
        repeating: Counter[tuple[str, str]] = Counter()
        nets: Counter[tuple[str, str, int | None]] = Counter()
        keys: set[tuple[str, str]] = set()
        for person, first in self.firsts(month):
            channel, orders = channels[person], self._by_person[person]
            own = (channel, first.currency)
            customers[own] += 1
            repeating[own] += len(orders) > 1
            keys |= {own, *((channel, order.currency) for order in orders)}
            for order in orders:
                for age in (*AGES, None):
                    nets[channel, order.currency, age] += _net(order, None if age is None else first.at + age * DAY)
        over = [age for age in AGES if _next_month(month) + timedelta(days=age) <= today]
        return [
            Cohort(
                month,
                channel,
                currency,
                customers[channel, currency],
                repeating[channel, currency],
                {age: nets[channel, currency, age] if age in over else None for age in AGES},
                nets[channel, currency, None],
            )
            for channel, currency in sorted(keys)
        ]


def _first(orders: list[Placed]) -> Placed:
    return min(orders, key=lambda order: (order.at, order.order))


def _net(order: Placed, until: int | None) -> int:
    """What an order brought before a moment; of all time for None."""
    if until is not None and order.at >= until:
        return 0
    return order.value - sum(amount for at, amount in order.refunds if until is None or at < until)


def _next_month(month: str) -> date:
    return (date.fromisoformat(f"{month}-01") + timedelta(days=31)).replace(day=1)
