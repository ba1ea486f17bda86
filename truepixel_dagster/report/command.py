"""`truepixel report`: arguments and printing only."""

from __future__ import annotations

import csv
import re
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import date
from functools import partial
from typing import TYPE_CHECKING

import click
import msgspec

from truepixel_dagster.orders.credit import MODELS
from truepixel_dagster.report.figures import GROUPINGS, Row, Total
from truepixel_dagster.report.period import PRODUCT, RequestedPeriod
from truepixel_dagster.settings import load_settings
from truepixel_dagster.terminal import echo, out, print_json, print_table, say, table

if TYPE_CHECKING:
    from truepixel_dagster.report.reading import ShopReport

_HOUR = 3_600_000
_UNITS = {"h": _HOUR, "d": 24 * _HOUR, "w": 7 * 24 * _HOUR}
_AGE = re.compile(r"([1-9][0-9]{0,2})([hdw])")
_YEARS = range(1970, 2100)
FIGURES = ("orders", "new", "returning", "gross", "refunded", "net")
_COSTS, _CHANGES = ("spend", "roas"), ("net before", "change")
_COMPARED = ("orders", "gross", "net")
_NOTHING = {
    **dict.fromkeys(("gross", "refunded", "net", "spend"), 0),
    **dict.fromkeys(("orders", "new_customers", "returning_customers"), 0.0),
    "roas": None,
}


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
    "--by",
    type=click.Choice([*GROUPINGS, PRODUCT]),
    default="campaign",
    show_default=True,
    help="How to group the rows.",
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
@click.option(
    "--compare",
    type=click.Choice(["previous"]),
    help="Show beside each row the period of the same length before.",
)
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV instead of a table; amounts in major units.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table; amounts in minor units.")
def report(
    shop: str,
    model: str,
    by: str,
    first: date | None,
    last: date | None,
    latest: int | None,
    compare: str | None,
    as_csv: bool,
    as_json: bool,
) -> None:
    """Show orders and revenue by channel, platform, campaign or day, spend, visitors this week, and the best products.

    Gross is the value of the orders, refunded the amount paid back, and net the difference, in the shop's currency. An
    order that is credited to several rows counts in each by its share. New and returning count the orders of new and
    returning customers; for the other orders this is unknown. Test orders are not counted. Spend is what
    `truepixel spend import` imported, of whole days.
    """
    from truepixel_dagster.lake.files import lake_of
    from truepixel_dagster.report.reading import busiest_shops, has_documents, shop_report
    from truepixel_dagster.report.spending import spending
    from truepixel_dagster.resources import open_stores

    requested, now = _requested(first, last, latest), int(time.time() * 1000)
    before = _before(requested, now) if compare else None
    settings = load_settings()
    spent = partial(spending, lake_of(settings), shop)
    with open_stores(settings) as stores:
        found = shop_report(stores, shop, model, by, requested, now, spent)
        previous = shop_report(stores, shop, model, by, *before, spent) if before else None
        # Probably the id is mistyped, or nothing was drained and flushed yet.
        known = busiest_shops(stores.elasticsearch) if found.empty else []
        is_unknown = found.empty and not has_documents(stores.elasticsearch, shop)
    if found.empty:
        what = f"shop {shop} {found.period}".rstrip()
        say(f"no data of {what}. Shops with events: {', '.join(known) or 'none yet'}")
    if as_json:
        print_json({**msgspec.to_builtins(found), **({"previous": msgspec.to_builtins(previous)} if previous else {})})
    elif as_csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerows(as_lines(found, previous))
    else:
        print_report(found, previous)
    if found.unreadable:
        say(f"{found.unreadable:,} unreadable documents were not counted, such as: {found.why_unreadable}")
    if is_unknown:
        sys.exit(1)


def _requested(first: date | None, last: date | None, latest: int | None) -> RequestedPeriod:
    if latest is not None and (first or last):
        raise click.UsageError("--last excludes --from and --to: give either")
    if first and last and last < first:
        raise click.UsageError(f"--from {first} is later than --to {last}")
    return RequestedPeriod(first, last, latest)


def _before(requested: RequestedPeriod, now: int) -> tuple[RequestedPeriod, int]:
    try:
        return requested.before(now)
    except ValueError as error:
        raise click.UsageError(f"--compare previous: {error}; name both by --from and --to, or use --last") from None


def as_lines(found: ShopReport, previous: ShopReport | None = None) -> Iterator[Sequence[object]]:
    """Yield the lines of a report as CSV: a header, then its rows, or its products where it is by these."""
    if found.by == PRODUCT:
        yield ("product", "currency", "units", "orders", "views", "revenue")
        for product in found.products:
            units = (product.units, product.orders, product.views)
            for currency, amount in product.revenue.items() or (("", 0),):
                yield (product.product_id, currency, *units, _plain(currency, amount))
        return
    names = GROUPINGS[found.by]
    compared = tuple(f"previous_{name}" for name in _COMPARED) if previous else ()
    yield ("currency", *names, *FIGURES, *_COSTS, *compared)
    for row, before in _paired(found, previous):
        amounts = (_plain(row.currency, amount) for amount in (row.gross, row.refunded, row.net, row.spend))
        counts = (row.orders, row.new_customers, row.returning_customers)
        own = (row.currency, *(getattr(row, name) for name in names), *(f"{count:.6f}" for count in counts), *amounts)
        yield (*own, row.roas, *(_compared(before) if previous else ()))


def _paired(found: ShopReport, previous: ShopReport | None) -> Iterator[tuple[Row, Row | None]]:
    """Yield each row with the row before; a row that no longer exists has zeros now."""
    names = GROUPINGS[found.by]
    before = (
        {(row.currency, *(getattr(row, name) for name in names)): row for row in previous.sources} if previous else {}
    )
    for row in found.sources:
        yield row, before.pop((row.currency, *(getattr(row, name) for name in names)), None)
    if found.by == "day":
        # The days of the period before are not days of this one.
        return
    for row in before.values():
        yield msgspec.structs.replace(row, **_NOTHING), row


def _compared(before: Row | None) -> Iterator[object]:
    if before is None:
        yield from ("", "", "")
    else:
        yield f"{before.orders:.6f}"
        yield from (_plain(before.currency, amount) for amount in (before.gross, before.net))


def _plain(currency: str, amount: int) -> str:
    return major(currency, amount).replace(",", "")


def print_report(found: ShopReport, previous: ShopReport | None = None) -> None:
    """Print a report as tables."""
    period = f" {found.period}" if found.period else ""
    echo(f"shop {found.shop}: {found.orders:,} orders{period}; {found.visitors:,} visitors in {found.week}")
    before = {total.currency: total for total in previous.totals} if previous else {}
    for total in found.totals if found.by != PRODUCT else ():
        title = f"orders by {found.model}, {total.currency or 'without a value'}"
        more = (*(_COSTS if total.spend else ()), *(_CHANGES if previous else ()))
        numbers = (*FIGURES, *more)
        cells = _cells(found, total, previous, before.get(total.currency))
        shown = table((*GROUPINGS[found.by], *numbers), cells, title=title, numbers=numbers)
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
    best = "products" if found.by == PRODUCT else "best products"
    print_table(table(("product", *numbers), products, title=f"{best}{period}", numbers=numbers), out)


def _cells(
    found: ShopReport, total: Total, previous: ShopReport | None, total_before: Total | None
) -> Iterator[tuple[object, ...]]:
    """Yield the rows of one currency, and their total."""
    names = GROUPINGS[found.by]
    for row, before in _paired(found, previous):
        if row.currency == total.currency:
            changes = _changes(row, before) if previous else ()
            yield (*(getattr(row, name) for name in names), *figures(row, bool(total.spend)), *changes)
    changes = _changes(total, total_before) if previous else ()
    yield ("total", *("" for _ in names[1:]), *figures(total, bool(total.spend)), *changes)


def figures(row: Row | Total, with_costs: bool = False) -> Iterator[str]:
    """Yield the figures of a row as people write them, in the order of `FIGURES`, and what it cost."""
    for orders in (row.orders, row.new_customers, row.returning_customers):
        yield f"{orders:,.2f}".removesuffix(".00")
    for amount in (row.gross, row.refunded, row.net):
        yield major(row.currency, amount)
    if with_costs:
        yield major(row.currency, row.spend)
        yield "" if row.roas is None else f"{row.roas:,.2f}"


def _changes(row: Row | Total, before: Row | Total | None) -> Iterator[str]:
    """The net before, and by how much it has changed."""
    yield major(row.currency, before.net if before else 0)
    yield f"{100 * (row.net - before.net) / before.net:+,.1f} %" if before and before.net else ""


def major(currency: str, amount: int) -> str:
    """Return minor units in major units, as people write them: `1,234.50`."""
    from truepixel_dagster.events.money import decimals

    places = decimals(currency)
    whole, part = divmod(abs(amount), 10**places)
    return f"{'-' if amount < 0 else ''}{whole:,}" + (f".{part:0{places}}" if places else "")
