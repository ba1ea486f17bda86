"""Product statistics: counted in Redis by the stream, flushed to Elasticsearch by the clock."""

import dagster as dg

from assets.kafka_topic import OWNERS
from truepixel_dagster.asset_keys import ATTRIBUTIONS, EVENTS, PRODUCT_STATS, PRODUCT_STATS_BUFFER
from truepixel_dagster.flush import flush_product_stats
from truepixel_dagster.jobs.flushing import flushing

product_stats_buffer = dg.AssetSpec(
    PRODUCT_STATS_BUFFER,
    deps=[EVENTS, ATTRIBUTIONS],
    description="Counters by shop, product and day, and the visitors of each week, as the stream counts them: Redis.",
    group_name="truepixel",
    owners=OWNERS,
    kinds={"redis"},
)


# The op is named after what it does: the stream's job has an op of the asset's name.
@dg.multi_asset(
    name="flush_product_stats",
    specs=[
        dg.AssetSpec(
            PRODUCT_STATS,
            deps=[PRODUCT_STATS_BUFFER],
            description=(
                "Views, carts, checkouts, orders, units and revenue by shop, product and day: Elasticsearch"
                " `<namespace>-product-stats-YYYY.MM`. Flushed from the buffer every minute: claim, write, acknowledge."
            ),
            group_name="truepixel",
            owners=OWNERS,
            kinds={"elasticsearch"},
        )
    ],
)
def product_stats() -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Flush the buffered counters."""
    return flushing(flush_product_stats)
