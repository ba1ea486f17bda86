"""Define the asset of cohorts, by month and channel of the first order."""

import warnings

import dagster as dg

from truepixel_dagster import asset_keys as keys
from truepixel_dagster.answers import tables
from truepixel_dagster.assets.rebuilt import rebuilt
from truepixel_dagster.assets.storage import in_lake
from truepixel_dagster.jobs.lake import reported
from truepixel_dagster.partitions import MONTHS

with warnings.catch_warnings():
    # Dagster marks this parameter as beta, and every command would print the warning.
    warnings.simplefilter("ignore", dg.BetaWarning)
    # The current month is not over, and the first month may begin before the history does.
    SO_FAR = dg.TimeWindowPartitionMapping(allow_nonexistent_upstream_partitions=True)


@rebuilt(
    keys.COHORTS,
    deps=[keys.PEOPLE, dg.AssetDep(keys.ATTRIBUTIONS, partition_mapping=SO_FAR)],
    description=f"{tables.COHORTS.says} Parquet `{tables.COHORTS.path}` in the lake, by the shop's month.",
    kind="parquet",
    partitions=MONTHS,
    metadata=in_lake(tables.COHORTS),
)
def cohorts(context: dg.AssetExecutionContext) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Recompute the cohorts of months."""
    from truepixel_dagster.rebuild.cohorts import make_cohorts

    months = list(context.partition_keys)
    return reported(context, lambda tools, progress: make_cohorts(tools, months, progress=progress))
