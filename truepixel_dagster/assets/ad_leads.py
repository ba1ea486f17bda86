"""Define the asset of touches, which the stream writes and a materialization rebuilds from the event history."""

import dagster as dg

from truepixel_dagster.asset_keys import AD_LEADS, EVENTS
from truepixel_dagster.assets.rebuilt import rebuilt
from truepixel_dagster.assets.storage import in_collection
from truepixel_dagster.jobs.rebuilding import rebuilding
from truepixel_dagster.stages.ad_lead import Lead


@rebuilt(
    AD_LEADS,
    deps=[EVENTS],
    description=(
        "The newest 50 touches of every user with ads, in order: MongoDB `ad_leads`. Materializing a day recomputes"
        " every user with an ad on that day, from the whole event history."
    ),
    kind="mongodb",
    metadata=in_collection(AD_LEADS, Lead),
)
def ad_leads(context: dg.AssetExecutionContext) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Recompute the users of days."""
    from truepixel_dagster.rebuild.ad_leads import rebuild_days

    return rebuilding(context, rebuild_days)
