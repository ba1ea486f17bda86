"""What ads cost in a period, from the lake's `marketing_daily`: spend is divided among channels there."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

from truepixel_dagster.lake.files import Lake
from truepixel_dagster.lake.sql import open_sql
from truepixel_dagster.report.figures import Spending
from truepixel_dagster.report.period import Period

# Each model has the same spend.
_SPEND = """
    SELECT day, channel, platform, campaign, currency, spend
    FROM marketing_daily
    WHERE shop_id = ? AND model = 'last_click' AND spend > 0 AND day BETWEEN ? AND ?
"""


def spending(lake: Lake, shop: str, period: Period) -> Iterator[Spending]:
    """Yield what a shop's ads cost in a period of whole days; nothing for one of hours, of which no export tells.

    Raises:
        QueryRefused, OSError: The lake cannot be read.
    """
    if period.since is not None:
        return
    bounds = (period.first or date.min, period.last or date.max)
    with open_sql(lake, shop) as sql:
        for day, channel, platform, campaign, currency, amount in sql.query(_SPEND, [shop, *bounds]):
            yield Spending(day.isoformat(), channel, platform, campaign or None, currency, amount)
