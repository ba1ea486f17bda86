"""All that a report of some days shows, from the lake: figures by day and channel, campaigns, the funnel.

One query for each picture. Amounts are minor units of `currency`; spend of another currency than the shop's for which
no rate is known is in no figure.
"""

from __future__ import annotations

from datetime import date
from typing import Any

import msgspec

from truepixel_dagster.lake.files import Lake
from truepixel_dagster.lake.sql import Sql, open_sql

Rows = list[dict[str, Any]]

_MONEY = """
    sum(visits) AS visits, sum(orders) AS orders, sum(new_customers) AS new_customers, sum(revenue) AS revenue,
    sum(refunded) AS refunded, sum(net) AS net, sum(spend) AS spend,
    round(sum(revenue) / nullif(sum(spend), 0), 4) AS roas
"""
_OF_DAYS = "shop_id = ? AND model = ? AND currency = ? AND day BETWEEN ? AND ?"
_SUMMARY = f"SELECT {_MONEY} FROM marketing_daily WHERE {_OF_DAYS}"  # noqa: S608 (constants)
_BY_DAY = f"SELECT day, channel, {_MONEY} FROM marketing_daily WHERE {_OF_DAYS} GROUP BY ALL ORDER BY day, channel"  # noqa: S608
_CAMPAIGNS = f"""
    SELECT channel, platform, campaign, {_MONEY} FROM marketing_daily WHERE {_OF_DAYS}
    GROUP BY ALL ORDER BY revenue DESC, spend DESC, channel, platform, campaign
"""  # noqa: S608
_FUNNEL = """
    SELECT channel, sum(visits) AS visits, sum(product_views) AS product_views, sum(carts) AS carts,
           sum(checkouts) AS checkouts, sum(orders) AS orders
    FROM funnel_daily WHERE shop_id = ? AND day BETWEEN ? AND ? GROUP BY channel ORDER BY visits DESC, channel
"""
_CURRENCY = """
    SELECT currency FROM marketing_daily WHERE shop_id = ? AND day BETWEEN ? AND ? AND currency <> ''
    GROUP BY currency ORDER BY sum(orders) DESC, currency LIMIT 1
"""


class ReportData(msgspec.Struct, frozen=True):
    """What a report of a shop's days shows. `currency` is that of most orders, empty where there is none."""

    shop: str
    model: str
    first: date
    last: date
    currency: str
    summary: dict[str, Any]
    by_day: Rows
    campaigns: Rows
    funnel: Rows


def report_data(lake: Lake, shop: str, model: str, first: date, last: date) -> ReportData:
    """Read what a report shows.

    Arguments:
        lake: With `marketing_daily` and `funnel_daily` of these days.
        shop: The shop id.
        model: The attribution model.
        first: The first of the shop's days.
        last: The last one.

    Raises:
        QueryRefused, OSError: The lake cannot be read.
    """
    with open_sql(lake) as sql:
        currency = _currency(sql, shop, first, last)
        values = [shop, model, currency, first, last]
        (summary,) = sql.query(_SUMMARY, values).rows()
        return ReportData(
            shop=shop,
            model=model,
            first=first,
            last=last,
            currency=currency,
            summary=summary,
            by_day=sql.query(_BY_DAY, values).rows(),
            campaigns=sql.query(_CAMPAIGNS, values).rows(),
            funnel=sql.query(_FUNNEL, [shop, first, last]).rows(),
        )


def _currency(sql: Sql, shop: str, first: date, last: date) -> str:
    found = sql.query(_CURRENCY, [shop, first, last]).rows()
    return str(found[0]["currency"]) if found else ""
