"""The days and the hours of a report."""

from __future__ import annotations

from datetime import date, timedelta

from hypothesis import given
from hypothesis import strategies as st

from truepixel_dagster.events.event import DAY, iso
from truepixel_dagster.events.shop_time import ShopTime, time_zones
from truepixel_dagster.events.times import to_millis
from truepixel_dagster.report.period import Period, RequestedPeriod

NEW_YORK = ShopTime("America/New_York")
NOW = to_millis("2026-03-10T02:00:00Z")


def test_all_time_has_no_bounds() -> None:
    period = RequestedPeriod().of(NEW_YORK, NOW)
    assert (period.bounds, period.days, str(period)) == ({}, {}, "")
    assert period.holds(0)


def test_days_are_of_the_shop_and_the_search_finds_a_day_more_on_both_sides() -> None:
    period = RequestedPeriod(date(2026, 1, 1), date(2026, 1, 31)).of(NEW_YORK, NOW)
    assert period.bounds == {"gte": "2025-12-31T00:00:00.000Z", "lt": "2026-02-02T00:00:00.000Z"}
    assert period.days == {"gte": "2026-01-01", "lte": "2026-01-31"}
    assert str(period) == "from 2026-01-01 to 2026-01-31 (America/New_York)"
    assert str(RequestedPeriod(first=date(2026, 1, 1)).of(ShopTime(), NOW)) == "from 2026-01-01 (time zone unknown)"
    assert str(RequestedPeriod(last=date(2026, 1, 1)).of(ShopTime(), NOW)) == "to 2026-01-01 (time zone unknown)"


def test_the_last_hours_are_exact_and_products_have_all_days_that_they_touch() -> None:
    # 9 March 22:00 in New York, where the clock was put forward on the 8th.
    period = RequestedPeriod(latest=2 * DAY).of(NEW_YORK, NOW)
    assert period.bounds == {"gte": "2026-03-08T02:00:00.000Z", "lt": "2026-03-10T02:00:00.000Z"}
    assert period.days == {"gte": "2026-03-07", "lte": "2026-03-09"}
    assert [period.holds(NOW - 2 * DAY + by) for by in (-1, 0)] == [False, True]
    assert [period.holds(NOW + by) for by in (-1, 0)] == [True, False]
    assert str(period) == "from 2026-03-08T02:00:00.000Z to 2026-03-10T02:00:00.000Z"


def test_without_a_time_zone_the_last_hours_include_a_webhooks_tomorrow() -> None:
    period = RequestedPeriod(latest=DAY).of(ShopTime(), NOW)
    assert period.days == {"gte": "2026-03-09", "lte": "2026-03-11"}
    assert period.holds(NOW - 1, utc_offset=14 * 60)


@given(
    st.integers(1_420_070_400_000, 2_000_000_000_000),
    st.sampled_from(sorted(time_zones())),
    st.integers(0, 3),
    st.integers(0, 3),
    st.none() | st.integers(-14 * 60, 14 * 60),
)
def test_a_search_finds_every_moment_of_the_days(
    millis: int, zone: str, before: int, after: int, utc_offset: int | None
) -> None:
    time = ShopTime(zone if utc_offset is None else None)
    day = date.fromisoformat(time.day(millis, utc_offset or 0))
    period = Period(time, day - timedelta(days=before), day + timedelta(days=after))
    assert period.holds(millis, utc_offset or 0)
    assert period.bounds["gte"] <= iso(millis) < period.bounds["lt"]
    later = Period(time, day + timedelta(days=1), day + timedelta(days=1 + after))
    assert not later.holds(millis, utc_offset or 0)


def test_a_page_is_of_the_last_thirty_days_if_none_are_requested() -> None:
    today = date(2026, 3, 9)
    assert Period().whole_days(today) == (date(2026, 2, 8), today)
    assert Period(last=date(2026, 1, 31)).whole_days(today) == (date(2026, 1, 2), date(2026, 1, 31))
    assert Period(first=date(2026, 1, 1)).whole_days(today) == (date(2026, 1, 1), today)
    assert Period(first=date(2026, 4, 1)).whole_days(today) == (date(2026, 4, 1), date(2026, 4, 1))
    # The hours until now overlap two days of New York.
    assert RequestedPeriod(latest=DAY).of(NEW_YORK, NOW).whole_days(today) == (date(2026, 3, 8), today)


def test_the_last_days_are_whole_days_up_to_today_and_those_before_do_not_overlap_them() -> None:
    requested = RequestedPeriod(latest=7 * DAY)
    now, before = requested.of(NEW_YORK, NOW), requested.before(NOW)
    assert now.of_whole_days() == Period(NEW_YORK, date(2026, 3, 3), date(2026, 3, 9))
    # The clock was put forward in between: 7 times 24 hours ago it was an hour earlier in the evening.
    assert before[0].of(NEW_YORK, before[1]).of_whole_days() == Period(NEW_YORK, date(2026, 2, 24), date(2026, 3, 2))
    hours = RequestedPeriod(latest=DAY // 24).of(NEW_YORK, NOW)
    assert hours.of_whole_days() == Period(NEW_YORK, date(2026, 3, 9), date(2026, 3, 9))
    assert RequestedPeriod(date(2026, 1, 1)).of(NEW_YORK, NOW).of_whole_days().last is None
