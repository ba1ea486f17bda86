"""The figures and spend of a report, from a lake of a few rows."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from truepixel_dagster.answers.tables import FUNNEL_DAILY, MARKETING_DAILY
from truepixel_dagster.lake.files import Lake
from truepixel_dagster.report.answers import report_data
from truepixel_dagster.report.figures import Figures, Spending
from truepixel_dagster.report.period import Period
from truepixel_dagster.report.spending import add_from_tables, spending

SHOP, FIRST, LAST = "7", date(2026, 1, 12), date(2026, 1, 13)


def row(day: date, channel: str, revenue: int, spend: int, model: str = "last_click") -> dict[str, Any]:
    counts = dict.fromkeys(("clicks", "impressions"), 0)
    figures = {"orders": Decimal(1), "new_customers": Decimal(0), "returning_customers": Decimal(1), "refunded": 0}
    costs = dict.fromkeys(("roas", "net_roas", "cost_per_order", "cost_per_new_customer"))
    source = {"channel": channel, "platform": "google", "campaign": "", "currency": "EUR", "visits": 3}
    head = {"shop_id": SHOP, "day": day, "model": model, **source}
    return {**head, **figures, **counts, **costs, "revenue": revenue, "net": revenue, "spend": spend}


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    made = Lake(str(tmp_path))
    for day in (FIRST, LAST):
        rows = [row(day, "email", 1000, 0), row(day, "paid_search", 500, 300), row(day, "email", 9, 0, "linear")]
        made.write(MARKETING_DAILY, day.isoformat(), {SHOP: rows}, {})
        steps = {"visits": 6, "product_views": 3, "carts": 2, "checkouts": 1, "orders": 1}
        made.write(
            FUNNEL_DAILY, day.isoformat(), {SHOP: [{"shop_id": SHOP, "day": day, "channel": "email", **steps}]}, {}
        )
    return made


def test_a_report_shows_sums_of_one_model_by_day_campaign_and_step(lake: Lake) -> None:
    found = report_data(lake, SHOP, "last_click", FIRST, LAST)
    assert (found.currency, found.summary["revenue"], found.summary["spend"]) == ("EUR", 3000, 600)
    assert found.summary["roas"] == 5
    assert [(each["day"], each["channel"], each["revenue"]) for each in found.by_day] == [
        (day, channel, revenue) for day in (FIRST, LAST) for channel, revenue in (("email", 1000), ("paid_search", 500))
    ]
    assert [(each["channel"], each["revenue"]) for each in found.campaigns] == [("email", 2000), ("paid_search", 1000)]
    assert (found.funnel[0]["visits"], found.funnel[0]["carts"]) == (12, 4)


def test_visits_count_whatever_the_currency_and_amounts_in_one_alone(lake: Lake) -> None:
    quiet = {**row(LAST, "email", 0, 0), "orders": Decimal(0), "returning_customers": Decimal(0), "currency": ""}
    dollars = {**row(LAST, "sms", 700, 0), "currency": "USD", "visits": 0}
    lake.write(MARKETING_DAILY, LAST.isoformat(), {SHOP: [quiet, dollars]}, {})
    found = report_data(lake, SHOP, "last_click", FIRST, LAST)
    assert (found.summary["visits"], found.summary["orders"], found.summary["revenue"]) == (9, 2, 1500)
    campaigns = [(each["channel"], each["visits"], each["revenue"]) for each in found.campaigns]
    assert campaigns == [("email", 6, 1000), ("paid_search", 3, 500)]
    assert [(each["currency"], each["revenue"]) for each in found.others] == [("USD", 700)]


@pytest.mark.parametrize("shop", ["8", "o'neill [a] ü*/..", "%37"])
def test_a_report_reads_no_file_of_another_shop(lake: Lake, tmp_path: Path, shop: str) -> None:
    for day in (FIRST, LAST):
        rows = {SHOP: [row(day, "email", 1000, 0)], shop: [{**row(day, "sms", 20, 0), "shop_id": shop}]}
        lake.write(MARKETING_DAILY, day.isoformat(), rows, {})
    for file in tmp_path.glob(f"{MARKETING_DAILY.path}/*/shop_id={SHOP}/part.parquet"):
        file.write_bytes(b"no Parquet")
    found = report_data(lake, shop, "last_click", FIRST, LAST)
    assert (found.summary["revenue"], [each["channel"] for each in found.campaigns]) == (40, ["sms"])


def test_a_shop_without_rows_has_an_empty_report(lake: Lake) -> None:
    found = report_data(lake, "8", "last_click", FIRST, LAST)
    assert (found.currency, found.by_day, found.campaigns, found.funnel) == ("", [], [], [])


def test_spend_is_of_whole_days_and_of_the_days_alone(lake: Lake) -> None:
    found = list(spending(lake, SHOP, Period(first=LAST)))
    assert found == [Spending("2026-01-13", "paid_search", "google", None, "EUR", 300)]
    assert len(list(spending(lake, SHOP, Period()))) == 2
    assert not list(spending(lake, SHOP, Period(since=0, until=9**13)))


def test_spend_is_joined_with_orders_and_makes_rows_of_its_own() -> None:
    figures = Figures("last_click", "channel")
    figures.add(
        "7:a",
        {
            "occurred_at": "2026-01-12T12:00:00.000Z",
            "value": {"amount": 1000, "currency": "EUR"},
            "credits": {"last_click": [{"platform": "google", "channel": "paid_search", "amount": 1000}]},
        },
    )
    figures.spend(Spending("2026-01-12", "paid_search", "google", None, "EUR", 300))
    figures.spend(Spending("2026-01-12", "paid_social", "tiktok", None, "EUR", 100))
    rows = {row.channel: (row.gross, row.spend, row.roas) for row in figures.rows()}
    assert rows == {"paid_search": (1000, 300, Decimal("3.3333")), "paid_social": (0, 100, Decimal(0))}
    assert [(total.spend, total.roas) for total in figures.totals()] == [(400, Decimal("2.5"))]


@pytest.mark.parametrize(("by", "names"), [("channel", ["email", "paid_search"]), ("day", [FIRST, LAST])])
def test_a_data_driven_model_is_read_from_the_tables_with_its_spend(lake: Lake, by: str, names: list[object]) -> None:
    for day in (FIRST, LAST):
        rows = [row(day, "email", 700, 0, "markov"), row(day, "paid_search", 800, 300, "markov")]
        # A source with visits alone.
        quiet = {**row(day, "sms", 0, 0, "markov"), "orders": Decimal(0), "returning_customers": Decimal(0)}
        lake.write(MARKETING_DAILY, day.isoformat(), {SHOP: [*rows, quiet]}, {})
    figures = Figures("markov", by)
    add_from_tables(lake, SHOP, figures, Period(first=FIRST, last=LAST))
    assert sorted(str(getattr(found, by)) for found in figures.rows()) == sorted(map(str, names))
    (total,) = figures.totals()
    assert (total.gross, total.net, total.orders, total.returning_customers) == (3000, 3000, 4, 4)
    assert (total.spend, total.roas, figures.orders, figures.test_orders) == (600, Decimal(5), 4, 0)
    one_day = Figures("markov", by)
    add_from_tables(lake, SHOP, one_day, Period(first=LAST, last=LAST))
    assert one_day.totals()[0].gross == 1500
