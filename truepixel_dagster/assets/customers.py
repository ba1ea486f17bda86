"""Define the asset of customers, which the stream writes and a materialization rebuilds from the event history."""

import dagster as dg

from truepixel_dagster.asset_keys import ATTRIBUTIONS, CUSTOMERS, EVENTS
from truepixel_dagster.assets.rebuilt import rebuilt
from truepixel_dagster.assets.storage import in_collection
from truepixel_dagster.jobs.rebuilding import rebuilding
from truepixel_dagster.stages.customer import Profile


@rebuilt(
    CUSTOMERS,
    deps=[EVENTS, ATTRIBUTIONS],
    description=(
        "First and last seen, events, orders, revenue and last ad of every customer: MongoDB `customers`."
        " Materializing a day recomputes every customer who was seen on it, from the whole event history."
    ),
    kind="mongodb",
    metadata=in_collection(CUSTOMERS, Profile),
)
def customers(context: dg.AssetExecutionContext) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Recompute the customers of days."""
    from truepixel_dagster.rebuild.customers import rebuild_days

    return rebuilding(context, rebuild_days)
