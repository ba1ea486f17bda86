"""Fill the demo's tables, with ad spend for its two busiest shops, and write their reports as pages.

The spend is what the generated visits would have cost, spread over all days, as campaigns have daily budgets.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Iterator, Sequence
from datetime import date
from math import ceil
from pathlib import Path

from truepixel_dagster import asset_keys
from truepixel_dagster.events.money import decimals
from truepixel_dagster.lake.files import Lake, lake_of
from truepixel_dagster.lake.sql import open_sql
from truepixel_dagster.local.payloads.model import Shop
from truepixel_dagster.rebuild.everything import refresh_everything
from truepixel_dagster.rebuild.lake import days_of_history, making, refresh
from truepixel_dagster.rebuild.lake_tables import EVENTS_MAKER
from truepixel_dagster.rebuild.shop_reports import MODEL
from truepixel_dagster.rebuild.spend_files import import_spend
from truepixel_dagster.report.answers import report_data
from truepixel_dagster.report.html import page
from truepixel_dagster.report.period import Period
from truepixel_dagster.settings import Settings

#: The shops that buy ads.
ADVERTISERS = 2
# The cost of a visit in dollars, by platform: the generated shops sell expensive things.
_VISIT = {"google": 22, "microsoft": 14, "facebook": 18, "instagram": 16, "tiktok": 10, "pinterest": 8}
_OTHER_VISIT = 12
_VISITS = """
    SELECT platform, campaign, count(*) AS visits FROM events
    WHERE shop_id = ? AND NOT bot AND campaign <> ''
        AND channel IN ('paid_search', 'paid_social', 'paid_shopping', 'display', 'video')
    GROUP BY ALL ORDER BY ALL
"""
_HEADER = ("shop", "day", "platform", "campaign", "amount", "currency", "clicks", "impressions")
# Of seven days, the last three cost more.
_OF_WEEK = (0.9, 0.8, 0.8, 0.9, 1.2, 1.2, 1.2)
_VIEWS = 60


def write_reports(settings: Settings, shops: Sequence[Shop]) -> list[Path]:
    """Make all tables, import the spend of shops, and write a page for each of them into the data folder.

    Raises:
        LakeError, NotImported, QueryRefused, OSError, Unavailable: The lake or a server does not answer.
    """
    days, lake = days_of_history(settings), lake_of(settings)
    with making(settings) as tools:
        refresh(tools, {asset_keys.LAKE_EVENTS: EVENTS_MAKER}, days)
    spend = settings.data_dir / "spend.csv"
    with spend.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(_HEADER)
        rows = [row for shop in shops for row in _spent(lake, shop, days[1:-1])]
        writer.writerows(rows)
    if rows:
        import_spend(settings, str(spend))
    with making(settings) as tools:
        refresh_everything(tools, days)
        zones = {shop.id: tools.days.of(shop.id) for shop in shops}
    pages, now = [], int(time.time() * 1000)
    for shop in shops:
        today = date.fromisoformat(zones[shop.id].day(now))
        data = report_data(lake, shop.id, MODEL, *Period().whole_days(today))
        pages.append(settings.data_dir / f"report-{shop.id}.html")
        pages[-1].write_text(page(data, zones[shop.id].time_zone), "utf-8")
    return pages


def _spent(lake: Lake, shop: Shop, days: Sequence[str]) -> Iterator[tuple[object, ...]]:
    """Yield what a shop's campaigns cost, by platform, campaign and day, in the columns of `_HEADER`."""
    places = decimals(shop.currency)
    with open_sql(lake, shop.id) as sql:
        for platform, campaign, visits in sql.query(_VISITS, [shop.id]):
            cost = visits * _VISIT.get(platform, _OTHER_VISIT) * shop.market.price_level / len(days)
            for day in days:
                share = _OF_WEEK[date.fromisoformat(day).weekday()]
                money = (f"{cost * share:.{places}f}", shop.currency)
                clicks = ceil(visits * share / len(days))
                yield (shop.id, day, platform, campaign, *money, clicks, clicks * _VIEWS)
