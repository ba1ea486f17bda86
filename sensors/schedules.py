"""What runs by the clock."""

from __future__ import annotations

import dagster as dg

from truepixel_dagster.asset_keys import PRODUCT_STATS, WEEKLY_VISITORS

flush_job = dg.define_asset_job(
    "flush",
    selection=[PRODUCT_STATS, WEEKLY_VISITORS],
    executor_def=dg.in_process_executor,
    description="Flushes the buffered counters from Redis to Elasticsearch: claim, write, acknowledge.",
    tags={"dagster/retry_on_asset_or_op_failure": "false", "dagster/max_retries": "0"},
)

flush_every_minute = dg.ScheduleDefinition(
    name="flush_every_minute",
    job=flush_job,
    cron_schedule="* * * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Brings product statistics and weekly visitors up to date in Elasticsearch every minute.",
)
