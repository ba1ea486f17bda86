from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from truepixel_dagster.pipeline.ledger import Ledger, LedgerError
from truepixel_dagster.stream.micro_batch import OffsetRange


def span(first: int, last: int, partition: int = 0) -> dict[int, OffsetRange]:
    return {partition: OffsetRange("t", partition, first, last)}


def test_nothing_is_committed_past_a_gap() -> None:
    ledger = Ledger()
    for ranges in (span(0, 4), span(5, 9), span(12, 14)):
        ledger.opened(ranges)
    ledger.landed(span(5, 9))
    assert ledger.committable() == {}
    ledger.landed(span(0, 4))
    assert ledger.committable() == {0: 10}
    ledger.landed(span(12, 14))
    assert ledger.committable() == {0: 15}


def test_what_was_committed_is_not_committed_again() -> None:
    ledger = Ledger()
    ledger.opened(span(0, 4))
    ledger.landed(span(0, 4))
    ledger.committed({0: 5})
    assert ledger.committable() == {}


def test_partitions_do_not_wait_for_each_other() -> None:
    ledger = Ledger()
    ledger.opened({**span(0, 4), **span(0, 9, partition=1)})
    ledger.landed(span(0, 9, partition=1))
    assert ledger.committable() == {1: 10}
    assert ledger.pending == 1


def test_a_range_that_was_never_opened_cannot_land() -> None:
    ledger = Ledger()
    ledger.opened(span(0, 4))
    with pytest.raises(LedgerError):
        ledger.landed(span(0, 3))


def test_a_range_cannot_land_twice() -> None:
    ledger = Ledger()
    for ranges in (span(0, 4), span(5, 9)):
        ledger.opened(ranges)
    ledger.landed(span(5, 9))
    with pytest.raises(LedgerError):
        ledger.landed(span(5, 9))


def test_fetching_cannot_go_backward() -> None:
    ledger = Ledger()
    ledger.opened(span(5, 9))
    with pytest.raises(LedgerError):
        ledger.opened(span(9, 12))


@given(st.lists(st.integers(1, 5), min_size=1, max_size=20), st.randoms(use_true_random=False))
def test_in_any_order_of_completion_the_contiguous_prefix_is_committable(lengths: list[int], rng: object) -> None:
    ranges, first = [], 0
    for length in lengths:
        ranges.append(span(first, first + length - 1))
        first += length + 1  # a hole, as compaction leaves it
    ledger = Ledger()
    for one in ranges:
        ledger.opened(one)
    order = list(range(len(ranges)))
    rng.shuffle(order)  # type: ignore[attr-defined]
    landed: set[int] = set()
    for position in order:
        ledger.landed(ranges[position])
        landed.add(position)
        prefix = next((i for i in range(len(ranges)) if i not in landed), len(ranges))
        assert ledger.committable() == ({0: ranges[prefix - 1][0].last + 1} if prefix else {})
