"""The profile of every customer."""

import dagster as dg

from assets.kafka_topic import OWNERS
from truepixel_dagster.asset_keys import ATTRIBUTIONS, CUSTOMERS, EVENTS

customers = dg.AssetSpec(
    CUSTOMERS,
    deps=[EVENTS, ATTRIBUTIONS],
    description=("First and last seen, events, orders, revenue and last ad of every customer: MongoDB `customers`."),
    group_name="truepixel",
    owners=OWNERS,
    kinds={"mongodb"},
)
