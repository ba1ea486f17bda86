"""Times: parsing, plausibility, and the shop's day and week."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from importlib import resources
from typing import Any
from zoneinfo import ZoneInfo

from truepixel_dagster.audit.oracle.records import DeadLetter, Shop
from truepixel_dagster.audit.oracle.values import maybe_text, text

MINUTE_MS = 60_000
DAY_MS = 24 * 60 * MINUTE_MS
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
YEAR_2015_MS = 1_420_070_400_000
YEAR_2100_MS = 4_102_444_800_000
LONG_AGO_MS, LONG_AFTER_MS = -(10**18), 10**18

_TIME = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt ]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:[.]([0-9]+))?"
    r"(?:([Zz])|([+-])([0-9]{2}):?([0-9]{2}))?"
)
_SIX_DIGIT_YEAR = re.compile(r"([+-])[0-9]{6}-[0-9]{2}-[0-9]{2}T[0-9:.]{5,12}Z")


def milliseconds(said: str) -> int | None:
    """Return an ISO 8601 time in milliseconds since the epoch, rounded down; None if the text is not a time.

    JavaScript writes years before 0 and beyond 9999 with a sign and six digits: they count as long ago or far ahead.
    """
    if beyond := _SIX_DIGIT_YEAR.fullmatch(said):
        return LONG_AFTER_MS if beyond.group(1) == "+" else LONG_AGO_MS
    found = _TIME.fullmatch(said)
    if not found:
        return None
    *parts, fraction, _, _, hours, minutes = found.groups()
    if int(hours or 0) > 23 or int(minutes or 0) > 59:
        return None
    try:
        wall = datetime(*map(int, parts)).replace(tzinfo=timezone.utc)  # type: ignore[arg-type]  # noqa: DTZ001
    except ValueError:
        return None
    millis = (wall - EPOCH) // timedelta(milliseconds=1) + int(((fraction or "") + "000")[:3])
    return millis - offset_minutes(said) * MINUTE_MS


def offset_minutes(said: str) -> int:
    """Return the UTC offset of a written time in minutes; 0 if it has none."""
    found = _TIME.fullmatch(said)
    if not found or found.group(9) is None:
        return 0
    sign, hours, minutes = found.group(9), found.group(10), found.group(11)
    return (int(hours) * 60 + int(minutes)) * (-1 if sign == "-" else 1)


class Moment:
    """A time in a payload: `at` is in milliseconds since the epoch, `offset` in minutes from UTC."""

    def __init__(self, at: int, offset: int) -> None:
        self.at = at
        self.offset = offset


def moment(*said: Any) -> Moment | None:
    """Return the first valid time."""
    for each in said:
        written = maybe_text(each)
        at = None if written is None else milliseconds(written)
        if written is not None and at is not None:
            return Moment(at, offset_minutes(written))
    return None


def believable(at: int, received_at: int) -> bool:
    """Return whether a webhook's time is plausible: since 2015, and at most 30 days after its arrival."""
    return YEAR_2015_MS <= at <= received_at + 30 * DAY_MS


def _in_range(millis: int | None) -> int | None:
    return millis if millis is not None and YEAR_2015_MS <= millis < YEAR_2100_MS else None


def event_times(said: Any, source: str, arrival_header: bytes | None, record_ms: int) -> tuple[int, int, str | None]:
    """Return when the event happened, when it arrived, and the payload's own time if it is implausible.

    A pixel's time is implausible more than 5 minutes after the arrival, before 2015, or more than 30 days before an
    arrival given by a header. A webhook's time is implausible more than 30 days after the arrival or before 2015. The
    header is implausible more than 366 days after the record's own time.

    Raises:
        DeadLetter: There is no time, or no plausible one.
    """
    header = (arrival_header or b"").decode("utf-8", "replace")
    told = _in_range(int(header) if re.fullmatch("[0-9]{1,15}", header) else milliseconds(header))
    arrival = _in_range(record_ms)
    if told is not None and arrival is not None and told - arrival > 366 * DAY_MS:
        told = None
    arrival = arrival if told is None else told
    clock = text(said, "time of the event")
    happened = None if clock is None else milliseconds(clock)
    if clock is not None and happened is None:
        raise DeadLetter("time of the event: not a time")
    if arrival is None:
        if _in_range(happened) is None:
            raise DeadLetter("time of the event: none of the years 2015 to 2099, and no time of arrival either")
        return happened or 0, happened or 0, None
    if happened is None:
        return arrival, arrival, None
    believed = YEAR_2015_MS <= happened <= arrival + (5 * MINUTE_MS if source == "pixel" else 30 * DAY_MS)
    if source == "pixel" and told is not None and happened < told - 30 * DAY_MS:
        believed = False
    return (happened, arrival, None) if believed else (arrival, arrival, (clock or "")[:64])


def iso(millis: int) -> str:
    """Return a time as ISO 8601 in UTC with milliseconds."""
    when = EPOCH + timedelta(milliseconds=millis)
    return when.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def day(millis: int, shop: Shop | None, offset: int = 0) -> str:
    """Return the shop's day: by its time zone, else by the offset from UTC in minutes."""
    return f"{_local(millis, shop, offset):%Y-%m-%d}"


def week(millis: int, shop: Shop | None) -> str:
    """Return the shop's ISO week: by its time zone, else UTC."""
    year, number, _ = _local(millis, shop, 0).isocalendar()
    return f"{year:04d}-W{number:02d}"


def _local(millis: int, shop: Shop | None, offset: int) -> datetime:
    zone = _zone(shop.time_zone) if shop else None
    when = EPOCH + timedelta(milliseconds=millis)
    return when.astimezone(zone) if zone else when + timedelta(minutes=offset)


@lru_cache(maxsize=1_000)
def _zone(name: str | None) -> ZoneInfo | None:
    """Return the zone from the package tzdata, because machines' own tables differ."""
    if not name or not re.fullmatch(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*", name):
        return None
    try:
        with resources.files("tzdata").joinpath(f"zoneinfo/{name}").open("rb") as table:
            return ZoneInfo.from_file(table, key=name)
    except (OSError, ValueError):
        return None
