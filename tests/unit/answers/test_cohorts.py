"""Cohorts by hand: ages, refunds, months of the shop, currencies, and what is not over yet."""

from __future__ import annotations

from datetime import date, datetime, timezone

import pytest

from truepixel_dagster.answers.cohorts import Cohort, Placed, Purchases
from truepixel_dagster.events.event import DAY
from truepixel_dagster.events.shop_time import UTC, ShopTime

LATER = date(2027, 1, 1)


def at(day: str, hour: int = 12) -> int:
    when = datetime.fromisoformat(day).replace(hour=hour, tzinfo=timezone.utc)
    return int(when.timestamp() * 1000)


def purchases(*orders: tuple[str, Placed], time: ShopTime = UTC) -> Purchases:
    found = Purchases(time)
    for person, order in orders:
        found.add(person, order)
    return found


def test_orders_and_refunds_count_at_their_own_age() -> None:
    """Ann: 50.00 on January 1, 10.00 of it back on day 40, 30.00 on day 20, 20.00 on day 100. Bob: 5.00 at its end."""
    first = at("2026-01-01")
    found = purchases(
        ("ann", Placed("2", first + 20 * DAY, "EUR", 3000)),
        ("ann", Placed("1", first, "EUR", 5000, refunds=((first + 40 * DAY, 1000),))),
        ("ann", Placed("3", first + 100 * DAY, "EUR", 2000)),
        ("bob", Placed("4", at("2026-01-31"), "EUR", 500)),
    )
    channels = {"ann": "email", "bob": "email"}
    assert found.cohorts("2026-01", channels, LATER) == [
        Cohort("2026-01", "email", "EUR", 2, 1, {30: 8500, 60: 7500, 90: 7500, 180: 9500}, 9500)
    ]
    assert found.cohorts("2026-02", channels, LATER) == []


def test_an_age_ends_with_its_last_millisecond() -> None:
    first = at("2026-01-10")
    orders = [Placed("1", first, "EUR", 100), Placed("2", first + 30 * DAY - 1, "EUR", 10)]
    found = purchases(*(("ann", order) for order in (*orders, Placed("3", first + 30 * DAY, "EUR", 1))))
    (row,) = found.cohorts("2026-01", {"ann": "email"}, LATER)
    assert (row.net_by_age[30], row.net_by_age[60]) == (110, 111)


@pytest.mark.parametrize(
    ("today", "shown"),
    [
        (date(2026, 3, 2), []),
        (date(2026, 3, 3), [30]),
        (date(2026, 4, 2), [30, 60]),
        (date(2026, 7, 31), [30, 60, 90, 180]),
    ],
)
def test_an_age_is_shown_when_it_is_over_for_the_last_day_of_the_month(today: date, shown: list[int]) -> None:
    """January 31 is 30 days old at the end of March 2, 60 at the end of April 1, 180 at the end of July 30."""
    found = purchases(("ann", Placed("1", at("2026-01-01"), "EUR", 100)))
    (row,) = found.cohorts("2026-01", {"ann": "email"}, today)
    assert row.net_by_age == {age: 100 if age in shown else None for age in (30, 60, 90, 180)}
    assert row.net_to_date == 100


def test_the_month_is_the_shops() -> None:
    first = Placed("1", at("2026-02-01", hour=3), "USD", 100)
    new_york = purchases(("ann", first), time=ShopTime("America/New_York"))
    assert [person for person, _ in new_york.firsts("2026-01")] == ["ann"]
    assert [person for person, _ in purchases(("ann", first)).firsts("2026-02")] == ["ann"]
    # Without a time zone, the webhook's offset decides.
    west = Placed("1", first.at, "USD", 100, utc_offset=-300)
    assert [person for person, _ in purchases(("ann", west)).firsts("2026-01")] == ["ann"]


def test_a_customer_counts_once_and_money_in_its_own_currency() -> None:
    first = at("2026-01-10")
    found = purchases(
        ("ann", Placed("1", first, "EUR", 100)),
        ("ann", Placed("2", first + DAY, "USD", 200)),
        ("bob", Placed("3", first, "EUR", 50)),
    )
    rows = found.cohorts("2026-01", {"ann": "email", "bob": "direct"}, LATER)
    assert [(row.channel, row.currency, row.customers, row.repeat_customers, row.net_to_date) for row in rows] == [
        ("direct", "EUR", 1, 0, 50),
        ("email", "EUR", 1, 1, 100),
        ("email", "USD", 0, 0, 200),
    ]


def test_at_equal_times_the_order_with_the_lower_id_is_the_first() -> None:
    first = at("2026-01-10")
    found = purchases(("ann", Placed("b", first, "EUR", 1)), ("ann", Placed("a", first, "USD", 1)))
    assert [order.order for _, order in found.firsts("2026-01")] == ["a"]
