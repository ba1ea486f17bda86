"""Estimate the visitors of each week by HyperLogLogs, with a standard error of 0.81 %."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from urllib.parse import quote

from truepixel_dagster.stores.redis.guarded import Call, Guarded
from truepixel_dagster.stores.redis.keys import WeekKey, joined, parts_of

VISITORS_KEPT_SECONDS = 60 * 86_400


class Visitors(Guarded):
    """Count weekly visitors by shop, and note which weeks have changed since they were written."""

    def dirty_weeks(self, batch: int) -> Iterator[list[WeekKey]]:
        """Yield the weeks whose visitors have changed since they were written, at most `batch` at a time.

        Raises:
            Unavailable: No answer after all tries.
        """
        self.verify()
        for members in self._members(self._key("visitors-dirty"), batch):
            yield list(parts_of(members, 2))

    def add_visitors(self, week: WeekKey, clients: Sequence[str]) -> None:
        """Add clients to a week's estimate; it counts each of them once.

        Raises:
            Unavailable: No answer after all tries.
        """
        key = self._key("visitors", *week)

        def add() -> None:
            pipeline = self.client.pipeline(transaction=False)
            pipeline.pfadd(key, *clients)
            pipeline.expire(key, VISITORS_KEPT_SECONDS)
            pipeline.execute()

        if clients:
            self._call(add)

    def set_visitors_aside(self, week: str) -> None:
        """Begin new estimates of a week for all shops. The old ones are set aside, and count until they are dropped.

        Raises:
            Unavailable: No answer after all tries.
        """
        for names in self._scan(self.client.scan, f"{self._key('visitors')}:*:{quote(week, safe='')}", 1000):
            self._call(lambda: self._set_aside(names))  # noqa: B023 (called at once)

    def _set_aside(self, names: Sequence[str]) -> None:
        pipeline = self.client.pipeline(transaction=True)
        for name in names:
            aside = self._key("visitors-aside") + name.removeprefix(self._key("visitors"))
            # It may already hold what an interrupted rebuild had set aside.
            pipeline.pfmerge(aside, name)
            pipeline.delete(name)
            pipeline.expire(aside, VISITORS_KEPT_SECONDS)
        if names:
            pipeline.execute()

    def drop_visitors_aside(self, week: str) -> None:
        """Drop the estimates of a week that were set aside: the new ones contain all visitors.

        Raises:
            Unavailable: No answer after all tries.
        """
        for names in self._scan(self.client.scan, f"{self._key('visitors-aside')}:*:{quote(week, safe='')}", 1000):
            if names:
                self._call(lambda: self.client.delete(*names))  # noqa: B023 (called at once)

    def visitors(self, weeks: Sequence[WeekKey]) -> list[int]:
        """Return the estimated number of visitors of each week.

        Raises:
            Unavailable: No answer after all tries.
        """

        def read() -> list[int]:
            pipeline = self.client.pipeline(transaction=False)
            for week in weeks:
                pipeline.pfcount(self._key("visitors", *week), self._key("visitors-aside", *week))
            found: list[int] = pipeline.execute()
            return found

        return self._call(read)

    def visitors_written(self, weeks: Sequence[WeekKey], counts: Sequence[int]) -> None:
        """Mark weeks as written; those that have grown since stay dirty.

        Raises:
            Unavailable: No answer after all tries.
        """
        dirty = self._key("visitors-dirty")
        pairs: list[Call] = [
            ([self._key("visitors", *week), self._key("visitors-aside", *week), dirty], [joined(week), count])
            for week, count in zip(weeks, counts)
        ]
        self._scripts("counted", pairs)
