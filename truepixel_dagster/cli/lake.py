"""`truepixel spend | sql | tables`: import ad spend, and query the tables of the lake with SQL."""

from __future__ import annotations

import csv
import sys
from typing import TYPE_CHECKING

import click

from truepixel_dagster.answers.tables import TABLES
from truepixel_dagster.cli.options import as_json, progress_bar
from truepixel_dagster.events.money import currency_code
from truepixel_dagster.settings import load_settings
from truepixel_dagster.terminal import echo, out, print_json, print_table, say, table

if TYPE_CHECKING:
    from truepixel_dagster.lake.sql import Found

_SHOWN_ROWS = 1000


@click.group()
def spend() -> None:
    """Import ad spend from the files that ad platforms export."""


def _currency(_context: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    try:
        return value and currency_code(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@spend.command(name="import")
@click.argument("file")
@click.option("--shop", help="The shop's id, if no column has it.")
@click.option("--currency", callback=_currency, help="Currency of the amounts, such as EUR, if no column has it.")
@click.option(
    "--skip-bad-rows", is_flag=True, help="Skip bad rows and import the others; otherwise bad rows stop the import."
)
@as_json
def import_file(file: str, shop: str | None, currency: str | None, skip_bad_rows: bool, as_json: bool) -> None:
    """Import all rows of FILE, or none: ad spend or exchange rates, as CSV or Parquet.

    The columns identify exports of Google Ads, Meta and TikTok, and a plain form: see docs/spend.md.
    Rows replace those of the same shop, day, platform and campaign. FILE may be an address such as s3://bucket/file.csv.
    """
    from truepixel_dagster.rebuild.spend_files import import_spend

    done = import_spend(load_settings(), file, shop, currency, skip_bad_rows=skip_bad_rows)
    for each in done.bad:
        say(f"line {each.line} was skipped: {each.reason}")
    if as_json:
        return print_json(done)
    echo(f"imported {done.rows:,} rows of {done.form}, {done.days[0]} to {done.days[-1]}")
    return None


@click.command()
@click.argument("query", required=False)
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV instead of a table.")
@as_json
def sql(query: str | None, as_csv: bool, as_json: bool) -> None:
    """Run QUERY, or the query on standard input, with DuckDB on the tables of the lake. It cannot write anything.

    `truepixel tables` lists the tables; docs/tables.md describes their columns.
    """
    from truepixel_dagster.lake.files import lake_of
    from truepixel_dagster.lake.sql import open_sql

    text = query if query is not None else sys.stdin.read()
    with open_sql(lake_of(load_settings())) as opened:
        found = opened.query(text)
        if as_json:
            print_json([{name: _plain(value) for name, value in row.items()} for row in found.rows()])
        elif as_csv:
            writer = csv.writer(sys.stdout, lineterminator="\n")
            writer.writerow(found.columns)
            writer.writerows(found)
        else:
            _print(found)


def _plain(value: object) -> object:
    """Return a value for JSON: decimals and times as text, so that they stay exact."""
    return value if value is None or isinstance(value, bool | int | float | str | list | dict) else str(value)


def _print(found: Found) -> None:
    rows = iter(found)
    shown = [row for row, _ in zip(rows, range(_SHOWN_ROWS))]
    print_table(table(found.columns, shown), out)
    if next(rows, None) is not None:
        say(f"these are the first {_SHOWN_ROWS:,} rows; --csv prints all")


@click.command()
@click.option("--refresh", is_flag=True, help="Materialize the stale days, people and cohorts first.")
@click.option("--dbt", is_flag=True, help="Print dbt's sources.yml for the tables instead.")
@as_json
def tables(refresh: bool, dbt: bool, as_json: bool) -> None:
    """List the tables of the lake with their days, and the stale days.

    A day is stale if its documents, spend, rates or the shop's time zone have changed since it was materialized.
    """
    from truepixel_dagster.lake.files import lake_of
    from truepixel_dagster.reachable import check_stores
    from truepixel_dagster.rebuild.answers import MAKERS
    from truepixel_dagster.rebuild.everything import refresh_everything
    from truepixel_dagster.rebuild.lake import days_of_history, making, stale_days

    settings = load_settings()
    if dbt:
        from truepixel_dagster.lake.dbt import sources_of

        return echo(sources_of(lake_of(settings)), keep="\n")
    check_stores(settings, ("elasticsearch", "mongodb"))
    days = days_of_history(settings)
    with making(settings) as tools, progress_bar("tables") as bar:
        if refresh:
            refresh_everything(tools, days, lambda what, done, total: bar(done, total or None, what))
        stale = stale_days(tools, MAKERS.values(), days)
        made = {each.name: tools.lake.days(each) for each in TABLES.values()}
    if as_json:
        return print_json({"made": made, "stale": stale})
    rows = ((name, len(own), own[0] if own else "", own[-1] if own else "") for name, own in made.items())
    numbers = ("days", "stale")
    cells = ((name, *rest, len(stale.get(name, {}))) for name, *rest in rows)
    print_table(table(("table", "days", "first", "last", "stale"), cells, numbers=numbers), out)
    for name, of_table in stale.items():
        echo(f"stale days of {name}: {', '.join(of_table)}")
    return None
