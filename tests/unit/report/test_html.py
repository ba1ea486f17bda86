"""The page of a report has every figure, runs and loads only its own script, and escapes texts."""

from __future__ import annotations

import base64
import hashlib
import re
from datetime import timedelta
from functools import cache
from html.parser import HTMLParser
from typing import Any

import pytest

from tests.unit.report.reports import DAYS, HOSTILE, money, report_of
from truepixel_dagster.report.charts import (
    ON_WHITE,
    OTHER,
    advertised,
    png,
    revenue_by_day,
    roas_by_day,
    series_of,
    svg,
)
from truepixel_dagster.report.html import page, path_text


class Parsed(HTMLParser):
    """The elements of a page and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data: str) -> None:
        self.text += data


@cache
def usual_page() -> str:
    return page(report_of(), "Europe/Berlin")


def test_the_page_has_every_figure_and_a_table_behind_each_chart() -> None:
    found = Parsed(usual_page())
    for words in (
        "Shop 7, 2026-01-01 to 2026-01-30", "days in Europe/Berlin", "1,234.50", "+23.4 % from 1,000.00", "12.50",
        "3.00", "nothing before", "orders 2, revenue 3,000 JPY, spend 500 JPY", "winter", "25.0 %", "20.00",
        "paid_search × 2 → email", "50.0 %",
    ):  # fmt: skip
        assert words in found.text, words
    captions = [tag for tag, _ in found.elements].count("caption")
    assert captions == 7
    assert found.text.count("2026-01-17") == 2
    charts = [each for tag, each in found.elements if each.get("role") == "img"]
    assert len(charts) == 4
    assert all("a table below has the figures" in (each["aria-label"] or "") for each in charts)


def test_nothing_runs_or_loads_but_the_pages_own_script() -> None:
    text = usual_page()
    found = Parsed(text)
    names = {name for _, attributes in found.elements for name in attributes}
    assert not {"src", "href", "xlink:href", "action", "srcset"} & names
    assert not [name for name in names if name.startswith("on")]
    assert set(re.findall(r"https?://[^\"' ]+", text)) <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = [each["content"] for _, each in found.elements if each.get("http-equiv") == "Content-Security-Policy"]
    nothing = "default-src 'none'; base-uri 'none'; form-action 'none'"
    assert policy == f"{nothing}; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"


def test_texts_from_outside_are_escaped_wherever_they_stand() -> None:
    hostile = report_of(HOSTILE, HOSTILE, shop=HOSTILE)
    found = Parsed(text := page(hostile, HOSTILE))
    assert [tag for tag, _ in found.elements].count("script") == 1
    assert "alert(1)</script>\\x1b[31m\\u202e" in found.text
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_the_same_figures_give_the_same_page() -> None:
    assert page(report_of(), "Europe/Berlin") == usual_page()


def test_what_is_missing_is_named() -> None:
    nothing = money(0, 0, "0", roas=None)
    lists: dict[str, Any] = {name: [] for name in ("others", "by_day", "campaigns", "funnel", "cohorts", "paths")}
    empty = Parsed(page(report_of(**lists, summary=nothing, before=nothing), None))
    assert "The tables have no visits, orders or spend of these days" in empty.text
    found = Parsed(page(report_of(cohorts=[], paths=[]), None))
    assert "No cohorts yet" in found.text
    assert "No journeys yet" in found.text


def test_small_channels_are_summed_up_and_no_revenue_is_lost() -> None:
    rows = [
        {"day": report_of().first, "channel": f"channel-{number}", "revenue": 100 * number, "spend": 0}
        for number in range(1, 12)
    ]
    series = series_of(rows, "EUR")
    assert series.channels == [*(f"channel-{number}" for number in range(11, 4, -1)), OTHER]
    assert sum(each["revenue"] for each in series.values) == pytest.approx(66)


def test_orders_of_other_sales_channels_are_summed_up_with_the_small_channels() -> None:
    names = [OTHER, *(f"channel-{number}" for number in range(1, 11))]
    rows = [
        {"day": report_of().first, "channel": name, "revenue": 100 * (11 - place), "spend": 0}
        for place, name in enumerate(names)
    ]
    series = series_of(rows, "EUR")
    assert series.channels == [*(f"channel-{number}" for number in range(1, 8)), OTHER]
    assert [each["revenue"] for each in series.values if each["channel"] == OTHER] == [11 + 3 + 2 + 1]
    few = series_of(rows[:8], "EUR")
    assert few.channels.count(OTHER) == 1


def test_a_shop_without_spend_has_no_chart_of_roas() -> None:
    rows = [{**row, "spend": 0} for row in report_of().by_day]
    series = series_of(rows, "EUR")
    assert roas_by_day(series, 300, ON_WHITE) is None
    assert len(series.values) == 2 * DAYS


def test_a_chart_is_a_picture_with_escaped_names() -> None:
    spec = revenue_by_day(series_of(report_of(channel="<b>&").by_day, "EUR"), "EUR", 300, ON_WHITE)
    drawn = svg(spec)
    assert "<b>" not in drawn
    assert "&lt;b&gt;&amp;" in drawn
    assert png(spec).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("path", "text"),
    [(["email"], "email"), (["email", "email"], "email × 2"), (["a", "b", "b", "a"], "a → b × 2 → a")],
)
def test_a_path_names_repeated_channels_once(path: list[str], text: str) -> None:
    assert path_text(path) == text


def test_roas_is_over_seven_days_and_of_channels_with_considerable_spend() -> None:
    days = [report_of().first + timedelta(days=number) for number in range(9)]
    rows = [
        *({"day": day, "channel": "paid_search", "revenue": 0, "spend": 100} for day in days),
        {"day": days[1], "channel": "paid_search", "revenue": 2100, "spend": 0},
        {"day": days[0], "channel": "email", "revenue": 500, "spend": 40},
    ]
    series = series_of(rows, "EUR")
    assert advertised(series) == ["paid_search"]
    roas = [each["roas"] for each in series.values if each["channel"] == "paid_search"]
    # Of the last 7 days, or of as many as there are; the order is eight days old at the end.
    assert roas == [0, 10.5, 7, 5.25, 4.2, 3.5, 3, 3, 0]
