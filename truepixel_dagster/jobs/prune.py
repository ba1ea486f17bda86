"""The jobs that remove what is old: runs of Dagster with their logs, and months of the event history."""

from datetime import datetime, timedelta, timezone

import dagster as dg

from truepixel_dagster.instance.pruning import prune
from truepixel_dagster.jobs.expected_errors import expected_errors
from truepixel_dagster.resources import open_stores
from truepixel_dagster.retention import drop_outdated
from truepixel_dagster.settings import load_settings
from truepixel_dagster.text import printable

MIB = 2**20
TAGS = {"dagster/retry_on_asset_or_op_failure": "false", "dagster/max_retries": "0"}


@dg.op(
    out=dg.Out(dg.Nothing),
    description="Removes old runs with their logs and files; the history of the assets and its plots stay.",
)
def prune_runs(context: dg.OpExecutionContext) -> None:
    """Prune, and report how much was freed."""
    settings = load_settings()
    pruned = prune(
        context.instance,
        datetime.now(timezone.utc),
        successful=timedelta(hours=settings.keep_successful_runs_hours),
        failed=timedelta(days=settings.keep_failed_runs_days),
        assets=timedelta(days=settings.keep_asset_history_days),
    )
    line = f"{pruned.runs} runs and {pruned.asset_events} events of assets removed; {pruned.freed / MIB:.1f} MiB freed"
    context.log.info(printable(line))
    context.add_output_metadata(
        {
            "runs removed": pruned.runs,
            "asset events removed": pruned.asset_events,
            "freed (MiB)": round(pruned.freed / MIB, 1),
            "left (MiB)": round(pruned.bytes_after / MIB, 1),
        }
    )


@dg.op(out=dg.Out(dg.Nothing), description="Drops the event indices whose month is older than the retention setting.")
def drop_old_months(context: dg.OpExecutionContext) -> None:
    """Drop them, and report their names."""
    settings = load_settings()
    with expected_errors(), open_stores(settings) as stores:
        names = drop_outdated(settings, stores, datetime.now(timezone.utc).date())
    listed = printable(", ".join(names))
    context.log.info(printable(f"dropped {listed or 'nothing'}"))
    context.add_output_metadata({"indices dropped": len(names), "names": listed})


@dg.job(
    description=(
        "Removes runs that succeeded a day ago or failed two weeks ago (TRUEPIXEL_KEEP_…), with their logs and files."
        " The assets keep their history and their plots."
    ),
    executor_def=dg.in_process_executor,
    tags=TAGS,
)
def prune_history() -> None:
    """Run the op."""
    prune_runs()


@dg.job(
    description="Drops months of the event history that are older than TRUEPIXEL_EVENT_RETENTION_MONTHS.",
    executor_def=dg.in_process_executor,
    tags=TAGS,
)
def drop_old_events() -> None:
    """Run the op."""
    drop_old_months()
