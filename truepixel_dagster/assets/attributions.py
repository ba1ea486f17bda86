"""Define the asset of attributions, which the stream writes and a materialization rebuilds from the event history."""

from typing import Optional

import dagster as dg
from pydantic import Field

from truepixel_dagster.asset_keys import AD_LEADS, ATTRIBUTIONS, EVENTS
from truepixel_dagster.assets.rebuilt import rebuilt
from truepixel_dagster.assets.storage import in_index
from truepixel_dagster.jobs.rebuilding import rebuilding


class AttributionRules(dg.Config):
    """The rules by which days are recomputed; by default the stream's (TRUEPIXEL_ATTRIBUTION_…)."""

    window_days: Optional[int] = Field(  # noqa: UP045 (Dagster reads the annotation, on Python 3.10 too)
        None, ge=1, le=365, description="days before an order in which a touch counts"
    )
    half_life_days: Optional[float] = Field(  # noqa: UP045
        None, gt=0, le=365, description="age at which time decay halves a touch's weight"
    )
    position_ends_percent: Optional[int] = Field(  # noqa: UP045
        None, ge=1, le=50, description="percentage that position_based credits to the first and to the last touch each"
    )


@rebuilt(
    ATTRIBUTIONS,
    deps=[EVENTS, AD_LEADS],
    description=(
        "Every order with its journey and its credits by five models, which sum to its value exactly:"
        " Elasticsearch `<namespace>-attributions`, with the rules that were used. Materializing a day recomputes"
        " every order that an event of the day reports, from the event history; the config may give other rules."
    ),
    kind="elasticsearch",
    metadata=in_index("attributions", "truepixel report --shop SHOP --by channel"),
)
def attributions(context: dg.AssetExecutionContext, config: AttributionRules) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Recompute the orders of days."""
    from truepixel_dagster.rebuild.attributions import rebuild_days, rules_of

    given = {name: value for name, value in config.model_dump().items() if value is not None}
    return rebuilding(
        context, lambda tools, days, progress: rebuild_days(tools, days, rules_of(tools, **given), progress)
    )
