"""`truepixel report`: arguments and printing only."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date
from typing import TYPE_CHECKING

import click

from truepixel_dagster.orders.credit import MODELS
from truepixel_dagster.report.figures import GROUPINGS, Row, Total
from truepixel_dagster.report.period import RequestedPeriod
from truepixel_dagster.settings import load_settings
from truepixel_dagster.terminal import echo, out, print_json, print_table, say, table

if TYPE_CHECKING:
    from truepixel_dagster.report.reading import ShopReport

_HOUR = 3_600_000
_UNITS = {"h": _HOUR, "d": 24 * _HOUR, "w": 7 * 24 * _HOUR}
_AGE = re.compile(r"([1-9][0-9]{0,2})([hdw])")
_YEARS = range(1970, 2100)
FIGURES = ("orders", "new", "returning", "gross", "refunded", "net")


def _day(_context: click.Context, _option: click.Parameter, value: str | None) -> date | None:
    if value is None:
        return None
    try:
        day = date.fromisoformat(value)
    except ValueError:
        day = None
    if day is None or day.isoformat() != value or day.year not in _YEARS:
        raise click.BadParameter(f"{value[:80]!r} is not a day such as 2026-01-31")
    return day


def _age(_context: click.Context, _option: click.Parameter, value: str | None) -> int | None:
    if value is None:
        return None
    found = _AGE.fullmatch(value)
    if found is None:
        raise click.BadParameter(f"{value[:80]!r} is not a time such as 24h, 7d or 4w")
    return int(found[1]) * _UNITS[found[2]]


@click.command()
@click.option("--shop", required=True, help="The shop id.")
@click.option("--model", type=click.Choice(MODELS), default="last_click", show_default=True, help="Attribution model.")
@click.option(
    "--by", type=click.Choice(list(GROUPINGS)), default="campaign", show_default=True, help="How to group the rows."
)
@click.option("--from", "first", metavar="DAY", callback=_day, help="The first day, such as 2026-01-01; the shop's.")
@click.option("--to", "last", metavar="DAY", callback=_day, help="The last day; the shop's.")
@click.option(
    "--last",
    "latest",
    metavar="TIME",
    callback=_age,
    help="The time until now: 24h, 7d or 4w; without --from and --to.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def report(
    shop: str, model: str, by: str, first: date | None, last: date | None, latest: int | None, as_json: bool
) -> None:
    """Show orders and revenue by channel, platform or campaign, visitors this week, and the best products.

    Gross is the value of the orders, refunded the amount paid back, and net the difference, in the shop's currency. An
    order that is credited to several rows counts in each by its share. New and returning count the orders of new and
    returning customers; for the other orders this is unknown. Test orders are not counted.
    """
    from truepixel_dagster.report.reading import busiest_shops, shop_report
    from truepixel_dagster.resources import open_stores

    with open_stores(load_settings()) as stores:
        found = shop_report(stores, shop, model, by, _requested(first, last, latest))
        # Probably the id is mistyped, or nothing was drained and flushed yet.
        known = busiest_shops(stores.elasticsearch) if found.empty else []
    if found.empty:
        what = f"shop {shop} {found.period}".rstrip()
        say(f"no data of {what}. Shops with events: {', '.join(known) or 'none yet'}")
    print_json(found) if as_json else print_report(found)
    if found.unreadable:
        say(f"{found.unreadable:,} unreadable documents were not counted, such as: {found.why_unreadable}")


def _requested(first: date | None, last: date | None, latest: int | None) -> RequestedPeriod:
    if latest is not None and (first or last):
        raise click.UsageError("--last excludes --from and --to: give either")
    if first and last and last < first:
        raise click.UsageError(f"--from {first} is later than --to {last}")
    return RequestedPeriod(first, last, latest)


def print_report(found: ShopReport) -> None:
    """Print a report as tables."""
    period = f" {found.period}" if found.period else ""
    echo(f"shop {found.shop}: {found.orders:,} orders{period}; {found.visitors:,} visitors in {found.week}")
    for total in found.totals:
        title = f"orders by {found.model}, {total.currency or 'without a value'}"
        shown = table((*GROUPINGS[found.by], *FIGURES), _cells(found, total), title=title, numbers=FIGURES)
        # A line above the total.
        shown.rows[-2].end_section = True
        print_table(shown, out)
    if found.test_orders:
        echo(f"test orders, not counted: {found.test_orders:,}")
    products = (
        (p.product_id, p.units, p.orders, p.views, [f"{major(c, a)} {c}" for c, a in p.revenue.items()])
        for p in found.products
    )
    numbers = ("units", "orders", "views", "revenue")
    print_table(table(("product", *numbers), products, title=f"best products{period}", numbers=numbers), out)


def _cells(found: ShopReport, total: Total) -> Iterator[tuple[object, ...]]:
    """Yield the rows of one currency, and their total."""
    names = GROUPINGS[found.by]
    for row in found.sources:
        if row.currency == total.currency:
            yield (*(getattr(row, name) for name in names), *figures(row))
    yield ("total", *("" for _ in names[1:]), *figures(total))


def figures(row: Row | Total) -> Iterator[str]:
    """Yield the figures of a row as people write them, in the order of `FIGURES`."""
    for orders in (row.orders, row.new_customers, row.returning_customers):
        yield f"{orders:,.2f}".removesuffix(".00")
    for amount in (row.gross, row.refunded, row.net):
        yield major(row.currency, amount)


def major(currency: str, amount: int) -> str:
    """Return minor units in major units, as people write them: `1,234.50`."""
    from truepixel_dagster.events.money import decimals

    places = decimals(currency)
    whole, part = divmod(abs(amount), 10**places)
    return f"{'-' if amount < 0 else ''}{whole:,}" + (f".{part:0{places}}" if places else "")
