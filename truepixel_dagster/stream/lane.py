"""A lane: a fixed share of the topic's partitions.

>>> from truepixel_dagster.stream.lane import partitions_of
>>> [partitions_of(lane, lanes=2, partitions=5) for lane in range(2)]
[(0, 2, 4), (1, 3)]
"""

from __future__ import annotations


def partitions_of(lane: int, lanes: int, partitions: int) -> tuple[int, ...]:
    """Return the partitions of a lane; each partition belongs to exactly one lane.

    Arguments:
        lane: The lane's number, from 0.
        lanes: The number of lanes; lanes beyond the number of partitions have no partition.
        partitions: The topic's number of partitions.

    Raises:
        ValueError: There is no such lane.
    """
    if not 0 <= lane < lanes:
        raise ValueError(f"lane {lane} is not one of {lanes}")
    return tuple(range(lane, partitions, lanes))
