from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from truepixel_dagster.stream.lane import partitions_of


@given(st.integers(1, 40), st.integers(1, 40))
def test_all_lanes_together_have_every_partition_exactly_once(lanes: int, partitions: int) -> None:
    shares = [partitions_of(lane, lanes, partitions) for lane in range(lanes)]
    assert sorted(partition for share in shares for partition in share) == list(range(partitions))


def test_one_lane_has_all_and_too_many_lanes_have_none() -> None:
    assert partitions_of(0, 1, 3) == (0, 1, 2)
    assert partitions_of(4, 5, 3) == ()


@pytest.mark.parametrize(("lane", "lanes"), [(-1, 3), (3, 3), (0, 0)])
def test_there_is_no_lane_beyond_the_number_of_lanes(lane: int, lanes: int) -> None:
    with pytest.raises(ValueError, match="not one of"):
        partitions_of(lane, lanes, 3)
