"""The settings, stores, history and stream progress that every rebuild uses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime, timedelta, timezone
from typing import NamedTuple

from truepixel_dagster.events.shop_time import ShopDays
from truepixel_dagster.rebuild.history import History, open_history, sites_now
from truepixel_dagster.rebuild.stream_progress import StreamProgress, read_stream_progress
from truepixel_dagster.redis_state import check_applied
from truepixel_dagster.resources import Stores, open_stores
from truepixel_dagster.retention import first_kept
from truepixel_dagster.settings import Settings
from truepixel_dagster.source_log import checked
from truepixel_dagster.stores.shops import all_days
from truepixel_dagster.stream.events_log import EventsLog


class RebuildContext(NamedTuple):
    """Hold what every rebuild needs. `days` maps times to the days of shops."""

    settings: Settings
    stores: Stores
    history: History
    log: EventsLog
    stream: StreamProgress
    days: ShopDays

    @property
    def kept(self) -> date:
        """Return the first day whose events are kept."""
        return first_kept(datetime.now(timezone.utc).date(), self.settings.event_retention_months)

    @property
    def first_day(self) -> date:
        """Return the first day whose events are all kept for every shop. East of UTC a shop's day begins earlier."""
        return self.kept + timedelta(days=1) if self.days.zones else self.kept

    def with_shops_of_now(self) -> RebuildContext:
        """Return the context with the current registry of shops.

        Raises:
            Unavailable: MongoDB does not answer.
        """
        history = self.history.with_sites(sites_now(self.settings, self.stores))
        return self._replace(history=history, days=all_days(self.stores.mongodb))


@contextmanager
def rebuilding(settings: Settings) -> Iterator[RebuildContext]:
    """Open everything that a rebuild needs, until the block ends.

    Raises:
        LogChanged: The topic is not the log that was processed.
        StateLost: Redis lacks counts of committed records, so totals up to its offsets would be wrong.
        KafkaUnavailable, Unavailable: A server does not answer.
    """
    with open_stores(settings) as stores, open_history(settings, stores) as history:
        log = checked(settings.kafka(), stores)
        progress = read_stream_progress(log, stores)
        check_applied(settings.kafka(), stores, progress.committed, log.base)
        yield RebuildContext(settings, stores, history, log, progress, all_days(stores.mongodb))
