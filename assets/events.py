"""The event history."""

import dagster as dg

from assets.kafka_topic import OWNERS
from truepixel_dagster.asset_keys import EVENTS, KAFKA_TOPIC

events = dg.AssetSpec(
    EVENTS,
    deps=[KAFKA_TOPIC],
    description=(
        "Every event once, with its raw payload and the Kafka record it came from: Elasticsearch"
        " `<namespace>-events-YYYY.MM`, reported by each run of process_events."
    ),
    group_name="truepixel",
    owners=OWNERS,
    kinds={"elasticsearch"},
)
