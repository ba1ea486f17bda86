"""Define the asset of weekly visitors: estimated by the stream and flushed; exact after a week is materialized."""

import warnings

import dagster as dg

from truepixel_dagster.asset_keys import EVENTS, PRODUCT_STATS_BUFFER, WEEKLY_VISITORS
from truepixel_dagster.assets.rebuilt import rebuilt
from truepixel_dagster.assets.storage import in_index
from truepixel_dagster.jobs.rebuilding import rebuilding
from truepixel_dagster.partitions import WEEKS, iso_week

with warnings.catch_warnings():
    # Dagster marks this parameter as beta, and every command would print the warning.
    warnings.simplefilter("ignore", dg.BetaWarning)
    # The current week is not over, and the first week may begin before the history does.
    SO_FAR = dg.TimeWindowPartitionMapping(allow_nonexistent_upstream_partitions=True)


@rebuilt(
    WEEKLY_VISITORS,
    deps=[PRODUCT_STATS_BUFFER, dg.AssetDep(EVENTS, partition_mapping=SO_FAR)],
    description=(
        "Distinct clients with a pixel event by shop and the shop's ISO week: Elasticsearch"
        " `<namespace>-weekly-visitors`."
        " Estimated by a HyperLogLog with a standard error of 0.81 % (`exact: false`). Materializing a week counts it"
        " exactly from the event history (`exact: true`), until another visitor is counted in it."
    ),
    kind="elasticsearch",
    metadata=in_index("weekly-visitors"),
    partitions=WEEKS,
)
def weekly_visitors(context: dg.AssetExecutionContext) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Count weeks exactly."""
    from truepixel_dagster.rebuild.weekly_visitors import rebuild_weeks

    return rebuilding(
        context, lambda tools, keys, progress: rebuild_weeks(tools, [iso_week(key) for key in keys], progress)
    )
