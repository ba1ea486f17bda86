"""Offsets over all logs of a topic, in documents, dead letters and on the screen."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from truepixel_dagster.dead_letters.topic import parse_origin
from truepixel_dagster.events.origin import GENERATION, Origin, base_of, generation_of, kafka_offset
from truepixel_dagster.source_log import LostRange, count_of, merged

OFFSETS = st.integers(0, GENERATION - 1)
LOGS = st.integers(0, 5000)


@given(LOGS, OFFSETS)
def test_an_offset_says_its_log_and_kafkas_own_offset(generation: int, offset: int) -> None:
    counted = base_of(generation) + offset
    assert (generation_of(counted), kafka_offset(counted)) == (generation, offset)
    # JSON's numbers and Elasticsearch's long hold it exactly.
    assert counted < 2**53


@given(LOGS, OFFSETS, OFFSETS)
def test_every_record_of_a_later_log_is_above_every_record_of_an_earlier_one(log: int, one: int, other: int) -> None:
    assert base_of(log) + one < base_of(log + 1) + other


@given(LOGS, OFFSETS, st.integers(0, 9999))
def test_an_origin_is_read_back_as_it_was_written(generation: int, offset: int, partition: int) -> None:
    origin = Origin("t.events", partition, base_of(generation) + offset)
    assert parse_origin(str(origin)) == origin


def test_the_first_log_is_written_as_before() -> None:
    assert str(Origin("t", 1, 57)) == "t/1/57"
    assert str(Origin("t", 1, GENERATION + 57)) == "t/1/57@1"
    assert parse_origin("1/57@1", "t") == Origin("t", 1, GENERATION + 57)
    assert parse_origin("t/1/57@") is None
    assert parse_origin("t/1/57@x") is None


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 50), st.integers(0, 9))))
def test_ranges_that_meet_become_one_and_no_offset_is_counted_twice(drawn: list[tuple[int, int, int]]) -> None:
    ranges = [LostRange(partition, first, first + length, 0) for partition, first, length in drawn]
    offsets = {(each.partition, offset) for each in ranges for offset in range(each.first, each.last + 1)}
    found = merged(ranges)
    assert count_of(found) == len(offsets)
    assert {(each.partition, o) for each in found for o in range(each.first, each.last + 1)} == offsets
    assert all(a.partition < b.partition or a.last + 1 < b.first for a, b in itertools.pairwise(found))
