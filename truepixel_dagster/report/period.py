"""The period of a report: some of the shop's days, or the last hours, days or weeks."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone

import msgspec

from truepixel_dagster.events.event import DAY, iso
from truepixel_dagster.events.shop_time import UTC, ShopTime

#: Instead of rows of orders: all products.
PRODUCT = "product"
#: Instead of rows of orders: cohorts, from the tables.
COHORT = "cohort"
#: The days of a page if none are requested.
PAGE_DAYS = 30
# The largest difference between a shop's clock and UTC.
_FURTHEST = DAY


class Period(msgspec.Struct, frozen=True):
    """Hold a period from `first` to `last`, days of the shop, both included, limited to `since` and before `until`.

    `since` and `until` are milliseconds since the epoch. None means no limit.
    """

    time: ShopTime = UTC
    first: date | None = None
    last: date | None = None
    since: int | None = None
    until: int | None = None

    def holds(self, millis: int, utc_offset: int = 0) -> bool:
        """Return whether a moment is within the period.

        Arguments:
            millis: Milliseconds since the epoch.
            utc_offset: The UTC offset in minutes that a webhook wrote the time with, for shops of unknown time zone.
        """
        if self.since is not None and self.until is not None:
            return self.since <= millis < self.until
        day = self.time.day(millis, utc_offset)
        return (self.first is None or self.first.isoformat() <= day) and (
            self.last is None or day <= self.last.isoformat()
        )

    def of_whole_days(self) -> Period:
        """Return a period of whole days: for the last hours or days, as many of them up to the last day."""
        if self.since is None or self.until is None or self.last is None:
            return Period(self.time, self.first, self.last)
        count = -(-(self.until - self.since) // DAY)
        return Period(self.time, self.last - timedelta(days=count - 1), self.last)

    @property
    def bounds(self) -> dict[str, str]:
        """Return bounds for a search that finds all moments of the period, and some around it."""
        first = None if self.first is None else _midnight(self.first) - _FURTHEST
        last = None if self.last is None else _midnight(self.last) + DAY + _FURTHEST
        since, until = first if self.since is None else self.since, last if self.until is None else self.until
        return {name: iso(bound) for name, bound in (("gte", since), ("lt", until)) if bound is not None}

    @property
    def days(self) -> dict[str, str]:
        """Return the bounds of a search for days of the shop.

        If its time zone is unknown, a webhook may write the current time as a time of tomorrow.
        """
        is_tomorrow = self.until is not None and self.time.time_zone is None
        last = self.last + timedelta(days=1) if self.last and is_tomorrow else self.last
        return {name: day.isoformat() for name, day in (("gte", self.first), ("lte", last)) if day is not None}

    def whole_days(self, today: date) -> tuple[date, date]:
        """Return the first and last day of a page: without a first day, as many as `PAGE_DAYS`, until today at most.

        Arguments:
            today: The shop's current day.
        """
        last = self.last or max(today, self.first or today)
        return self.first or last - timedelta(days=PAGE_DAYS - 1), last

    def __str__(self) -> str:
        """Return the period as text; empty for all time."""
        zone = self.time.time_zone or "time zone unknown"
        if self.since is not None and self.until is not None:
            return f"from {iso(self.since)} to {iso(self.until)}"
        ends = [f"{word} {day}" for word, day in (("from", self.first), ("to", self.last)) if day is not None]
        return f"{' '.join(ends)} ({zone})" if ends else ""


class RequestedPeriod(msgspec.Struct, frozen=True):
    """Hold the requested period: days, both included, or the number of last milliseconds."""

    first: date | None = None
    last: date | None = None
    latest: int | None = None

    def of(self, time: ShopTime, now: int) -> Period:
        """Return the period in a shop's time, at a moment in milliseconds since the epoch."""
        if self.latest is None:
            return Period(time, self.first, self.last)
        since = now - self.latest
        first, last = (date.fromisoformat(time.day(millis)) for millis in (since, now))
        return Period(time, first, last, since, now)

    def before(self, now: int) -> tuple[RequestedPeriod, int]:
        """Return the period of the same length right before this one, and its moment.

        Arguments:
            now: The moment of this one, in milliseconds since the epoch.

        Raises:
            ValueError: The period has no beginning or no end.
        """
        if self.latest is not None:
            return self, now - self.latest
        if self.first is None or self.last is None:
            raise ValueError("a period without a first and a last day has none before it")
        length = self.last - self.first + timedelta(days=1)
        return RequestedPeriod(self.first - length, self.last - length), now


def _midnight(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=timezone.utc).timestamp()) * 1000
