"""`truepixel report`: parse arguments and print."""

from __future__ import annotations

import csv
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from truepixel_dagster.answers.cohorts import AGES
from truepixel_dagster.answers.journeys import ALL_MODELS
from truepixel_dagster.orders.credit import MODELS
from truepixel_dagster.report.figures import GROUPINGS, Row, Total, major, shown_orders
from truepixel_dagster.report.period import COHORT, PRODUCT, RequestedPeriod
from truepixel_dagster.settings import Settings, load_settings
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
_COHORT_AMOUNTS = (*(f"net_{age}" for age in AGES), "net_to_date")
COHORT_COLUMNS = ("month", "channel", "currency", "customers", "repeat_customers", "repeat_rate", *_COHORT_AMOUNTS)
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
@click.option(
    "--model",
    type=click.Choice(ALL_MODELS),
    default="last_click",
    show_default=True,
    help="Attribution model; markov and shapley come from the tables, by whole days.",
)
@click.option(
    "--by",
    type=click.Choice([*GROUPINGS, PRODUCT, COHORT]),
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
    help="Show the previous period of the same length next to each row.",
)
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV instead of a table; amounts in major units.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table; amounts in minor units.")
@click.option(
    "--html",
    "page",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write a page with charts, campaigns, cohorts and paths to this file, from the tables; --by has no effect.",
)
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
    page: Path | None,
) -> None:
    """Show orders and revenue by channel, platform, campaign or day, spend, visitors this week, and the best products.

    Gross is the value of the orders, refunded the amount paid back, and net the difference, in the shop's currency. An
    order that is credited to several rows counts in each by its share. New and returning count the orders of new and
    returning customers; for the other orders this is unknown. Test orders are not counted. Spend is what
    `truepixel spend import` imported, of whole days.

    Pages, cohorts and data-driven models come from the tables: `truepixel tables --refresh` materializes them.
    """
    requested = _requested(first, last, latest)
    if page is not None:
        if as_csv or as_json:
            raise click.UsageError("--html excludes --csv and --json")
        return _write_page(page, shop, model, requested)
    if by == COHORT:
        if compare:
            raise click.UsageError("--by cohort excludes --compare: its rows are months")
        return _print_cohorts(shop, requested, as_csv=as_csv, as_json=as_json)
    return _print_orders(shop, model, by, requested, compare=compare is not None, as_csv=as_csv, as_json=as_json)


def _print_orders(
    shop: str, model: str, by: str, requested: RequestedPeriod, *, compare: bool, as_csv: bool, as_json: bool
) -> None:
    from truepixel_dagster.lake.files import lake_of
    from truepixel_dagster.reachable import check_stores
    from truepixel_dagster.report.reading import busiest_shops, has_documents, shop_report
    from truepixel_dagster.report.spending import add_from_tables
    from truepixel_dagster.resources import open_stores

    now = int(time.time() * 1000)
    before = _before(requested, now) if compare else None
    settings = load_settings()
    check_stores(settings, ("elasticsearch", "mongodb"))
    from_tables = partial(add_from_tables, lake_of(settings), shop)
    with open_stores(settings) as stores:
        found = shop_report(stores, shop, model, by, requested, now, from_tables)
        previous = shop_report(stores, shop, model, by, *before, from_tables) if before else None
        # Probably the id is mistyped, or nothing was drained and flushed yet.
        known = busiest_shops(stores.elasticsearch) if found.empty else []
        is_unknown = found.empty and not has_documents(stores.elasticsearch, shop)
    if found.empty:
        what = f"shop {shop} {found.period}".rstrip()
        say(f"no data of {what}. Shops with events: {', '.join(known) or 'none yet'}")
    elif model not in MODELS and not found.totals:
        say(f"the tables have no data of shop {shop} {found.period}".rstrip() + ": run `truepixel tables --refresh`")
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


def _write_page(file: Path, shop: str, model: str, requested: RequestedPeriod) -> None:
    from truepixel_dagster.lake.files import lake_of
    from truepixel_dagster.report.answers import report_data, shops_between
    from truepixel_dagster.report.html import page

    settings = load_settings()
    first, last, zone = _days(settings, shop, requested)
    data = report_data(lake_of(settings), shop, model, first, last)
    if data.empty:
        known = shops_between(lake_of(settings), first, last)
        raise click.ClickException(
            f"the tables have no data of shop {shop} from {first} to {last}: run `truepixel tables --refresh`, or"
            f" choose other days. Shops in the tables on these days: {', '.join(known) or 'none'}"
        )
    file.write_text(page(data, zone), "utf-8")
    echo(f"the page of shop {shop}, {first} to {last}: {file}")


def _print_cohorts(shop: str, requested: RequestedPeriod, *, as_csv: bool, as_json: bool) -> None:
    from truepixel_dagster.lake.files import lake_of
    from truepixel_dagster.report.answers import cohort_rows

    settings = load_settings()
    first, last, _ = _days(settings, shop, requested, months=True)
    rows = cohort_rows(lake_of(settings), shop, first, last)
    if not rows:
        say(f"no cohorts of shop {shop} from {first:%Y-%m} to {last:%Y-%m}: run `truepixel tables --refresh` first")
    if as_json:
        print_json([_cohort(row) for row in rows])
    elif as_csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(COHORT_COLUMNS)
        writer.writerows(_cohort_cells(row, _plain) for row in rows)
    else:
        numbers = COHORT_COLUMNS[3:]
        cells = [_cohort_cells(row, major) for row in rows]
        print_table(table(COHORT_COLUMNS, cells, title=f"cohorts of shop {shop}", numbers=numbers), out)


def _days(
    settings: Settings, shop: str, requested: RequestedPeriod, *, months: bool = False
) -> tuple[date, date, str | None]:
    """Return the first and last of the shop's days that are requested, and its time zone; all months by default."""
    from truepixel_dagster.resources import open_stores
    from truepixel_dagster.stores.shops import Shops

    with open_stores(settings.quick_to_give_up()) as stores:
        shop_time = Shops(stores.mongodb).days([shop]).of(shop)
    now = int(time.time() * 1000)
    period, today = requested.of(shop_time, now), date.fromisoformat(shop_time.day(now))
    if months:
        return period.first or settings.history_start, period.last or today, shop_time.time_zone
    return *period.whole_days(today), shop_time.time_zone


def _cohort(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a cohort for JSON."""
    rate = row["repeat_rate"]
    figures = {name: row[name] for name in COHORT_COLUMNS[1:]}
    return {"month": f"{row['day']:%Y-%m}", **figures, "repeat_rate": None if rate is None else float(rate)}


def _cohort_cells(row: Mapping[str, Any], shown: Callable[[str, int], str]) -> list[object]:
    rate = "" if row["repeat_rate"] is None else f"{row['repeat_rate']:.4f}"
    amounts = ("" if row[name] is None else shown(row["currency"], row[name]) for name in _COHORT_AMOUNTS)
    counts = (row["customers"], row["repeat_customers"], rate)
    return [f"{row['day']:%Y-%m}", row["channel"], row["currency"], *counts, *amounts]


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
    """Yield the figures of a row as people write them, in the order of `FIGURES`, and its costs."""
    for orders in (row.orders, row.new_customers, row.returning_customers):
        yield shown_orders(orders)
    for amount in (row.gross, row.refunded, row.net):
        yield major(row.currency, amount)
    if with_costs:
        yield major(row.currency, row.spend)
        yield "" if row.roas is None else f"{row.roas:,.2f}"


def _changes(row: Row | Total, before: Row | Total | None) -> Iterator[str]:
    """Yield the net of the period before, and the change."""
    yield major(row.currency, before.net if before else 0)
    yield f"{100 * (row.net - before.net) / before.net:+,.1f} %" if before and before.net else ""
