"""Which numbers are among others."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from truepixel_dagster.rebuild.events import _among

NUMBERS = st.lists(st.integers(0, 40) | st.integers(0, 2**64 - 1), max_size=30)


@given(NUMBERS, NUMBERS)
def test_a_number_is_among_those_that_it_equals(asked: list[int], others: list[int]) -> None:
    ordered = np.sort(np.array(others, dtype=np.uint64))
    found = _among(np.array(asked, dtype=np.uint64), ordered)
    assert found.tolist() == [number in others for number in asked]
