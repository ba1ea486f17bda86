"""Compute the day and the ISO week of a moment in a shop's own time, by which products and visitors are counted.

    >>> from truepixel_dagster.events.shop_time import ShopTime
    >>> midnight_utc = 1_767_225_600_000  # 2026-01-01T00:00:00Z
    >>> ShopTime("America/New_York").day(midnight_utc), ShopTime("Asia/Tokyo").day(midnight_utc)
    ('2025-12-31', '2026-01-01')
    >>> ShopTime("America/New_York").week(midnight_utc)
    '2026-W01'

A shop's time is that of its time zone if the registry of shops has it, else that of the UTC offset in a webhook's own
times, else UTC. Time zones are those of the package `tzdata`, which the lock pins, and not the machine's: two machines
must not put an event on two days.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, timedelta
from functools import cache, lru_cache
from importlib.resources import files
from zoneinfo import ZoneInfo

import msgspec

from truepixel_dagster.events.event import DAY, EPOCH, Event, day_of, from_millis, week_of

HOUR, MINUTE = 3_600_000, 60_000  # milliseconds
_MILLISECOND = timedelta(milliseconds=1)


class ShopTime(msgspec.Struct, frozen=True):
    """Hold the time of one shop. `time_zone` is an IANA name; an unknown name counts as missing."""

    time_zone: str | None = None

    def day(self, millis: int, utc_offset: int | None = None) -> str:
        """Return the shop's day of a moment, such as `2026-01-31`.

        Arguments:
            millis: Milliseconds since the epoch.
            utc_offset: The UTC offset in minutes of a time in a webhook, for shops of unknown time zone.
        """
        return day_of(millis + _offset(self.time_zone, utc_offset, millis))

    def week(self, millis: int, utc_offset: int | None = None) -> str:
        """Return the shop's ISO week of a moment, such as `2026-W05`; the arguments are those of `day`."""
        return week_of(millis + _offset(self.time_zone, utc_offset, millis))

    def span(self, first: date, last: date) -> tuple[int, int]:
        """Return a range of milliseconds since the epoch, excluding its end, that contains all of some days.

        It may contain a few hours of adjacent days if the clock changes.

        Arguments:
            first: The first of the shop's days.
            last: The last one.
        """
        start, end = _midnight(first), _midnight(last + timedelta(days=1))
        hours = range((start - DAY) // HOUR, (end + DAY) // HOUR + 1)
        offsets = {_offset(self.time_zone, None, hour * HOUR) for hour in hours}
        return start - max(offsets), end - min(offsets)


UTC = ShopTime()


class ShopDays(msgspec.Struct, frozen=True):
    """Compute the days of shops. `zones` has the known time zones by shop."""

    zones: Mapping[str, str] = {}

    def of(self, shop: str) -> ShopTime:
        """Return the time of a shop."""
        return _shop_time(zone) if (zone := self.zones.get(shop)) else UTC

    def day(self, event: Event) -> str:
        """Return the shop's day on which an event happened."""
        return self.of(event.shop_id).day(event.occurred_at, event.utc_offset)

    def week(self, event: Event) -> str:
        """Return the shop's ISO week in which an event happened."""
        return self.of(event.shop_id).week(event.occurred_at, event.utc_offset)


@cache
def time_zones() -> frozenset[str]:
    """Return the names of all time zones."""
    # `Factory` is the zone of a machine that is not configured.
    return frozenset((files("tzdata") / "zones").read_text().split()) - {"Factory"}


def is_time_zone(name: str) -> bool:
    """Return whether a time zone has exactly this name."""
    return name in time_zones()


def days_beside(days: Iterable[str]) -> set[str]:
    """Return some UTC days and all overlapping days of shops: the day before and the day after each."""
    return {(date.fromisoformat(day) + timedelta(days=number)).isoformat() for day in days for number in (-1, 0, 1)}


def _offset(time_zone: str | None, utc_offset: int | None, millis: int) -> int:
    """Return how far a shop's clock is ahead of UTC at a moment, in milliseconds."""
    if time_zone is None:
        return (utc_offset or 0) * MINUTE
    found = _of_hour(time_zone, millis // HOUR)
    if found is None:
        zone = _zone(time_zone)
        return (utc_offset or 0) * MINUTE if zone is None else _of_zone(zone, millis)
    return found


# Events span few hours and zones, and asking a zone takes several times as long as everything else.
@lru_cache(maxsize=8192)
def _of_hour(time_zone: str, hour: int) -> int | None:
    """Return how far a zone is ahead of UTC during an hour; None if that changes within it, or the zone is unknown."""
    zone = _zone(time_zone)
    if zone is None:
        return None
    first, last = _of_zone(zone, hour * HOUR), _of_zone(zone, hour * HOUR + HOUR - 1)
    return first if first == last else None


def _of_zone(zone: ZoneInfo, millis: int) -> int:
    offset = from_millis(millis).astimezone(zone).utcoffset()
    assert offset is not None  # noqa: S101 (a time zone always says it)
    return offset // _MILLISECOND


def _zone(name: str) -> ZoneInfo | None:
    # Names come from operators and from Shopify, so an unlisted name must not become a path or stay in a cache.
    return _loaded(name) if is_time_zone(name) else None


@cache
def _loaded(name: str) -> ZoneInfo:
    with (files("tzdata") / "zoneinfo" / name).open("rb") as file:
        return ZoneInfo.from_file(file, key=name)


@lru_cache(maxsize=1024)
def _shop_time(zone: str) -> ShopTime:
    return ShopTime(zone)


def _midnight(day: date) -> int:
    return (day.toordinal() - EPOCH.toordinal()) * DAY
