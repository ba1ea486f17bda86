"""Materialize all tables of 30 days by one Dagster run, a day again, and everything once more; measure seconds,
processor seconds and peak memory, and compare the bytes.

.venv/bin/python -m benchmarks.lake [--events N] [--days N]
"""

from __future__ import annotations

import argparse
import hashlib
import resource
import tempfile
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

import dagster as dg
from rich.console import Console
from rich.table import Table

from truepixel_dagster.asset_keys import LAKE
from truepixel_dagster.flush import flush_product_stats, flush_weekly_visitors
from truepixel_dagster.instance.partition_range import range_tags
from truepixel_dagster.instance.process import dagster_home, ended, execute
from truepixel_dagster.jobs.drain import drain
from truepixel_dagster.local.demo import produce
from truepixel_dagster.local.ephemeral import ephemeral_stack, identified
from truepixel_dagster.local.traffic import FULL, shops_of
from truepixel_dagster.provision import provision
from truepixel_dagster.resources import open_stores
from truepixel_dagster.settings import Settings

MARGIN = timedelta(hours=2)
say = Console(stderr=True).print


def run(settings: Settings, first: str, last: str) -> str:
    """Run `refresh_lake` for some days; return its seconds and processor seconds, with the start of its process."""
    began, used = time.monotonic(), processor_seconds()
    log = settings.data_dir / "logs" / "lake.log"
    process = execute(settings, "refresh_lake", dict(range_tags(first, last)), log)
    with ended([process]):
        if process.wait():
            raise SystemExit(f"refresh_lake failed:\n{log.read_text()[-3000:]}")
    return f"{time.monotonic() - began:.0f} s ({processor_seconds() - used:.0f} s of processor time)"


def processor_seconds() -> float:
    """Return the processor time of all processes that were started and awaited, so without the servers."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def digest(settings: Settings) -> str:
    """Return one digest of all tables."""
    files = sorted((settings.data_dir / "lake").rglob("*.parquet"))
    return hashlib.sha256(b"".join(hashlib.sha256(file.read_bytes()).digest() for file in files)).hexdigest()


def figures(settings: Settings) -> list[tuple[str, ...]]:
    """Return the figures that the newest run reported for each asset."""
    found = []
    with dg.DagsterInstance.from_config(str(dagster_home(settings))) as instance:
        for asset in LAKE:
            (record,) = instance.fetch_materializations(dg.AssetKey(asset), limit=1).records
            shown = record.asset_materialization.metadata  # type: ignore[union-attr]
            metadata = {name: each.value for name, each in shown.items()}
            rows = metadata.get("dagster/row_count", metadata.get("pages"))
            costs = (f"{metadata[name]}" for name in ("seconds", "processor seconds", "peak memory (MiB)"))
            found.append((asset, f"{rows:,}", *costs))
    return sorted(found, key=lambda row: float(row[-1]))


def main() -> None:
    """Fill the stores, and materialize the lake three times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--days", type=int, default=30)
    options = parser.parse_args()
    first = datetime.now(timezone.utc) - timedelta(days=options.days)
    days = [(first + timedelta(days=number)).date().isoformat() for number in range(options.days + 1)]
    with tempfile.TemporaryDirectory() as folder, ephemeral_stack(Path(folder)) as servers:
        settings = identified(servers).model_copy(update={"history_start": first.date()})
        provision(settings)
        say(f"sending {options.events:,} events of {options.days} days")
        produce(
            settings,
            options.events,
            seed=1,
            start=first + MARGIN,
            span=timedelta(days=options.days) - 2 * MARGIN,
            profile=FULL,
        )
        drain(settings, lambda _: None)
        with open_stores(settings) as stores:
            flush_product_stats(stores.redis, stores.elasticsearch)
            flush_weekly_visitors(stores.redis, stores.elasticsearch)
        say("materializing")
        everything = run(settings, days[0], days[-1])
        reported, made = figures(settings), digest(settings)
        day = run(settings, days[-2], days[-2])
        again = run(settings, days[0], days[-1])
        title = f"{options.events:,} events of {options.days} days and {len(shops_of(1, 20, FULL))} shops"
        table = Table("asset", "rows", "seconds", "processor seconds", "peak of the run so far, MiB", title=title)
        for row in reported:
            table.add_row(*row)
        Console().print(table)
        print(f"all days {everything}, a day again {day}, all days again {again}")
        print("the bytes are the same" if digest(settings) == made else "the bytes differ")


if __name__ == "__main__":
    main()
