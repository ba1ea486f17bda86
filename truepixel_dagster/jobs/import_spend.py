"""The job that imports a file of the watched folder: the sensor `spend_files` starts it for each that is new."""

import dagster as dg
from pydantic import Field

from truepixel_dagster.asset_keys import AD_SPEND, RATES
from truepixel_dagster.jobs.lake import import_file


class SpendFile(dg.Config):
    """A file of the watched folder."""

    path: str = Field(description="the file's path within TRUEPIXEL_SPEND_URL, such as google-ads.csv")


@dg.op(out=dg.Out(dg.Nothing), description="Imports a file of spend or rates: all of its rows, or none.")
def import_spend_file(context: dg.OpExecutionContext, config: SpendFile) -> None:
    """Import it, and report the days of its table."""
    imported = import_file(context, config.path)
    key = RATES if imported.form == "rates" else AD_SPEND
    for day in imported.days:
        context.log_event(dg.AssetMaterialization(key, partition=day, metadata={"file": config.path}))
    context.add_output_metadata({"form": imported.form, "rows": imported.rows, "days": len(imported.days)})


@dg.job(
    description="Imports a file of the watched folder; bad lines fail the run, and its error lists them.",
    executor_def=dg.in_process_executor,
    config={"ops": {"import_spend_file": {"config": {"path": "google-ads.csv"}}}},
    tags={"dagster/retry_on_asset_or_op_failure": "false", "dagster/max_retries": "0"},
)
def import_spend() -> None:
    """Run the op."""
    import_spend_file()
