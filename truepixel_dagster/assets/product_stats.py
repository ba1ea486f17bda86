"""Define the assets of product statistics: the stream's buffer in Redis, and the flushed or rebuilt documents."""

import dagster as dg

from truepixel_dagster.asset_keys import ATTRIBUTIONS, EVENTS, PRODUCT_STATS, PRODUCT_STATS_BUFFER
from truepixel_dagster.assets.kafka_topic import OWNERS
from truepixel_dagster.assets.rebuilt import rebuilt
from truepixel_dagster.assets.storage import in_index
from truepixel_dagster.jobs.rebuilding import rebuilding
from truepixel_dagster.partitions import STREAM_FRESHNESS

product_stats_buffer = dg.AssetSpec(
    PRODUCT_STATS_BUFFER,
    deps=[EVENTS, ATTRIBUTIONS],
    description=(
        "The stream's counters by shop, product and day, and the visitors of each week: Redis. The job `flush` empties"
        " the buffer every minute."
    ),
    group_name="truepixel",
    owners=OWNERS,
    kinds={"redis"},
    freshness_policy=STREAM_FRESHNESS,
)


@rebuilt(
    PRODUCT_STATS,
    deps=[PRODUCT_STATS_BUFFER, EVENTS, ATTRIBUTIONS],
    description=(
        "Views, carts, checkouts, orders, units and revenue by shop, product and the shop's day: Elasticsearch"
        " `<namespace>-product-stats-YYYY.MM`. Flushed from the buffer every minute: claim, write, acknowledge."
        " Materializing a day replaces its counts by the totals of the event history; later counts of the stream are"
        " added to them."
    ),
    kind="elasticsearch",
    metadata=in_index("product-stats", "truepixel report --shop SHOP --by product"),
)
def product_stats(context: dg.AssetExecutionContext) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Replace the counts of days by the totals of the event history."""
    from truepixel_dagster.rebuild.product_stats import rebuild_days

    return rebuilding(context, rebuild_days)
