"""`truepixel report` as users type it, and its output."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from truepixel_dagster import reachable, resources
from truepixel_dagster.cli import main
from truepixel_dagster.report import command, reading
from truepixel_dagster.report.figures import Figures, major
from truepixel_dagster.report.period import RequestedPeriod
from truepixel_dagster.report.reading import Product, ShopReport

ORDER = {
    "occurred_at": "2026-11-20T10:00:00.000Z",
    "value": {"amount": 123450, "currency": "USD"},
    "refunded": {"amount": 500, "currency": "USD"},
    "net": {"amount": 122950, "currency": "USD"},
    "touches": [{"at": "2026-11-20T09:00:00.000Z"}],
    "new_customer": True,
    "credits": {
        "last_click": [
            {"platform": "google", "channel": "paid_search", "campaign": "brand", "amount": 123450, "net": 122950}
        ]
    },
}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The requests to the stores."""
    calls: list[Any] = []

    @contextmanager
    def opened(_settings: Any) -> Iterator[Any]:
        yield SimpleNamespace(elasticsearch=None, mongodb=None)

    def answer(_stores: Any, shop: str, model: str, by: str, requested: RequestedPeriod, *_: Any) -> ShopReport:
        calls.append((by, requested))
        figures = Figures(model, "channel" if by == "product" else by)
        figures.add("s:1", ORDER)
        figures.add("s:2", {**ORDER, "test": True})
        return ShopReport(
            shop=shop,
            model=model,
            by=by,
            period="from 2026-11-20 (UTC)",
            week="2026-W47",
            visitors=3,
            orders=figures.orders,
            test_orders=figures.test_orders,
            sources=figures.rows(),
            totals=figures.totals(),
            products=[Product("p1", 2, 1, 9, {"USD": 123450})],
        )

    # The console takes its width when it is first imported, which another test may have done.
    monkeypatch.setattr(command, "out", Console(width=120, markup=False, emoji=False, highlight=False))
    monkeypatch.setattr(reachable, "check_stores", lambda *_: None)
    monkeypatch.setattr(resources, "open_stores", opened)
    monkeypatch.setattr(reading, "shop_report", answer)
    return calls


def report(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["report", "--shop", "s", *arguments])


def cells(shown: str) -> list[list[str]]:
    lines = [line.strip("│┃ ").replace("┃", "│") for line in shown.splitlines() if "│" in line or "┃" in line]
    return [[cell.strip() for cell in line.split("│")] for line in lines]


def test_a_table_has_its_rows_their_total_and_what_is_left_out(asked: list[Any]) -> None:
    shown = report("--from", "2026-11-20").stdout
    assert "shop s: 1 orders from 2026-11-20 (UTC); 3 visitors in 2026-W47" in shown
    assert "orders by last_click, USD" in shown
    assert "test orders, not counted: 1" in shown
    numbers = ["1", "1", "0", "1,234.50", "5.00", "1,229.50"]
    assert cells(shown)[:3] == [
        ["platform", "campaign", "orders", "new", "returning", "gross", "refunded", "net"],
        ["google", "brand", *numbers],
        ["total", "", *numbers],
    ]
    assert cells(shown)[3:] == [
        ["product", "units", "orders", "views", "revenue"],
        ["p1", "2", "1", "9", "1,234.50 USD"],
    ]


@pytest.mark.parametrize("by", ["channel", "platform", "campaign"])
def test_rows_are_by_what_is_asked_for(asked: list[Any], by: str) -> None:
    (row,) = json.loads(report("--by", by, "--json").stdout)["sources"]
    named = {"channel": "paid_search", "platform": "google", "campaign": "brand"}
    assert row[by] == named[by]
    assert asked == [(by, RequestedPeriod())]


@pytest.mark.parametrize(
    ("age", "hours"), [("1h", 1), ("24h", 24), ("7d", 7 * 24), ("4w", 4 * 7 * 24), ("999d", 999 * 24)]
)
def test_the_last_hours_days_and_weeks(asked: list[Any], age: str, hours: int) -> None:
    assert report("--last", age).exit_code == 0
    assert asked == [("campaign", RequestedPeriod(latest=hours * 3_600_000))]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--last", "7"), "'7' is not a time such as 24h, 7d or 4w"),
        (("--last", "0d"), "'0d' is not a time such as 24h, 7d or 4w"),
        (("--last", "-1d"), "'-1d' is not a time such as 24h, 7d or 4w"),
        (("--last", "1000d"), "'1000d' is not a time such as 24h, 7d or 4w"),
        (("--last", "٧d"), "is not a time such as 24h, 7d or 4w"),
        (("--from", "yesterday"), "'yesterday' is not a day such as 2026-01-31"),
        (("--from", "2026-02-30"), "'2026-02-30' is not a day such as 2026-01-31"),
        (("--to", "20260131"), "'20260131' is not a day such as 2026-01-31"),
        (("--to", "0001-01-01"), "'0001-01-01' is not a day such as 2026-01-31"),
        (("--from", "2026-02-01", "--to", "2026-01-31"), "--from 2026-02-01 is later than --to 2026-01-31"),
        (("--last", "7d", "--from", "2026-01-01"), "--last excludes --from and --to: give either"),
        (("--last", "7d", "--to", "2026-01-01"), "--last excludes --from and --to: give either"),
        (("--html", "page.html", "--json"), "--html excludes --csv and --json"),
        (("--by", "cohort", "--compare", "previous"), "--by cohort excludes --compare: its rows are months"),
    ],
)
def test_an_impossible_request_is_reported_in_one_line(asked: list[Any], arguments: tuple[str, ...], said: str) -> None:
    done = report(*arguments)
    assert done.exit_code == 2
    assert said in done.output.splitlines()[-1]
    assert asked == []


LONG = {
    **ORDER,
    "value": {"amount": 10**15, "currency": "USD"},
    "net": {"amount": 10**15 - 500, "currency": "USD"},
    "credits": {
        "last_click": [
            {
                "platform": "a-platform-of-somebody",
                "channel": "paid_search",
                "campaign": f"{'a-campaign-with-a-name-of-many-letters' * 3} and words",
                "amount": 10**15,
                "net": 10**15 - 500,
            }
        ]
    },
}


def shown_at(width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], by: str) -> str:
    """The report of long amounts and names as a terminal of some width gets it."""
    figures = Figures("last_click", by)
    figures.add("s:1", LONG)
    product = Product("a-product-with-an-id-of-many-letters" * 2, 10**9, 10**9, 10**9, {"USD": 10**15, "JPY": 10**15})
    found = ShopReport("s", "last_click", by, "", "2026-W47", 3, 1, 0, figures.rows(), figures.totals(), [product])
    monkeypatch.setattr(command, "out", Console(width=width, markup=False, emoji=False, highlight=False))
    command.print_report(found)
    return capsys.readouterr().out


@pytest.mark.parametrize("width", [20, 60, 80, 120, 200])
@pytest.mark.parametrize("by", ["channel", "platform", "campaign"])
def test_numbers_are_whole_however_narrow_the_terminal(
    width: int, by: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = shown_at(width, monkeypatch, capsys, by)
    lines = [line[1:-1].replace("┃", "│") for line in shown.splitlines() if line[0] in "│┃"]
    rows = [[cell.strip() for cell in line.split("│")] for line in lines]
    whole = ["10,000,000,000,000.00", "5.00", "9,999,999,999,995.00"]
    assert sum(row[-3:] == whole for row in rows) == 2
    assert "…" not in shown
    assert "10,000,000,000,000.00 USD" in shown
    assert "1,000,000,000,000,000 JPY" in shown
    # All columns are shown, and names are folded and not cut.
    assert [name for name in rows[0] if name][-6:] == ["orders", "new", "returning", "gross", "refunded", "net"]
    if by == "campaign":
        named = "".join(row[1] for row in rows[1:] if len(row) == 8)
        assert named.replace(" ", "") == f"{'a-campaign-with-a-name-of-many-letters' * 3}andwords"
    assert "".join(row[0] for row in rows if len(row) == 5) == "product" + "a-product-with-an-id-of-many-letters" * 2
    if width >= 120:
        assert max(map(len, shown.splitlines())) <= width


@pytest.mark.parametrize(
    ("currency", "amount", "text"),
    [
        ("USD", 123450, "1,234.50"),
        ("USD", 5, "0.05"),
        ("USD", -5, "-0.05"),
        ("JPY", 3000, "3,000"),
        ("KWD", 1234, "1.234"),
        ("USD", 10**17 + 1, "1,000,000,000,000,000.01"),
        ("", 0, "0.00"),
    ],
)
def test_amounts_are_exact(currency: str, amount: int, text: str) -> None:
    assert major(currency, amount) == text


def test_csv_has_a_line_for_each_row_with_exact_amounts(asked: list[Any]) -> None:
    header, *lines = report("--csv", "--by", "channel").stdout.splitlines()
    assert header == "currency,channel,orders,new,returning,gross,refunded,net,spend,roas"
    assert lines
    assert all("," not in cell for line in lines for cell in line.split(","))
    products = report("--csv", "--by", "product").stdout.splitlines()
    assert products == ["product,currency,units,orders,views,revenue", "p1,USD,2,1,9,1234.50"]


def test_the_rows_show_the_period_before(asked: list[Any]) -> None:
    arguments = ("--from", "2026-01-05", "--to", "2026-01-11", "--compare", "previous")
    shown = report("--by", "channel", *arguments)
    assert [(wish.first, wish.last) for _, wish in asked] == [
        (date(2026, 1, 5), date(2026, 1, 11)),
        (date(2025, 12, 29), date(2026, 1, 4)),
    ]
    assert "net before" in shown.stdout
    assert "+0.0 %" in shown.stdout
    assert "previous" in json.loads(report("--json", *arguments).stdout)
    assert report("--csv", "--by", "day", *arguments).stdout.splitlines()[0].endswith("previous_gross,previous_net")
    refused = report("--compare", "previous", "--from", "2026-01-05")
    assert refused.exit_code == 2
    assert "--from and --to" in refused.stderr
