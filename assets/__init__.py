"""The assets, for readers who look here first: their code is in `truepixel_dagster/assets`, a part of the wheel."""

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

__all__ = [
    "ad_leads",
    "answers_sum",
    "attributions",
    "audit",
    "cohorts",
    "customers",
    "events",
    "health",
    "health_checks",
    "journeys",
    "journeys_match",
    "kafka_topic",
    "lake_tables",
    "people",
    "product_stats",
    "product_stats_buffer",
    "shop_reports",
    "weekly_visitors",
]
