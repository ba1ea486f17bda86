"""Which ads led to which order: by the stream, and from the event history where a day is materialized."""

from typing import Optional

import dagster as dg
from pydantic import Field

from truepixel_dagster.asset_keys import AD_LEADS, ATTRIBUTIONS, EVENTS
from truepixel_dagster.assets.rebuilt import rebuilt
from truepixel_dagster.assets.storage import in_index
from truepixel_dagster.jobs.rebuilding import rebuilding


class AttributionRules(dg.Config):
    """The rules by which the days are recomputed; those of the stream (TRUEPIXEL_ATTRIBUTION_…) by default."""

    window_days: Optional[int] = Field(  # noqa: UP045 (Dagster reads the annotation, on Python 3.10 too)
        None, ge=1, le=365, description="days before an order in which a touch counts"
    )
    half_life_days: Optional[float] = Field(  # noqa: UP045
        None, gt=0, le=365, description="age at which time decay halves a touch's weight"
    )
    position_ends_percent: Optional[int] = Field(  # noqa: UP045
        None, ge=1, le=50, description="what position_based gives to the first touch, and to the last one"
    )


@rebuilt(
    ATTRIBUTIONS,
    deps=[EVENTS, AD_LEADS],
    description=(
        "Every order with its journey and its credits by five models, which sum to its value exactly:"
        " Elasticsearch `<namespace>-attributions`, with the rules that made it. Materializing a day"
        " recomputes every order sighted on it from the event history, by other rules if its config has them."
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
