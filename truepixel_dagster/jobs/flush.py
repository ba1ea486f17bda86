"""The job that flushes buffered counters: claim, write, acknowledge; each day and week that changed is reported."""

from collections.abc import Callable
from typing import Any

import dagster as dg
import msgspec

from truepixel_dagster.asset_keys import PRODUCT_STATS, WEEKLY_VISITORS
from truepixel_dagster.flush import FlushResult, flush_product_stats, flush_weekly_visitors
from truepixel_dagster.jobs.expected_errors import expected_errors
from truepixel_dagster.partitions import week_key
from truepixel_dagster.pipeline.run_metrics import peak_memory
from truepixel_dagster.resources import Stores, open_stores
from truepixel_dagster.settings import load_settings
from truepixel_dagster.text import label_of


@dg.op(out=dg.Out(dg.Nothing), description="Flushes buffered counters to product statistics, 100 keys at a time.")
def flush_products(context: dg.OpExecutionContext) -> None:
    """Flush product statistics and report each day."""
    result = _flushing(lambda stores: flush_product_stats(stores.redis, stores.elasticsearch))
    _report(context, PRODUCT_STATS, result, str)


@dg.op(out=dg.Out(dg.Nothing), description="Flushes the visitors of changed weeks, 100 weeks at a time.")
def flush_visitors(context: dg.OpExecutionContext) -> None:
    """Flush weekly visitors and report each week."""
    result = _flushing(lambda stores: flush_weekly_visitors(stores.redis, stores.elasticsearch))
    _report(context, WEEKLY_VISITORS, result, week_key)


def _flushing(flush: Callable[[Stores], FlushResult]) -> FlushResult:
    with expected_errors(". Nothing is lost: the next flush continues"), open_stores(load_settings()) as stores:
        return flush(stores)


def _report(context: dg.OpExecutionContext, asset: str, result: FlushResult, key_of: Callable[[str], str]) -> None:
    figures: dict[str, Any] = msgspec.to_builtins(result)
    partitions = figures.pop("partitions")
    run = {label_of(name): value for name, value in figures.items()}
    run |= {"peak memory (MiB)": round(peak_memory() / 2**20, 1)}
    context.add_output_metadata(run)
    for partition, keys in sorted(partitions.items()):
        metadata = {"written by": "flush", "keys of the partition": keys, **run}
        context.log_event(dg.AssetMaterialization(asset, partition=key_of(partition), metadata=metadata))


@dg.job(
    description="Flushes the buffered counters from Redis to Elasticsearch: claim, write, acknowledge.",
    executor_def=dg.in_process_executor,
    tags={"dagster/retry_on_asset_or_op_failure": "false", "dagster/max_retries": "0"},
)
def flush() -> None:
    """Run both ops."""
    flush_products()
    flush_visitors()
