"""Which ads led to which order."""

import dagster as dg

from assets.kafka_topic import OWNERS
from truepixel_dagster.asset_keys import AD_LEADS, ATTRIBUTIONS, EVENTS

attributions = dg.AssetSpec(
    ATTRIBUTIONS,
    deps=[EVENTS, AD_LEADS],
    description=(
        "Every order with its journey and its credits by five models, which sum to its value exactly:"
        " Elasticsearch `<namespace>-attributions`."
    ),
    group_name="truepixel",
    owners=OWNERS,
    kinds={"elasticsearch"},
)
