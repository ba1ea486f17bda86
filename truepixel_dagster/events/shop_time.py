"""The day and the ISO week of a moment in a shop's own time, by which products and visitors are counted.

    >>> from truepixel_dagster.events.shop_time import ShopTime
    >>> midnight_utc = 1_767_225_600_000  # 2026-01-01T00:00:00Z
    >>> ShopTime("America/New_York").day(midnight_utc), ShopTime("Asia/Tokyo").day(midnight_utc)
    ('2025-12-31', '2026-01-01')
    >>> ShopTime("America/New_York").week(midnight_utc)
    '2026-W01'

A shop's time is that of its time zone, where the registry of shops knows it; else that of the UTC offset with which a
webhook writes its own times; else UTC. Time zones are those of the package `tzdata`, which the lock pins, and not the
machine's: two machines must not put an event on two days.
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
    """The time of one shop. `time_zone` is an IANA name; one that there is none of counts as unknown."""

    time_zone: str | None = None

    def day(self, millis: int, utc_offset: int | None = None) -> str:
        """Return the shop's day of a moment, such as `2026-01-31`.

        Arguments:
            millis: Milliseconds since the epoch.
            utc_offset: The minutes with which a webhook wrote the time, where it did: for shops of unknown time zone.
        """
        return day_of(millis + _offset(self.time_zone, utc_offset, millis))

    def week(self, millis: int, utc_offset: int | None = None) -> str:
        """Return the shop's ISO week of a moment, such as `2026-W05`; the arguments are those of `day`."""
        return week_of(millis + _offset(self.time_zone, utc_offset, millis))

    def span(self, first: date, last: date) -> tuple[int, int]:
        """Return a range of milliseconds since the epoch, its end not included, that holds all of some days.

        It may hold up to a few hours of the days beside them, where the clock is changed.

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
    """What tells the days of shops: `zones` are the time zones of those that are known, by shop."""

    zones: Mapping[str, str] = {}

    def of(self, shop: str) -> ShopTime:
        """Return the time of a shop."""
        return _shop_time(zone) if (zone := self.zones.get(shop)) else UTC

    def day(self, event: Event) -> str:
        """Return the day of its shop on which an event happened."""
        return self.of(event.shop_id).day(event.occurred_at, event.utc_offset)

    def week(self, event: Event) -> str:
        """Return the ISO week of its shop in which an event happened."""
        return self.of(event.shop_id).week(event.occurred_at, event.utc_offset)


@cache
def time_zones() -> frozenset[str]:
    """Return the names of all time zones."""
    # `Factory` is what a machine has before anybody has set its zone.
    return frozenset((files("tzdata") / "zones").read_text().split()) - {"Factory"}


def is_time_zone(name: str) -> bool:
    """Return whether there is a time zone of this name, in exactly this spelling."""
    return name in time_zones()


def days_beside(days: Iterable[str]) -> set[str]:
    """Return some UTC days and all days of shops that they have a part of: the day before and the day after each."""
    return {(date.fromisoformat(day) + timedelta(days=number)).isoformat() for day in days for number in (-1, 0, 1)}


def _offset(time_zone: str | None, utc_offset: int | None, millis: int) -> int:
    """How far a shop's clock is ahead of UTC at a moment, in milliseconds."""
    if time_zone is None:
        return (utc_offset or 0) * MINUTE
    found = _of_hour(time_zone, millis // HOUR)
    if found is None:
        zone = _zone(time_zone)
        return (utc_offset or 0) * MINUTE if zone is None else _of_zone(zone, millis)
    return found


# Events are of few hours and zones, and asking a zone takes several times as long as all the rest.
@lru_cache(maxsize=8192)
def _of_hour(time_zone: str, hour: int) -> int | None:
    """How far a zone is ahead of UTC all through an hour; None where that changes within it, or there is no zone."""
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
    # Names come from operators and from Shopify: none that is not listed becomes a path, or stays in a cache.
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
