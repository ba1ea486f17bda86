"""Read a report's data from the lake's `marketing_daily`: spend by channel, and the credits of data-driven models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date
from typing import Any

from truepixel_dagster.answers.marketing import WHOLE
from truepixel_dagster.lake.files import Lake
from truepixel_dagster.lake.sql import open_sql
from truepixel_dagster.orders.credit import MODELS
from truepixel_dagster.report.figures import Credited, Figures, Spending, Sums
from truepixel_dagster.report.period import Period

# Each model has the same spend.
_SPEND = """
    SELECT day, channel, platform, campaign, currency, spend
    FROM marketing_daily
    WHERE shop_id = ? AND model = 'last_click' AND spend > 0 AND day BETWEEN ? AND ?
"""
_CREDITS = """
    SELECT day, channel, platform, campaign, currency, revenue, refunded, net, orders, new_customers,
           returning_customers, spend
    FROM marketing_daily
    WHERE shop_id = ? AND model = ? AND (orders > 0 OR spend > 0) AND day BETWEEN ? AND ?
"""
_TEST_ORDERS = "SELECT count(*) FROM orders WHERE shop_id = ? AND test AND day BETWEEN ? AND ?"


def add_from_tables(lake: Lake, shop: str, figures: Figures, period: Period) -> None:
    """Add the spend on ads, and the orders by a data-driven model, to a report's figures.

    Raises:
        QueryRefused, OSError: The lake cannot be read.
    """
    if figures.model in MODELS:
        for each in spending(lake, shop, period):
            figures.spend(each)
        return
    bounds = _bounds(period)
    with open_sql(lake, shop) as sql:
        for row in sql.query(_CREDITS, [shop, figures.model, *bounds]):
            figures.credit(_credited(row))
        ((figures.test_orders,),) = sql.query(_TEST_ORDERS, [shop, *bounds])


def spending(lake: Lake, shop: str, period: Period) -> Iterator[Spending]:
    """Yield a shop's spend on ads in a period of whole days; nothing for a period of hours, which no export has.

    Raises:
        QueryRefused, OSError: The lake cannot be read.
    """
    if period.since is not None:
        return
    with open_sql(lake, shop) as sql:
        for day, channel, platform, campaign, currency, amount in sql.query(_SPEND, [shop, *_bounds(period)]):
            yield Spending(day.isoformat(), channel, platform, campaign or None, currency, amount)


def _bounds(period: Period) -> tuple[date, date]:
    return period.first or date.min, period.last or date.max


def _credited(row: Sequence[Any]) -> Credited:
    day, channel, platform, campaign, currency, gross, refunded, net, *counts, spend = row
    orders, new, returning = (int(count * WHOLE) for count in counts)
    sums = Sums(gross, refunded, net, orders, new, returning, spend)
    return Credited(day.isoformat(), channel, platform, campaign or None, currency, sums)
