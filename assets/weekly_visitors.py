"""Weekly visitors: estimated in Redis by the stream, flushed to Elasticsearch by the clock."""

import dagster as dg

from assets.kafka_topic import OWNERS
from truepixel_dagster.asset_keys import PRODUCT_STATS_BUFFER, WEEKLY_VISITORS
from truepixel_dagster.flush import flush_weekly_visitors
from truepixel_dagster.jobs.flushing import flushing


# The op is named after what it does: the stream's job has an op of the asset's name.
@dg.multi_asset(
    name="flush_weekly_visitors",
    specs=[
        dg.AssetSpec(
            WEEKLY_VISITORS,
            deps=[PRODUCT_STATS_BUFFER],
            description=(
                "Distinct clients with a pixel event by shop and ISO week: Elasticsearch `<namespace>-weekly-visitors`."
                " From a HyperLogLog, standard error 0.81 %; the document says `exact: false`."
            ),
            group_name="truepixel",
            owners=OWNERS,
            kinds={"elasticsearch"},
        )
    ],
)
def weekly_visitors() -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Flush the visitors of the weeks that changed."""
    return flushing(flush_weekly_visitors)
