"""Which of the shops' reports a run shows."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.unit.report.reports import money, report_of
from truepixel_dagster.answers.tables import FUNNEL_DAILY
from truepixel_dagster.answers.tables import MARKETING_DAILY as MARKETING
from truepixel_dagster.events.shop_time import ShopDays
from truepixel_dagster.events.times import to_millis
from truepixel_dagster.lake.errors import LakeError
from truepixel_dagster.lake.files import Lake
from truepixel_dagster.rebuild.lake import Tools
from truepixel_dagster.rebuild.shop_reports import largest, make_shop_reports
from truepixel_dagster.report.answers import ReportData
from truepixel_dagster.report.charts import svg
from truepixel_dagster.settings import Settings

DAY = date(2026, 1, 12)


class Summary(dict[str, Any]):
    """A summary that a weak reference can watch."""


def test_only_the_largest_of_many_shops_stay_in_memory() -> None:
    alive: list[weakref.ref[Summary]] = []

    def pages() -> Iterator[ReportData]:
        for number in range(50):
            assert sum(each() is not None for each in alive) <= 4
            summary = Summary(money(1000, orders=str(number % 10)))
            alive.append(weakref.ref(summary))
            yield report_of(shop=f"{number:02}", summary=summary)
            del summary

    count, found = largest(pages(), 3)
    assert count == 50
    assert [each.shop for each in found] == ["09", "19", "29"]
    assert largest([], 3) == (0, [])


def test_a_shop_whose_page_fails_is_named_after_the_others_have_theirs(tmp_path: Path) -> None:
    lake, shops = Lake(str(tmp_path)), ("6", "7", "8")
    names = {each.name: None if each.optional else "" for each in MARKETING.columns}
    counts = dict.fromkeys(("visits", "clicks", "impressions", "revenue", "refunded", "net", "spend"), 0)
    orders = dict.fromkeys(("orders", "new_customers", "returning_customers"), Decimal(1))
    row = {**names, **counts, **orders, "day": DAY, "model": "last_click", "channel": "email", "currency": "EUR"}
    lake.write(MARKETING, DAY.isoformat(), {shop: [{**row, "shop_id": shop}] for shop in shops}, {})
    steps = dict.fromkeys(("visits", "product_views", "carts", "checkouts", "orders"), 1)
    funnel = {shop: [{"shop_id": shop, "day": DAY, "channel": "email", **steps}] for shop in shops}
    lake.write(FUNNEL_DAILY, DAY.isoformat(), funnel, {})
    (broken,) = tmp_path.glob(f"{FUNNEL_DAILY.path}/*/shop_id=6/*.parquet")
    broken.write_bytes(b"no Parquet")
    stores: Any = None
    found = make_shop_reports(Tools(Settings(), stores, lake, ShopDays(), {}), svg, to_millis(f"{DAY}T12:00:00Z"))
    assert [next(found).shop, next(found).shop] == ["7", "8"]
    with pytest.raises(LakeError, match=r"1 of 3 reports .* shop 6: a file of funnel_daily cannot be read"):
        next(found)
    pages = tmp_path.glob("shop_reports/*/*/report.html")
    assert sorted(each.parent.name for each in pages) == ["shop_id=7", "shop_id=8"]
