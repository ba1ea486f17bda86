"""Combine all definitions that Dagster loads. No I/O at import."""

from __future__ import annotations

import dagster as dg

from truepixel_dagster.assets.ad_leads import ad_leads
from truepixel_dagster.assets.attributions import attributions
from truepixel_dagster.assets.cohorts import cohorts
from truepixel_dagster.assets.customers import customers
from truepixel_dagster.assets.events import events
from truepixel_dagster.assets.health import answers_sum, audit, health, health_checks, journeys_match
from truepixel_dagster.assets.journeys import journeys
from truepixel_dagster.assets.kafka_topic import kafka_topic
from truepixel_dagster.assets.lake import lake_tables
from truepixel_dagster.assets.people import people
from truepixel_dagster.assets.product_stats import product_stats, product_stats_buffer
from truepixel_dagster.assets.shop_reports import shop_reports
from truepixel_dagster.assets.weekly_visitors import weekly_visitors
from truepixel_dagster.jobs.flush import flush
from truepixel_dagster.jobs.import_spend import import_spend
from truepixel_dagster.jobs.privacy import privacy
from truepixel_dagster.jobs.process_events import process_events
from truepixel_dagster.jobs.prune import drop_old_events, prune_history
from truepixel_dagster.jobs.replay import replay
from truepixel_dagster.jobs.replay_dead_letters import replay_dead_letters
from truepixel_dagster.sensors.kafka_lag import kafka_lag
from truepixel_dagster.sensors.privacy_requests import privacy_every_two_minutes
from truepixel_dagster.sensors.run_failure import run_failure
from truepixel_dagster.sensors.schedules import (
    audit_every_night,
    audit_job,
    check_health_every_hour,
    drop_old_events_every_night,
    flush_every_minute,
    health_job,
    prune_history_every_hour,
    refresh_cohorts_every_night,
    refresh_lake_every_hour,
)
from truepixel_dagster.sensors.spend_files import spend_files

definitions = dg.Definitions(
    assets=[
        kafka_topic,
        events,
        ad_leads,
        attributions,
        customers,
        product_stats_buffer,
        product_stats,
        weekly_visitors,
        *lake_tables,
        people,
        journeys,
        cohorts,
        shop_reports,
        health,
    ],
    asset_checks=[audit, journeys_match, answers_sum, *health_checks],
    jobs=[
        process_events,
        flush,
        audit_job,
        health_job,
        replay,
        replay_dead_letters,
        privacy,
        prune_history,
        drop_old_events,
        import_spend,
    ],
    sensors=[kafka_lag, run_failure, spend_files],
    schedules=[
        flush_every_minute,
        audit_every_night,
        check_health_every_hour,
        prune_history_every_hour,
        drop_old_events_every_night,
        privacy_every_two_minutes,
        refresh_lake_every_hour,
        refresh_cohorts_every_night,
    ],
    # A rebuild is one op: a separate process for it would only import everything twice.
    executor=dg.in_process_executor,
)
