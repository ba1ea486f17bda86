"""Compute cohorts: the persons who first ordered in a month, by the channel of that order, and the net of their orders.

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

#: Days after a customer's first order for which a cohort has a net.
AGES = (30, 60, 90, 180)


class Placed(msgspec.Struct, frozen=True):
    """Hold one order. `value` is its value before refunds, the sum of its net and its refunds, in minor units.

    `at` and the times of `refunds` are milliseconds since the epoch; `utc_offset` is the offset in minutes of
    the order's time in its webhook.
    """

    order: str
    at: int
    currency: str
    value: int
    refunds: tuple[tuple[int, int], ...] = ()
    utc_offset: int = 0


class Cohort(NamedTuple):
    """Hold the figures of one month, channel and currency; amounts in minor units.

    `net_by_age` is the net of the customers' orders in that many days after each customer's first order; None until the
    days have passed for all customers of the month. `net_to_date` is the net of all orders. A customer counts in the
    currency of the first order; orders in another currency count in the row of that currency.
    """

    month: str
    channel: str
    currency: str
    customers: int
    repeat_customers: int
    net_by_age: dict[int, int | None]
    net_to_date: int


class Purchases:
    """Collect the orders of one shop by person. Memory grows with the number of orders."""

    def __init__(self, time: ShopTime) -> None:
        self._time = time
        self._by_person: dict[str, list[Placed]] = defaultdict(list)

    def add(self, person: str, order: Placed) -> None:
        """Add an order of a person; the sequence of the calls does not matter."""
        self._by_person[person].append(order)

    def firsts(self, month: str) -> Iterator[tuple[str, Placed]]:
        """Yield the persons whose first order is in a month of the shop, such as `2026-01`, with that order."""
        for person, orders in self._by_person.items():
            first = _first(orders)
            if self._time.day(first.at, first.utc_offset).startswith(month):
                yield person, first

    def cohorts(self, month: str, channels: Mapping[str, str], today: date) -> list[Cohort]:
        """Return the cohorts of a month, by channel and currency.

        Arguments:
            month: A month in the shop's time, such as `2026-01`.
            channels: The channel of each person's first order.
            today: The shop's current day: the net of an age is None until all customers of the month have reached it.
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
    """Return the net of an order before a time; None stands for all time."""
    if until is not None and order.at >= until:
        return 0
    return order.value - sum(amount for at, amount in order.refunds if until is None or at < until)


def _next_month(month: str) -> date:
    return (date.fromisoformat(f"{month}-01") + timedelta(days=31)).replace(day=1)
