"""Define the asset of journeys by person, credited by seven models, and of the values of channels."""

import dagster as dg

from truepixel_dagster import asset_keys as keys
from truepixel_dagster.answers import tables
from truepixel_dagster.assets.rebuilt import rebuilt
from truepixel_dagster.assets.storage import in_lake
from truepixel_dagster.jobs.lake import made


@rebuilt(
    keys.JOURNEYS,
    deps=[keys.ATTRIBUTIONS, keys.AD_LEADS, keys.PEOPLE],
    description=(
        f"{tables.JOURNEYS.says} Parquet `{tables.JOURNEYS.path}` in the lake, by the shop's day; beside it"
        f" `{tables.CHANNEL_VALUES.path}`, the value of each channel on the day."
    ),
    kind="parquet",
    metadata=in_lake(tables.JOURNEYS),
)
def journeys(context: dg.AssetExecutionContext) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Recompute the journeys of days."""
    return made(context, keys.JOURNEYS)
