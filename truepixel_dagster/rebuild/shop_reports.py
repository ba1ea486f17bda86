"""Write a page for each shop into the lake, about the 30 days up to its current day.

    <lake>/shop_reports/day=2026-01-31/shop_id=548380009/report.html

A page of an earlier day stays as it was on that day; `truepixel report --html` writes a new page about any days.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from datetime import date, datetime, timedelta, timezone

from truepixel_dagster.lake.errors import LakeError, QueryRefused
from truepixel_dagster.lake.files import Lake, shop_folder
from truepixel_dagster.rebuild.lake import Tools
from truepixel_dagster.rebuild.stats import Progress, silent
from truepixel_dagster.report.answers import ReportData, report_data, shops_between
from truepixel_dagster.report.charts import ON_WHITE, Spec, revenue_by_day, series_of
from truepixel_dagster.report.drawing import NotDrawn
from truepixel_dagster.report.figures import major, shown_orders
from truepixel_dagster.report.html import page
from truepixel_dagster.report.period import Period
from truepixel_dagster.text import printable

MODEL = "last_click"
_FOLDER = "shop_reports"
_PICTURE_WIDTH = 640


def make_shop_reports(
    tools: Tools, draw: Callable[[Spec], str], now: int | None = None, progress: Progress = silent
) -> Iterator[ReportData]:
    """Write each shop's page, and yield what it shows; a page that fails does not keep the other shops from theirs.

    Arguments:
        tools: What makers need.
        draw: Returns a chart as SVG.
        now: Milliseconds since the epoch, which decides each shop's current day; the clock's time by default.
        progress: Called with the progress.

    Raises:
        LakeError: Pages failed, after all others were written; each page is either unchanged or complete.
        OSError: The lake cannot be listed.
    """
    moment = int(time.time() * 1000) if now is None else now
    today = datetime.fromtimestamp(moment / 1000, timezone.utc).date()
    # A shop's day may be the day before or after the UTC day.
    first, last = Period().whole_days(today)
    shops = shops_between(tools.lake, first - timedelta(days=1), last + timedelta(days=1))
    failed: dict[str, Exception] = {}
    for number, shop in enumerate(shops, start=1):
        try:
            data = _write(tools, shop, draw, moment)
        except (QueryRefused, NotDrawn, OSError) as error:
            failed[shop] = error
        else:
            if not data.empty:
                yield data
        progress("shops", number, len(shops))
    if failed:
        shop, reason = next(iter(failed.items()))
        raise LakeError(f"{len(failed)} of {len(shops)} reports were not written, such as of shop {shop}: {reason}")


def _write(tools: Tools, shop: str, draw: Callable[[Spec], str], moment: int) -> ReportData:
    shop_time = tools.days.of(shop)
    data = report_data(tools.lake, shop, MODEL, *Period().whole_days(date.fromisoformat(shop_time.day(moment))))
    if not data.empty:
        tools.lake.put(page_path(tools.lake, data), page(data, shop_time.time_zone, draw).encode())
    return data


def largest(pages: Iterable[ReportData], most: int) -> tuple[int, list[ReportData]]:
    """Return the number of pages, and those with most orders; it holds no others, because there may be many shops."""
    count, found = 0, list[ReportData]()
    for each in pages:
        count += 1
        found = sorted([*found, each], key=lambda one: (-one.summary["orders"], one.shop))[:most]
    return count, found


def page_path(lake: Lake, data: ReportData) -> str:
    """Return the path of a shop's page."""
    return lake.path(f"{_FOLDER}/day={data.last}/{shop_folder(data.shop)}/report.html")


def picture(data: ReportData) -> Spec:
    """Return the chart of a shop's revenue by day and channel, for a picture on white."""
    return revenue_by_day(series_of(data.by_day, data.currency), data.currency, _PICTURE_WIDTH, ON_WHITE)


def figures_of(pages: Iterable[ReportData]) -> Iterator[dict[str, str]]:
    """Yield the summaries of shops by the names of their columns, for people."""
    for each in pages:
        of = each.summary
        amounts = {name: major(each.currency, of[name]) for name in ("revenue", "net", "spend")}
        roas = "" if of["roas"] is None else f"{of['roas']:,.2f}"
        shop, orders = printable(each.shop), shown_orders(of["orders"])
        yield {"shop": shop, "orders": orders, **amounts, "ROAS": roas, "currency": each.currency}
