"""Define assets that a materialization rebuilds."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import dagster as dg

from truepixel_dagster.assets.kafka_topic import OWNERS
from truepixel_dagster.partitions import BACKFILL, DAYS, STREAM_FRESHNESS


def rebuilt(
    key: str,
    *,
    deps: Sequence[str | dg.AssetDep],
    description: str,
    kind: str,
    partitions: dg.PartitionsDefinition[str] = DAYS,
    metadata: Mapping[str, Any] | None = None,
) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """Return a decorator that turns the function that rebuilds an asset's partitions into the asset.

    Arguments:
        key: The asset's key; its op is named `rebuild_<key>`.
        deps: The assets that it is computed from.
        description: The description in Dagster's UI.
        kind: The kind of its storage, for Dagster's UI.
        partitions: Days, or weeks.
        metadata: The metadata of the asset itself in Dagster's UI.
    """
    spec = dg.AssetSpec(
        key,
        deps=deps,
        description=description,
        group_name="truepixel",
        owners=OWNERS,
        kinds={kind},
        partitions_def=partitions,
        freshness_policy=STREAM_FRESHNESS,
        metadata=metadata,
    )
    return dg.multi_asset(name=f"rebuild_{key}", partitions_def=partitions, backfill_policy=BACKFILL, specs=[spec])
