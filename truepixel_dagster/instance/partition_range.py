"""Tag a run so that it materializes a range of partitions.

Private: `dagster._core.storage.tags`. The public `RunRequest` has an argument for a single partition; a request for
each day would start a run, and load the definitions, for each.
"""

from __future__ import annotations

from collections.abc import Mapping

from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG


def range_tags(first: str, last: str) -> Mapping[str, str]:
    """Return the tags of a run that materializes the partitions from `first` to `last`, both included."""
    return {ASSET_PARTITION_RANGE_START_TAG: first, ASSET_PARTITION_RANGE_END_TAG: last}
