"""Define the schedules and their jobs."""

from __future__ import annotations

from collections.abc import Sequence

import dagster as dg

from truepixel_dagster.asset_keys import (
    ANSWERS_SUM,
    AUDIT,
    COHORTS,
    HEALTH,
    JOURNEYS_MATCH,
    LAKE,
    SHOP_REPORTS,
)
from truepixel_dagster.instance.partition_range import range_tags
from truepixel_dagster.jobs.flush import flush
from truepixel_dagster.jobs.prune import drop_old_events, prune_history
from truepixel_dagster.lake.errors import LakeError
from truepixel_dagster.partitions import DAYS, MONTHS
from truepixel_dagster.sensors.kafka_lag import LIVE
from truepixel_dagster.settings import SettingsError, load_settings
from truepixel_dagster.stores.errors import Unavailable
from truepixel_dagster.text import printable

# Checks that take long, and whose results do not change within hours.
_NIGHTLY = [dg.AssetCheckKey(dg.AssetKey(HEALTH), name) for name in (AUDIT, JOURNEYS_MATCH, ANSWERS_SUM)]

flush_every_minute = dg.ScheduleDefinition(
    name="flush_every_minute",
    job=flush,
    cron_schedule="* * * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Updates product statistics and weekly visitors in Elasticsearch every minute.",
)

audit_job = dg.define_asset_job(
    "audit",
    selection=dg.AssetSelection.checks(*_NIGHTLY),
    executor_def=dg.in_process_executor,
    description="Compares every store with the documents expected from the topic, and the lake with attributions.",
    tags={"dagster/retry_on_asset_or_op_failure": "false", "dagster/max_retries": "0"},
)

audit_every_night = dg.ScheduleDefinition(
    name="audit_every_night",
    job=audit_job,
    cron_schedule="30 3 * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Audits the pipeline every night at 03:30 UTC; it reads the whole topic.",
)

health_job = dg.define_asset_job(
    "check_health",
    selection=dg.AssetSelection.checks_for_assets(dg.AssetKey(HEALTH)) - dg.AssetSelection.checks(*_NIGHTLY),
    executor_def=dg.in_process_executor,
    description="Checks whether every record, order and counter is accounted for, and whether the stream keeps up.",
    tags={"dagster/retry_on_asset_or_op_failure": "false", "dagster/max_retries": "0"},
)

check_health_every_hour = dg.ScheduleDefinition(
    name="check_health_every_hour",
    job=health_job,
    cron_schedule="7 * * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Runs the checks of health every hour; a failed check shows the next step.",
)

prune_history_every_hour = dg.ScheduleDefinition(
    name="prune_history_every_hour",
    job=prune_history,
    cron_schedule="17 * * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Removes old runs of Dagster with their logs every hour, so that its history does not grow forever.",
)

lake_job = dg.define_asset_job(
    "refresh_lake",
    selection=dg.AssetSelection.assets(*LAKE),
    executor_def=dg.in_process_executor,
    description="Materializes days of all tables of the lake, except the cohorts, and the shops' reports.",
)


@dg.schedule(
    name="refresh_lake_every_hour",
    job=lake_job,
    cron_schedule="37 * * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Materializes the stale days of the lake's tables, and with them the shops' reports, every hour.",
)
def refresh_lake_every_hour(context: dg.ScheduleEvaluationContext) -> list[dg.RunRequest] | dg.SkipReason:
    """Find the stale days, and check whether a run already materializes them."""
    from truepixel_dagster.rebuild.answers import stale_stretches

    at_work = context.instance.get_runs(dg.RunsFilter(job_name=lake_job.name, statuses=LIVE), limit=1)
    if at_work:
        return dg.SkipReason(printable(f"run {at_work[0].run_id[:8]} is still materializing days"))
    try:
        stretches = stale_stretches(load_settings(), DAYS.get_partition_keys())
    except (SettingsError, LakeError, Unavailable, OSError) as error:
        return dg.SkipReason(printable(str(error)))
    return requests_of(stretches) or dg.SkipReason("no day is stale")


def requests_of(stretches: Sequence[tuple[str, str]]) -> list[dg.RunRequest]:
    """Return a run for each stretch of days, which the queue starts one after the other.

    Every run materializes people first, because journeys depend on them; the last one writes the shops' reports.
    """
    wanted = [set(LAKE) - {SHOP_REPORTS} for _ in stretches]
    if wanted:
        wanted[-1].add(SHOP_REPORTS)
    return [
        dg.RunRequest(tags=range_tags(*stretch), asset_selection=[dg.AssetKey(key) for key in LAKE if key in own])
        for stretch, own in zip(stretches, wanted)
    ]


cohorts_job = dg.define_asset_job(
    "refresh_cohorts",
    selection=dg.AssetSelection.assets(COHORTS),
    executor_def=dg.in_process_executor,
    description="Materializes months of the cohorts.",
)


@dg.schedule(
    name="refresh_cohorts_every_night",
    job=cohorts_job,
    cron_schedule="23 4 * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Materializes the cohorts of the last eight months, whose figures still change, every night.",
)
def refresh_cohorts_every_night() -> dg.RunRequest:
    """Materialize the months whose customers may not have reached the last age."""
    months = MONTHS.get_partition_keys()[-8:]
    return _of_days(months[0], months[-1])


def _of_days(first: str, last: str) -> dg.RunRequest:
    """Return the request for a run of all days from one to another."""
    return dg.RunRequest(tags=range_tags(first, last))


drop_old_events_every_night = dg.ScheduleDefinition(
    name="drop_old_events_every_night",
    job=drop_old_events,
    cron_schedule="45 2 * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Drops the months of the event history that are older than the retention setting, at 02:45 UTC.",
)
