"""Start the job `privacy` when requests about personal data wait."""

from __future__ import annotations

import dagster as dg

from truepixel_dagster.jobs.privacy import privacy
from truepixel_dagster.resources import open_stores
from truepixel_dagster.sensors.kafka_lag import LIVE
from truepixel_dagster.settings import SettingsError, load_settings
from truepixel_dagster.stores.errors import Unavailable
from truepixel_dagster.stores.privacy_requests import waiting
from truepixel_dagster.text import printable


@dg.schedule(
    name="privacy_every_two_minutes",
    job=privacy,
    cron_schedule="*/2 * * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Starts the job privacy if data requests or redactions wait; checks every two minutes.",
)
def privacy_every_two_minutes(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Check whether requests wait, and whether a run already processes them."""
    try:
        with open_stores(load_settings()) as stores:
            count = len(waiting(stores.mongodb))
    except (SettingsError, Unavailable) as error:
        return dg.SkipReason(printable(str(error)))
    if not count:
        return dg.SkipReason("no request waits")
    at_work = context.instance.get_runs(dg.RunsFilter(job_name=privacy.name, statuses=LIVE), limit=1)
    return (
        dg.SkipReason(printable(f"run {at_work[0].run_id[:8]} is still processing them"))
        if at_work
        else dg.RunRequest()
    )
