"""Which orders a report is of: those of some of the shop's days, or of the last hours, days or weeks."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone

import msgspec

from truepixel_dagster.events.event import DAY, iso
from truepixel_dagster.events.shop_time import UTC, ShopTime

#: Instead of rows of orders: all products.
PRODUCT = "product"
# No shop's clock is further from UTC than this.
_FURTHEST = DAY


class Period(msgspec.Struct, frozen=True):
    """From `first` to `last`, days of the shop, both included; of these from `since` on and before `until`.

    `since` and `until` are milliseconds since the epoch. What is None bounds nothing.
    """

    time: ShopTime = UTC
    first: date | None = None
    last: date | None = None
    since: int | None = None
    until: int | None = None

    def holds(self, millis: int, utc_offset: int = 0) -> bool:
        """Return whether a moment is of this period.

        Arguments:
            millis: Milliseconds since the epoch.
            utc_offset: The minutes with which a webhook wrote the time: for shops of unknown time zone.
        """
        if self.since is not None and self.until is not None:
            return self.since <= millis < self.until
        day = self.time.day(millis, utc_offset)
        return (self.first is None or self.first.isoformat() <= day) and (
            self.last is None or day <= self.last.isoformat()
        )

    @property
    def bounds(self) -> dict[str, str]:
        """The bounds of a search that finds all moments of the period, and a few beside it."""
        first = None if self.first is None else _midnight(self.first) - _FURTHEST
        last = None if self.last is None else _midnight(self.last) + DAY + _FURTHEST
        since, until = first if self.since is None else self.since, last if self.until is None else self.until
        return {name: iso(bound) for name, bound in (("gte", since), ("lt", until)) if bound is not None}

    @property
    def days(self) -> dict[str, str]:
        """The bounds of a search for days of the shop.

        Where its time zone is not known, a webhook may write the time of now as one of tomorrow.
        """
        is_tomorrow = self.until is not None and self.time.time_zone is None
        last = self.last + timedelta(days=1) if self.last and is_tomorrow else self.last
        return {name: day.isoformat() for name, day in (("gte", self.first), ("lte", last)) if day is not None}

    def __str__(self) -> str:
        """Return the period as text; empty for all time."""
        zone = self.time.time_zone or "time zone unknown"
        if self.since is not None and self.until is not None:
            return f"from {iso(self.since)} to {iso(self.until)}"
        ends = [f"{word} {day}" for word, day in (("from", self.first), ("to", self.last)) if day is not None]
        return f"{' '.join(ends)} ({zone})" if ends else ""


class Wish(msgspec.Struct, frozen=True):
    """The period that somebody asks for: days, both included, or the last so many milliseconds."""

    first: date | None = None
    last: date | None = None
    latest: int | None = None

    def of(self, time: ShopTime, now: int) -> Period:
        """Return the period by a shop's time, at a moment in milliseconds since the epoch."""
        if self.latest is None:
            return Period(time, self.first, self.last)
        since = now - self.latest
        first, last = (date.fromisoformat(time.day(millis)) for millis in (since, now))
        return Period(time, first, last, since, now)

    def before(self, now: int) -> tuple[Wish, int]:
        """Return the wish for the period of the same length right before this one, and its moment.

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
        return Wish(self.first - length, self.last - length), now


def _midnight(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=timezone.utc).timestamp()) * 1000
