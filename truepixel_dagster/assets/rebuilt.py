"""What the assets have in common that the stream writes and that a materialization rebuilds."""

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
    """Return a decorator that makes an asset of the function that rebuilds its partitions.

    Arguments:
        key: The asset's key; its op is named `rebuild_<key>`.
        deps: The assets that it is made from.
        description: For Dagster's UI.
        kind: The store that it is in.
        partitions: Days, or weeks.
        metadata: What Dagster's UI shows of the asset itself.
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
