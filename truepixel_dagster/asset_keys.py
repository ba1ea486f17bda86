"""The names of what the pipeline produces, shared by the assets and the jobs that report them."""

from __future__ import annotations

KAFKA_TOPIC = "kafka_topic"
EVENTS = "events"
AD_LEADS = "ad_leads"
ATTRIBUTIONS = "attributions"
CUSTOMERS = "customers"
PRODUCT_STATS_BUFFER = "product_stats_buffer"
PRODUCT_STATS = "product_stats"
WEEKLY_VISITORS = "weekly_visitors"
# The tables of the lake.
LAKE_EVENTS = "lake_events"
LAKE_ORDERS = "lake_orders"
LAKE_CUSTOMERS = "lake_customers"
LAKE_PRODUCT_STATS = "lake_product_stats"
AD_SPEND = "ad_spend"
RATES = "rates"
MARKETING_DAILY = "marketing_daily"
FUNNEL_DAILY = "funnel_daily"
PEOPLE = "people"
JOURNEYS = "journeys"
COHORTS = "cohorts"
SHOP_REPORTS = "shop_reports"
LAKE = (
    LAKE_EVENTS,
    LAKE_ORDERS,
    LAKE_CUSTOMERS,
    LAKE_PRODUCT_STATS,
    AD_SPEND,
    RATES,
    MARKETING_DAILY,
    FUNNEL_DAILY,
    PEOPLE,
    JOURNEYS,
    SHOP_REPORTS,
)

# What a run of the stream reports, in the order of its stages.
STREAM = (EVENTS, AD_LEADS, ATTRIBUTIONS, CUSTOMERS, PRODUCT_STATS_BUFFER)

# Tags of a run: its lane, the number of lanes, what started it, and the run whose lane it takes over.
LANE_TAG = "truepixel/lane"
LANES_TAG = "truepixel/lanes"
TRIGGER_TAG = "truepixel/trigger"
AFTER_TAG = "truepixel/after"

# What all checks are of. Dagster shows a check's result until its asset is next materialized, and the stream does that
# every few seconds: this one never is.
HEALTH = "health"
AUDIT = "audit"
JOURNEYS_MATCH = "journeys_match"
ANSWERS_SUM = "answers_sum"
