"""The load during faults: realistic traffic in time-lapse, which can pause."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta, timezone

from truepixel_dagster.local.demo import producing
from truepixel_dagster.local.traffic import FULL, Record, traffic
from truepixel_dagster.settings import Settings

# How much faster than real time the traffic runs, so that the load contains many orders.
TIME_LAPSE = 60


def load(rate: float, seed: int) -> Iterator[Record]:
    """Return more traffic than a chaos of any length needs, at a rate in events per second, in time-lapse."""
    events = 2_000_000
    span = timedelta(seconds=TIME_LAPSE * events / rate)
    return traffic(events, seed=seed, start=datetime.now(timezone.utc) - span, span=span, profile=FULL)


class Load:
    """Send records at a rate while the load is on.

    Arguments:
        settings: The topic and its servers.
        records: The records to send.
        rate: Records per second.
    """

    def __init__(self, settings: Settings, records: Iterator[Record], rate: float) -> None:
        self._settings = settings
        self._records = records
        self._rate = rate
        self._sending = ExitStack()

    @contextmanager
    def on(self) -> Iterator[None]:
        """Send during the block."""
        self._begin()
        try:
            yield
        finally:
            self._sending.close()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Send nothing during the block; all records sent before are acknowledged when it begins."""
        self._sending.close()
        try:
            yield
        finally:
            self._begin()

    def _begin(self) -> None:
        self._sending.enter_context(producing(self._settings, self._records, self._rate))
