"""Write a report's figures as one HTML page that needs no network: charts as SVG, a table behind each, a small script.

Jinja escapes every text from outside, and the page's content security policy allows its own script alone.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
from markupsafe import Markup

from truepixel_dagster.answers.cohorts import AGES
from truepixel_dagster.answers.funnel import STEPS
from truepixel_dagster.report.answers import TOP_PATHS, ReportData, Rows
from truepixel_dagster.report.charts import (
    OF_PAGE,
    Series,
    Spec,
    advertised,
    revenue_by_day,
    roas_by_day,
    series_of,
    svg,
)
from truepixel_dagster.report.figures import major, shown_orders
from truepixel_dagster.text import printable

_FOLDER = Path(__file__).parent / "page"
_WIDE, _NARROW = 980, 340
_NOTHING = "–"
_COMPARED = "Changes are against as many days right before."
# Below every number, so that cells without one are last.
_LAST = "-1"
_SUMMARY = ("revenue", "refunded", "net", "orders", "spend", "roas", "new_customers")


class Cell(NamedTuple):
    """Hold a cell: its text, the value that it sorts by, a smaller text beside it, and a share from 0 to 1 to shade."""

    text: str
    value: str
    small: str = ""
    share: float | None = None


class Grid(NamedTuple):
    """Hold a table: its first columns, `names` of them, are texts, the others numbers; `shade` is `heat` or `bar`."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    names: int = 1
    shade: str = ""
    sorted_by: int | None = None


class Card(NamedTuple):
    """Hold a figure of the summary, and how it changed."""

    label: str
    text: str
    change: str


class Chart(NamedTuple):
    """Hold a chart in two widths, its description, and its figures as a table."""

    id: str
    title: str
    says: str
    wide: Markup
    narrow: Markup
    table: Grid


class Section(NamedTuple):
    """Hold a part of the page that is a table; `nothing` is shown if it has no rows."""

    id: str
    title: str
    table: Grid
    nothing: str
    css: str = ""
    details: Grid | None = None


def page(data: ReportData, zone: str | None, draw: Callable[[Spec], str] = svg) -> str:
    """Return a report as an HTML page: the same figures give the same text.

    Arguments:
        data: The figures.
        zone: The shop's time zone; None if it is unknown.
        draw: Returns a chart as SVG.
    """
    script = (_FOLDER / "page.js").read_text("utf-8")
    hashed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    series = series_of(data.by_day, data.currency)
    return _template().render(
        title=f"Shop {data.shop}, {data.first} to {data.last}",
        subtitle=f"{data.currency or 'no currency'} · orders credited by {data.model} · days in {zone or 'UTC'}",
        empty=data.empty,
        cards=[_card(name, data) for name in _SUMMARY],
        compared=_COMPARED if _has_before(data) else "The tables have no figures of the days before.",
        others=[_other(row) for row in data.others],
        charts=list(_charts(series, data, draw)) if series.channels else [],
        sections=[_funnel(data.funnel), _campaigns(data), _cohorts(data), _paths(data)],
        style=Markup((_FOLDER / "page.css").read_text("utf-8")),  # noqa: S704 (our own file)
        script=Markup(script),  # noqa: S704 (our own file)
        script_hash=hashed,
    )


@cache
def _template() -> jinja2.Template:
    loader = jinja2.FileSystemLoader(_FOLDER)
    made = jinja2.Environment(
        loader=loader,
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        finalize=lambda value: value if isinstance(value, Markup) else printable(str(value)),
    )
    return made.get_template("page.html")


def _card(name: str, data: ReportData) -> Card:
    now, before = data.summary[name], data.before[name]
    label = "ROAS" if name == "roas" else name.replace("_", " ").capitalize()
    change = _change(name, now, before, data.currency) if _has_before(data) else ""
    return Card(label, _text(name, now, data.currency), change)


def _has_before(data: ReportData) -> bool:
    """Return whether the tables have figures of the days before."""
    return any(data.before[name] for name in ("visits", "orders", "spend"))


def _text(name: str, value: Any, currency: str) -> str:
    if value is None:
        return _NOTHING
    if name == "roas":
        return f"{value:,.2f}"
    if name in ("orders", "new_customers"):
        return shown_orders(value)
    return major(currency, int(value)) if name != "visits" else f"{value:,}"


def _change(name: str, now: Any, before: Any, currency: str) -> str:
    if not before or now is None:
        return "nothing before" if not before else ""
    percent = 100 * (float(now) - float(before)) / float(before)
    return f"{percent:+,.1f} % from {_text(name, before, currency)}"


def _other(row: Mapping[str, Any]) -> str:
    orders = shown_orders(row["orders"])
    if not row["currency"]:
        return f"Not in these figures, without an amount: orders {orders}."
    revenue, spend = (f"{major(row['currency'], row[name])} {row['currency']}" for name in ("revenue", "spend"))
    return f"Not in these figures: orders {orders}, revenue {revenue}, spend {spend}."


def _charts(series: Series, data: ReportData, draw: Callable[[Spec], str]) -> Iterable[Chart]:
    days = f"by day and channel, {data.first} to {data.last}; a table below has the figures"
    yield _chart(
        "revenue",
        f"Revenue by channel, {data.currency}",
        f"Stacked bars: revenue in {data.currency} {days}.",
        [draw(revenue_by_day(series, data.currency, width, OF_PAGE)) for width in (_WIDE, _NARROW)],
        _by_day(series, series.channels, "revenue", f"Revenue by day and channel, {data.currency}"),
    )
    specs = [roas_by_day(series, width, OF_PAGE) for width in (_WIDE, _NARROW)]
    if drawn := [draw(spec) for spec in specs if spec]:
        caption = "Revenue of seven days for each unit of their spend, of channels with 5 % of the spend or more"
        table = _by_day(series, advertised(series), "roas", caption)
        says = f"Lines: revenue of seven days for each unit of their spend, {days}."
        yield _chart("roas", "ROAS by channel, over seven days", says, drawn, table)


def _chart(id_: str, title: str, says: str, drawn: Sequence[str], table: Grid) -> Chart:
    # Vega escapes the texts in its SVG.
    wide, narrow = map(Markup, drawn)
    return Chart(id_, title, says, wide, narrow, table)


def _by_day(series: Series, channels: Sequence[str], name: str, caption: str) -> Grid:
    found = {(value["day"], value["channel"]): value[name] for value in series.values}
    days = sorted({value["day"] for value in series.values})
    rows = [[Cell(day, day), *(_number(found.get((day, channel)), "{:,.2f}") for channel in channels)] for day in days]
    return Grid(caption, ["day", *channels], rows)


def _number(value: float | Decimal | None, form: str) -> Cell:
    return Cell(_NOTHING, _LAST) if value is None else Cell(form.format(value), str(value))


def _funnel(rows: Rows) -> Section:
    total = {"channel": "all", **{step: sum(row[step] for row in rows) for step in STEPS}}
    lines = [
        [Cell(row["channel"], row["channel"]), *(_step(row, step) for step in STEPS)]
        for row in ([total, *rows] if rows else [])
    ]
    columns = ["channel", *(step.replace("_", " ") for step in STEPS)]
    table = Grid("Visits that reached each step, and their share of the visits", columns, lines, shade="bar")
    return Section("funnel", "Funnel", table, "No visits on these days.")


def _step(row: Mapping[str, Any], step: str) -> Cell:
    count, visits = row[step], row["visits"]
    share = min(1.0, count / visits) if visits else 0.0
    small = f"{100 * count / visits:.1f} %" if visits and step != "visits" else ""
    return Cell(f"{count:,}", str(count), small, share)


def _campaigns(data: ReportData) -> Section:
    numbers = ("visits", "orders", "new_customers", "revenue", "refunded", "net", "spend", "roas")
    rows = [
        [
            Cell(row["campaign"] or _NOTHING, row["campaign"]),
            *(Cell(row[name], row[name]) for name in ("platform", "channel")),
            *(
                Cell(_text(name, row[name], data.currency), _LAST if row[name] is None else str(row[name]))
                for name in numbers
            ),
        ]
        for row in data.campaigns
    ]
    columns = ["campaign", "platform", "channel", *(_heading(name) for name in numbers)]
    caption = f"All campaigns; amounts in {data.currency}; press a heading to sort"
    table = Grid(caption, columns, rows, names=3, sorted_by=columns.index("revenue"))
    return Section("campaigns", "Campaigns", table, "No campaign on these days.", "sortable")


def _heading(name: str) -> str:
    return "ROAS" if name == "roas" else name.removesuffix("_customers")


def _cohorts(data: ReportData) -> Section:
    own = [row for row in data.cohorts if row["currency"] == data.currency]
    ages = [*(f"net_{age}" for age in AGES), "net_to_date"]
    months = []
    for day, rows in groupby(own, key=lambda row: row["day"]):
        found = list(rows)
        sums = {name: _sum(row[name] for row in found) for name in ("customers", "repeat_customers", *ages)}
        months.append((f"{day:%Y-%m}", sums))
    most = {name: max((_each(sums, name) or 0 for _, sums in months), default=0) for name in ages}
    lines = [
        [
            Cell(month, month),
            Cell(f"{sums['customers']:,}", str(sums["customers"])),
            _rate(sums["repeat_customers"], sums["customers"]),
            *(_worth(_each(sums, name), most[name], data.currency) for name in ages),
        ]
        for month, sums in months
    ]
    columns = ["first order", "customers", "came back", *(f"{age} days" for age in AGES), "to date"]
    caption = f"Net for each customer so many days after the first order, {data.currency}, by month of that order"
    table = Grid(caption, columns, lines, shade="heat")
    nothing = "No cohorts yet: materialize the asset cohorts."
    return Section("cohorts", "Cohorts", table, nothing, details=_cohort_channels(own, data.currency) if own else None)


def _cohort_channels(rows: Rows, currency: str) -> Grid:
    lines = [
        [
            Cell(f"{row['day']:%Y-%m}", ""),
            Cell(row["channel"], ""),
            Cell(f"{row['customers']:,}", ""),
            _rate(row["repeat_customers"], row["customers"]),
            *(
                Cell(_NOTHING if row[name] is None else major(currency, row[name]), "")
                for name in (*(f"net_{age}" for age in AGES), "net_to_date")
            ),
        ]
        for row in rows
    ]
    columns = ["first order", "channel", "customers", "came back", *(f"net {age} days" for age in AGES), "net to date"]
    return Grid(f"Cohorts by channel: net of all customers, {currency}", columns, lines, names=2)


def _sum(values: Iterable[int | None]) -> int | None:
    """Return the sum; None if one is None: of a month, all or none are known."""
    found = list(values)
    return None if None in found else sum(value for value in found if value is not None)


def _each(sums: Mapping[str, int | None], name: str) -> int | None:
    """Return an amount for each customer, in minor units rounded down."""
    amount, customers = sums[name], sums["customers"]
    return amount // customers if amount is not None and customers else None


def _rate(part: int | None, whole: int | None) -> Cell:
    share = part / whole if part is not None and whole else None
    return Cell(_NOTHING if share is None else f"{100 * share:.1f} %", str(share or 0), share=share)


def _worth(amount: int | None, most: int, currency: str) -> Cell:
    if amount is None:
        return Cell(_NOTHING, _LAST)
    return Cell(major(currency, amount), str(amount), share=max(0.0, amount / most) if most else 0.0)


def _paths(data: ReportData) -> Section:
    most = max((row["orders"] for row in data.paths), default=1)
    rows = [
        [
            Cell(path_text(row["path"]), ""),
            Cell(f"{row['orders']:,}", str(row["orders"]), share=row["orders"] / most),
            Cell(major(data.currency, row["net"]), str(row["net"])),
        ]
        for row in data.paths
    ]
    caption = f"The {TOP_PATHS} most frequent journeys to an order, across a person's devices; net in {data.currency}"
    table = Grid(caption, ["path", "orders", "net"], rows, shade="bar")
    return Section("paths", "Top paths", table, "No journeys yet: materialize the asset journeys.")


def path_text(channels: Iterable[str]) -> str:
    """Return a path as text: repeated channels once, with their number."""
    parts = [(channel, len(list(same))) for channel, same in groupby(channels)]
    return " → ".join(channel if count == 1 else f"{channel} × {count}" for channel, count in parts)
