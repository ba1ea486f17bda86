"""The shop's day against the standard library's time zones: every zone, and every change of its clock."""

from __future__ import annotations

import zoneinfo
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from functools import cache
from importlib.resources import files
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.examples import sampled, share
from tests.unit.stages.events_made_up import event
from truepixel_dagster.events.event import EPOCH, day_of, from_millis, week_of
from truepixel_dagster.events.shop_time import (
    HOUR,
    MINUTE,
    UTC,
    ShopDays,
    ShopTime,
    days_beside,
    is_time_zone,
    time_zones,
)

ZONES = sorted(time_zones())
SINCE, UNTIL = 1_420_070_400_000, 4_102_444_800_000
MOMENTS = st.integers(SINCE, UNTIL - 1)


@pytest.fixture(scope="module", autouse=True)
def _zones_of_the_package() -> Iterator[None]:
    """The machine's own time zones may be older."""
    before = zoneinfo.TZPATH
    zoneinfo.reset_tzpath(())
    ZoneInfo.clear_cache()
    yield
    zoneinfo.reset_tzpath(before)
    ZoneInfo.clear_cache()


def local(zone: str, millis: int) -> datetime:
    return (EPOCH + timedelta(milliseconds=millis)).astimezone(ZoneInfo(zone))


def iso_week(day: date) -> str:
    year, week, _ = day.isocalendar()
    return f"{year:04d}-W{week:02d}"


@cache
def names() -> dict[str, str]:
    """For each zone the first one that has the same rules: half of the zones are other names of a zone."""
    first: dict[bytes, str] = {}
    found = {}
    for zone in ZONES:
        *folders, name = zone.split("/")
        rules = files(".".join(["tzdata.zoneinfo", *folders])).joinpath(name).read_bytes()
        found[zone] = first.setdefault(rules, zone)
    return found


@cache
def changes(zone: str) -> tuple[int, ...]:
    """The seconds at which a zone's clock is changed from 2015 to 2030, in milliseconds."""
    found = []
    step = 7 * 24 * HOUR
    after = local(zone, SINCE).utcoffset()
    for start in range(SINCE, SINCE + 15 * 52 * step, step):
        low, high = start, start + step
        before, after = after, local(zone, high).utcoffset()
        if before == after:
            continue
        while high - low > 1000:
            middle = (low + high) // 2 // 1000 * 1000
            same = local(zone, middle).utcoffset() == before
            low, high = (middle, high) if same else (low, middle)
        found.append(high)
    return tuple(found)


def test_every_zone_of_the_standard_library_is_known() -> None:
    # `Factory` is no place.
    assert time_zones() == zoneinfo.available_timezones() - {"Factory"}


@given(st.sampled_from(ZONES), MOMENTS)
def test_day_and_week_are_those_of_the_local_date(zone: str, millis: int) -> None:
    day = local(zone, millis).date()
    assert ShopTime(zone).day(millis) == day.isoformat()
    assert ShopTime(zone).week(millis) == iso_week(day)


@cache
def moments_around_changes(zone: str) -> list[tuple[int, tuple[str, str]]]:
    """Moments just before and after a zone's changes and some time away, each with its day and week."""
    found = []
    for change in changes(zone):
        for minutes in (-1500, -121, -61, -31, -1, 0, 1, 29, 59, 61, 119, 1500):
            for millis in (change + minutes * MINUTE - 1, change + minutes * MINUTE):
                day = local(zone, millis).date()
                found.append((millis, (day.isoformat(), iso_week(day))))
    return found


def test_day_and_week_are_right_around_every_change_of_every_clock() -> None:
    looked_at = 0
    for zone, same in sampled(list(names().items())):
        time = ShopTime(zone)
        for millis, expected in moments_around_changes(same):
            assert (time.day(millis), time.week(millis)) == expected, (zone, millis)
            looked_at += 1
    assert looked_at > share(100_000)


@given(st.sampled_from(ZONES), MOMENTS)
def test_every_moment_of_a_day_is_within_its_span(zone: str, millis: int) -> None:
    time = ShopTime(zone)
    day = date.fromisoformat(time.day(millis))
    start, end = time.span(day, day)
    assert start <= millis < end
    # The moments just outside belong to other days.
    assert time.day(start - 1) < day.isoformat() < time.day(end)
    assert end - start <= 30 * HOUR


@cache
def days_of_changes(zone: str) -> list[tuple[date, int, int]]:
    """Each day on which a zone's clock is changed, with the first and the last moment of it, to ten minutes."""
    found = []
    for change in changes(zone):
        day = local(zone, change).date()
        around = range(change - 30 * HOUR, change + 30 * HOUR, 10 * MINUTE)
        first, last = (next(m for m in way if local(zone, m).date() == day) for way in (around, around[::-1]))
        found.append((day, first, last))
    return found


def test_every_moment_of_a_day_is_within_its_span_around_every_clock_change() -> None:
    for zone, same in sampled(list(names().items())):
        time = ShopTime(zone)
        for day, first, last in days_of_changes(same):
            start, end = time.span(day, day)
            assert start <= first, (zone, day)
            assert last < end, (zone, day)


def test_the_span_of_several_days_goes_from_the_first_to_the_last() -> None:
    first, last = ShopTime("America/New_York").span(date(2026, 11, 20), date(2026, 11, 22))
    assert (from_millis(first).isoformat(), from_millis(last).isoformat()) == (
        "2026-11-20T05:00:00+00:00",
        "2026-11-23T05:00:00+00:00",
    )


@given(MOMENTS, st.integers(-14 * 60, 14 * 60))
def test_without_a_zone_the_webhooks_offset_counts_and_without_one_utc(millis: int, offset: int) -> None:
    for unknown in (UTC, ShopTime(), ShopTime("Mars/Olympus_Mons")):
        assert unknown.day(millis, offset) == day_of(millis + offset * MINUTE)
        assert unknown.week(millis, offset) == week_of(millis + offset * MINUTE)
        assert (unknown.day(millis), unknown.week(millis)) == (day_of(millis), week_of(millis))


@given(st.sampled_from(ZONES), MOMENTS, st.integers(-14 * 60, 14 * 60))
def test_a_zone_precedes_the_offset_of_a_webhook(zone: str, millis: int, offset: int) -> None:
    assert ShopTime(zone).day(millis, offset) == ShopTime(zone).day(millis)


@pytest.mark.parametrize(
    "name", ["", "utc+2", "europe/berlin", "../../etc/passwd", "/etc/localtime", "zones", "Factory", "Europe"]
)
def test_an_invalid_name_of_a_zone_is_no_zone(name: str) -> None:
    assert not is_time_zone(name)
    assert ShopTime(name).day(SINCE) == "2015-01-01"


def test_each_event_has_the_time_of_its_shop() -> None:
    shops = ShopDays({"ny": "America/New_York", "odd": "Nowhere"})
    at = 1_795_318_200_000
    days = {shop: shops.day(event(shop_id=shop, at=at)) for shop in ("ny", "odd", "other")}
    assert from_millis(at).isoformat() == "2026-11-22T03:30:00+00:00"
    assert days == {"ny": "2026-11-21", "odd": "2026-11-22", "other": "2026-11-22"}


def test_days_beside_include_one_day_before_and_one_after() -> None:
    assert days_beside(["2026-01-01", "2026-01-02"]) == {"2025-12-31", "2026-01-01", "2026-01-02", "2026-01-03"}
