"""Backfill 30 days of history through the webserver's API, and measure time and peak memory of each run.

.venv/bin/python benchmarks/backfill.py [--events N] [--days N]

All data of the days except the topic is deleted first, and the audit checks the backfill's result.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import dagster as dg
from rich.console import Console
from rich.table import Table

from truepixel_dagster.asset_keys import (
    AD_LEADS,
    ATTRIBUTIONS,
    CUSTOMERS,
    EVENTS,
    PRODUCT_STATS,
    WEEKLY_VISITORS,
)
from truepixel_dagster.audit.audit import audit
from truepixel_dagster.flush import flush_product_stats, flush_weekly_visitors
from truepixel_dagster.instance.process import dagster_home
from truepixel_dagster.jobs.drain import drain
from truepixel_dagster.jobs.rebuilding import DOCUMENTS_OF_A_REBUILD
from truepixel_dagster.local.demo import dagster_dev, free_port, produce
from truepixel_dagster.local.ephemeral import ephemeral_stack, identified
from truepixel_dagster.local.graphql import GraphQL
from truepixel_dagster.local.traffic import FIRST
from truepixel_dagster.provision import provision
from truepixel_dagster.resources import Stores, open_stores
from truepixel_dagster.settings import Settings
from truepixel_dagster.stores.mongodb import AD_LEADS as AD_LEADS_COLLECTION
from truepixel_dagster.stores.mongodb import CUSTOMERS as CUSTOMERS_COLLECTION

BY_DAY = (EVENTS, AD_LEADS, ATTRIBUTIONS, CUSTOMERS, PRODUCT_STATS)
MARGIN = timedelta(hours=2)
say = Console(stderr=True).print


def lose(stores: Stores) -> None:
    """Delete every document: the indices, and the collections' content."""
    for name in ("events-", "attributions", "product-stats-", "weekly-visitors"):
        for index in stores.elasticsearch.indices(name):
            stores.elasticsearch.drop(index)
    for collection in (AD_LEADS_COLLECTION, CUSTOMERS_COLLECTION):
        stores.mongodb.collection(collection).delete_many({})


@contextmanager
def webserver(settings: Settings) -> Iterator[GraphQL]:
    """Run Dagster's UI and daemon on a free port."""
    port = free_port(0)
    with dagster_dev(settings, port, writable=True):
        api = GraphQL(f"http://127.0.0.1:{port}")
        api.wait()
        yield api


def runs(settings: Settings) -> list[list[Any]]:
    """Return the figures that each run reported for each asset."""
    rows: dict[tuple[str, str], list[Any]] = {}
    with dg.DagsterInstance.from_config(str(dagster_home(settings))) as instance:
        for asset in (*BY_DAY, WEEKLY_VISITORS):
            for record in instance.fetch_materializations(dg.AssetKey(asset), limit=1000).records:
                figures = {name: value.value for name, value in record.asset_materialization.metadata.items()}  # type: ignore[union-attr]
                if figures.get("written by") == "rebuild":
                    names = ("partitions of the run", DOCUMENTS_OF_A_REBUILD, "documents changed", "seconds")
                    row = [record.run_id[:8], asset, *(figures[n] for n in names), figures["peak memory (MiB)"]]
                    rows[record.run_id, asset] = row
    return list(rows.values())


def main() -> None:
    """Fill the stores, delete their documents, backfill, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--days", type=int, default=30)
    options = parser.parse_args()
    first = (datetime.now(timezone.utc) - timedelta(days=options.days)).replace(hour=0, minute=0, second=0)
    days = [(first.date() + timedelta(days=number)).isoformat() for number in range(options.days)]
    with tempfile.TemporaryDirectory() as folder, ephemeral_stack(Path(folder)) as servers:
        settings = identified(servers).model_copy(update={"history_start": first.date()})
        provision(settings)
        say(f"generating {options.events:,} events of {options.days} days")
        # Clients' clocks are early or late, so keep all events within the requested days.
        span = timedelta(days=options.days) - 2 * MARGIN
        produce(settings, options.events, seed=1, start=first + MARGIN, span=span, profile=FIRST)
        say("draining")
        drain(settings, lambda _: None)
        with open_stores(settings) as stores:
            flush_product_stats(stores.redis, stores.elasticsearch)
            flush_weekly_visitors(stores.redis, stores.elasticsearch)
            lose(stores)
        provision(settings)
        say("everything but the topic is deleted; backfilling")
        with webserver(settings) as api:
            began = time.monotonic()
            api.backfill(BY_DAY, days, seconds=7200)
            by_day = time.monotonic() - began
            say(f"the days are there after {by_day:.0f} s; the weeks")
            api.backfill([WEEKLY_VISITORS], sorted({monday(day) for day in days}), seconds=7200)
        with open_stores(settings) as stores:
            flush_product_stats(stores.redis, stores.elasticsearch)
        table = Table(
            *("run", "asset", "partitions", "documents", "changed", "seconds", "peak of the run so far, MiB"),
            title=f"{options.events:,} events of {options.days} days, one backfill: {by_day:.0f} s",
        )
        for row in sorted(runs(settings), key=lambda row: row[-1]):
            table.add_row(*map(str, row))
        Console().print(table)
        differences = audit(settings).differences
        Console().print(f"the audit finds {len(differences)} differences")
        for difference in differences[:20]:
            Console().print(f"  {difference}")


def monday(day: str) -> str:
    """Return the partition of the week of a day."""
    at = date.fromisoformat(day)
    return (at - timedelta(days=at.weekday())).isoformat()


if __name__ == "__main__":
    main()
