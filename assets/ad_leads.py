"""The touches of every user."""

import dagster as dg

from assets.kafka_topic import OWNERS
from truepixel_dagster.asset_keys import AD_LEADS, EVENTS

ad_leads = dg.AssetSpec(
    AD_LEADS,
    deps=[EVENTS],
    description=("The touches of every user with ads, in order, the newest 50: MongoDB `ad_leads`."),
    group_name="truepixel",
    owners=OWNERS,
    kinds={"mongodb"},
)
