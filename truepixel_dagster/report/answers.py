"""Read all data of a page about a shop's days from the lake: one query for each picture.

Amounts are minor units of `currency`. Orders and spend in other currencies are in no figure but `others`.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import msgspec

from truepixel_dagster.answers.tables import MARKETING_DAILY
from truepixel_dagster.lake.files import Lake
from truepixel_dagster.lake.sql import Sql, open_sql

Rows = list[dict[str, Any]]

TOP_PATHS = 10
_COHORT_MONTHS = timedelta(days=366)


def _figures(of: str = "") -> str:
    """Return the sums of a query, amounts and orders with a filter."""
    return f"""
        coalesce(sum(visits), 0)::BIGINT AS visits, coalesce(sum(orders){of}, 0) AS orders,
        coalesce(sum(new_customers){of}, 0) AS new_customers, coalesce(sum(revenue){of}, 0)::BIGINT AS revenue,
        coalesce(sum(refunded){of}, 0)::BIGINT AS refunded, coalesce(sum(net){of}, 0)::BIGINT AS net,
        coalesce(sum(spend){of}, 0)::BIGINT AS spend,
        round(sum(revenue){of} / nullif(sum(spend){of}, 0), 4) AS roas
    """


# Visits count in any currency: on a day without orders, a shop of unknown currency has none.
_MONEY = _figures(" FILTER (WHERE currency = $3)")
_OF_DAYS = "shop_id = $1 AND model = $2 AND day BETWEEN $4 AND $5"
_SUMMARY = f"SELECT {_MONEY} FROM marketing_daily WHERE {_OF_DAYS}"  # noqa: S608 (constants)
_BY_DAY = f"SELECT day, channel, {_MONEY} FROM marketing_daily WHERE {_OF_DAYS} GROUP BY ALL ORDER BY day, channel"  # noqa: S608
_CAMPAIGNS = f"""
    SELECT channel, platform, campaign, {_MONEY} FROM marketing_daily WHERE {_OF_DAYS}
    GROUP BY ALL HAVING sum(visits) > 0 OR count(*) FILTER (WHERE currency = $3) > 0
    ORDER BY revenue DESC, spend DESC, channel, platform, campaign
"""  # noqa: S608
_OTHERS = f"""
    SELECT currency, {_figures()} FROM marketing_daily WHERE {_OF_DAYS} AND currency <> $3
    GROUP BY currency HAVING sum(orders) > 0 OR sum(spend) > 0 ORDER BY currency
"""  # noqa: S608
_FUNNEL = """
    SELECT channel, sum(visits)::BIGINT AS visits, sum(product_views)::BIGINT AS product_views,
           sum(carts)::BIGINT AS carts, sum(checkouts)::BIGINT AS checkouts, sum(orders)::BIGINT AS orders
    FROM funnel_daily WHERE shop_id = ? AND day BETWEEN ? AND ? GROUP BY channel ORDER BY visits DESC, channel
"""
_COHORTS = """
    SELECT day, channel, currency, customers, repeat_customers, repeat_rate, net_30, net_60, net_90, net_180,
           net_to_date
    FROM cohorts WHERE shop_id = ? AND day BETWEEN ? AND ? ORDER BY day, channel, currency
"""
_PATHS = """
    SELECT path, count(*) AS orders, sum(net)::BIGINT AS net FROM (
        SELECT list(channel ORDER BY position) AS path, sum(last_click_net) AS net
        FROM journeys WHERE shop_id = ? AND currency = ? AND day BETWEEN ? AND ? GROUP BY attribution
    ) GROUP BY path ORDER BY orders DESC, net DESC, path LIMIT ?
"""
_CURRENCY = """
    SELECT currency FROM marketing_daily WHERE shop_id = ? AND day BETWEEN ? AND ? AND currency <> ''
    GROUP BY currency ORDER BY sum(orders) DESC, currency LIMIT 1
"""


class ReportData(msgspec.Struct, frozen=True):
    """Hold all that a page about a shop's days shows.

    `currency` is that of most orders, empty if there are none. `before` is the summary of as many days right before.
    `others` sums up other currencies. `cohorts` are those of the year up to `last`. A path has the channels of an
    order's journey by person.
    """

    shop: str
    model: str
    first: date
    last: date
    currency: str
    summary: dict[str, Any]
    before: dict[str, Any]
    others: Rows
    by_day: Rows
    campaigns: Rows
    funnel: Rows
    cohorts: Rows
    paths: Rows

    @property
    def empty(self) -> bool:
        """Return whether the tables have no data of the shop on these days."""
        return not (self.by_day or self.funnel or self.others)


def report_data(lake: Lake, shop: str, model: str, first: date, last: date) -> ReportData:
    """Read the data of a page.

    Arguments:
        lake: The lake with the tables of these days and, to compare, of as many days before.
        shop: The shop id.
        model: The attribution model.
        first: The first of the shop's days.
        last: The last one.

    Raises:
        QueryRefused, OSError: The lake cannot be read.
    """
    length = last - first + timedelta(days=1)
    with open_sql(lake, shop) as sql:
        currency = _currency(sql, shop, first, last)
        values = [shop, model, currency, first, last]
        (summary,) = sql.query(_SUMMARY, values).rows()
        (before,) = sql.query(_SUMMARY, [*values[:3], first - length, last - length]).rows()
        return ReportData(
            shop=shop,
            model=model,
            first=first,
            last=last,
            currency=currency,
            summary=summary,
            before=before,
            others=sql.query(_OTHERS, values).rows(),
            by_day=sql.query(_BY_DAY, values).rows(),
            campaigns=sql.query(_CAMPAIGNS, values).rows(),
            funnel=sql.query(_FUNNEL, [shop, first, last]).rows(),
            cohorts=_of_months(sql, shop, last - _COHORT_MONTHS, last),
            paths=sql.query(_PATHS, [shop, currency, first, last, TOP_PATHS]).rows(),
        )


def cohort_rows(lake: Lake, shop: str, first: date, last: date) -> Rows:
    """Return the cohorts of the months that contain or lie between two days, as in the table `cohorts`.

    Raises:
        QueryRefused, OSError: The lake cannot be read.
    """
    with open_sql(lake, shop) as sql:
        return _of_months(sql, shop, first, last)


def shops_between(lake: Lake, first: date, last: date) -> list[str]:
    """Return the shops that have visits, orders or spend on any of some days.

    Raises:
        OSError: The lake cannot be listed.
    """
    days = [day for day in lake.days(MARKETING_DAILY) if first.isoformat() <= day <= last.isoformat()]
    return sorted({shop for day in days for shop in lake.shops(MARKETING_DAILY, day)})


def _of_months(sql: Sql, shop: str, first: date, last: date) -> Rows:
    return sql.query(_COHORTS, [shop, first.replace(day=1), last]).rows()


def _currency(sql: Sql, shop: str, first: date, last: date) -> str:
    found = sql.query(_CURRENCY, [shop, first, last]).rows()
    return str(found[0]["currency"]) if found else ""
