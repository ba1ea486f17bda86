"""The keys of the pipeline's assets, shared by the assets and the jobs that report them."""

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

# The assets that a run of the stream reports, in the order of its stages.
STREAM = (EVENTS, AD_LEADS, ATTRIBUTIONS, CUSTOMERS, PRODUCT_STATS_BUFFER)

# Tags of a run: its lane, the number of lanes, what started it, and the run whose lane it takes over.
LANE_TAG = "truepixel/lane"
LANES_TAG = "truepixel/lanes"
TRIGGER_TAG = "truepixel/trigger"
AFTER_TAG = "truepixel/after"

# The asset of all checks. Dagster shows a check's result until its asset is next materialized. The stream materializes
# its assets every few seconds, but never this one.
HEALTH = "health"
AUDIT = "audit"
JOURNEYS_MATCH = "journeys_match"
ANSWERS_SUM = "answers_sum"
