"""The load under which faults happen: believable traffic in time-lapse, which can pause."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta, timezone

from truepixel_dagster.local.demo import producing
from truepixel_dagster.local.traffic import FULL, Record, traffic
from truepixel_dagster.settings import Settings

# How much faster than real time the visitors live, so that many of their orders fall into the load.
TIME_LAPSE = 60


def load(rate: float, seed: int) -> Iterator[Record]:
    """More traffic than any run needs, at a rate (events a second) and in time-lapse."""
    events = 2_000_000
    span = timedelta(seconds=TIME_LAPSE * events / rate)
    return traffic(events, seed=seed, start=datetime.now(timezone.utc) - span, span=span, profile=FULL)


class Load:
    """Records that are sent at a rate for as long as the load is on.

    Arguments:
        settings: Where to.
        records: What.
        rate: Records a second.
    """

    def __init__(self, settings: Settings, records: Iterator[Record], rate: float) -> None:
        self._settings = settings
        self._records = records
        self._rate = rate
        self._sending = ExitStack()

    @contextmanager
    def on(self) -> Iterator[None]:
        """Send for the block."""
        self._begin()
        try:
            yield
        finally:
            self._sending.close()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Send nothing for the block: what was sent is acknowledged before it begins."""
        self._sending.close()
        try:
            yield
        finally:
            self._begin()

    def _begin(self) -> None:
        self._sending.enter_context(producing(self._settings, self._records, self._rate))
