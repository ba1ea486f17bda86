"""Sensors and schedules, for readers who look here first: their code is in `truepixel_dagster/sensors`."""

from truepixel_dagster.sensors.kafka_lag import kafka_lag
from truepixel_dagster.sensors.privacy_requests import privacy_every_two_minutes
from truepixel_dagster.sensors.run_failure import run_failure
from truepixel_dagster.sensors.schedules import (
    audit_every_night,
    check_health_every_hour,
    drop_old_events_every_night,
    flush_every_minute,
    prune_history_every_hour,
    refresh_cohorts_every_night,
    refresh_lake_every_hour,
)
from truepixel_dagster.sensors.spend_files import spend_files

__all__ = [
    "audit_every_night",
    "check_health_every_hour",
    "drop_old_events_every_night",
    "flush_every_minute",
    "kafka_lag",
    "privacy_every_two_minutes",
    "prune_history_every_hour",
    "refresh_cohorts_every_night",
    "refresh_lake_every_hour",
    "run_failure",
    "spend_files",
]
