"""Define the topic of events: an external asset whose lag the sensor observes."""

import dagster as dg

from truepixel_dagster.asset_keys import KAFKA_TOPIC
from truepixel_dagster.assets.storage import SETTINGS

OWNERS = ["team:data-platform"]

kafka_topic = dg.AssetSpec(
    KAFKA_TOPIC,
    description="Pixel events and webhooks in Kafka, keyed `shopID:clientID`. Its lag is observed once a minute.",
    group_name="truepixel",
    owners=OWNERS,
    kinds={"kafka"},
    metadata={
        "topic": SETTINGS.topic,
        "dead letters": SETTINGS.dead_topic,
        "documentation": dg.MetadataValue.path("docs/architecture.md#wire-format"),
        "command that repeats the figures": "truepixel lag",
    },
)
