"""Check that Dagster shows every day that has events: other runs must report for a run that ended too early."""

from __future__ import annotations

import dagster as dg

from truepixel_dagster.asset_keys import EVENTS
from truepixel_dagster.instance.process import dagster_home
from truepixel_dagster.resources import open_stores
from truepixel_dagster.settings import Settings


def days_not_shown(settings: Settings) -> list[str]:
    """Return the days of the event history that Dagster does not show as written, in order."""
    with dg.DagsterInstance.from_config(str(dagster_home(settings))) as instance:
        shown = instance.get_materialized_partitions(dg.AssetKey(EVENTS))
    first = settings.history_start.isoformat()
    return sorted(day for day in _days_of_events(settings) if day >= first and day not in shown)


def _days_of_events(settings: Settings) -> list[str]:
    by_day = {"field": "occurred_at", "calendar_interval": "day", "min_doc_count": 1, "format": "yyyy-MM-dd"}
    with open_stores(settings) as stores:
        store = stores.elasticsearch
        store.refresh()
        found = store.client.search(
            index=store.index("events-*"), size=0, aggregations={"days": {"date_histogram": by_day}}
        )
    return [bucket["key_as_string"] for bucket in found["aggregations"]["days"]["buckets"]]
