"""The bits that mark records."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from truepixel_dagster.health.orders import uneven
from truepixel_dagster.health.records import Marks


@given(st.integers(0, 1000), st.integers(0, 200), st.sets(st.integers(0, 1300)))
def test_unmarked_records_are_listed_in_order(first: int, length: int, marked: set[int]) -> None:
    marks = Marks(first, first + length)
    for offset in marked:
        marks.mark(offset)
    assert list(marks.unmarked()) == [offset for offset in range(first, first + length) if offset not in marked]


def test_credits_that_do_not_sum_to_the_value_are_uneven() -> None:
    credits_ = {"linear": [{"amount": 4}, {"amount": 6}], "last_click": [{"amount": 9}]}
    assert uneven({"value": {"amount": 10}, "credits": credits_}) == ["last_click"]
    assert uneven({"credits": {"linear": [{"amount": 0}]}}) == []
