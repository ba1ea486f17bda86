"""Which months of the event history are outdated."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from truepixel_dagster.retention import HistoryDropped, check_kept, first_kept, outdated

DAY = date(2026, 3, 15)


@pytest.mark.parametrize(
    ("months", "first"),
    [(0, date(2026, 3, 1)), (1, date(2026, 2, 1)), (3, date(2025, 12, 1)), (25, date(2024, 2, 1))],
)
def test_whole_months_are_kept(months: int, first: date) -> None:
    assert first_kept(DAY, months) == first


def test_only_indices_of_ours_that_are_old_are_outdated() -> None:
    names = ["ns-events-2026.03", "ns-events-2026.02", "ns-events-2025.12", "ns-events-other", "ns-attributions"]
    assert outdated([*names, "other-events-2020.01"], "ns-events-", DAY, 1) == ["ns-events-2025.12"]


@given(st.dates(date(2010, 1, 1)), st.integers(0, 60))
def test_no_event_younger_than_the_months_kept_is_in_an_outdated_index(today: date, months: int) -> None:
    kept = first_kept(today, months)
    assert kept <= today
    names = [f"e-{kept.year:04d}.{kept.month:02d}", f"e-{today.year:04d}.{today.month:02d}"]
    assert outdated(names, "e-", today, months) == []


def test_days_that_need_dropped_events_are_refused_and_the_first_possible_day_is_named() -> None:
    kept = date(2026, 2, 1)
    check_kept(["2026-02-01", "2026-02-02"], kept)
    check_kept(["2026-03-03"], kept, earlier_days=30)
    with pytest.raises(HistoryDropped, match=r"cannot rebuild 2026-01-30: events before 2026-02-01 were removed"):
        check_kept(["2026-02-01", "2026-01-31", "2026-01-30"], kept)
    with pytest.raises(HistoryDropped, match=r"30 days before a day\. The first day that can be rebuilt is 2026-03-03"):
        check_kept(["2026-03-02"], kept, earlier_days=30)
