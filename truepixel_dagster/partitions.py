"""How the assets are cut by time: days and ISO weeks of when events happened, UTC.

Product statistics and weekly visitors go by the shop's own days and weeks: a partition is all of one name.

A week goes by its Monday, as Dagster has it: `2026-01-26` is the week `2026-W05`.
"""

from __future__ import annotations

from datetime import date, timedelta

import dagster as dg

from truepixel_dagster.settings import load_or_default

_SETTINGS = load_or_default()
START = _SETTINGS.history_start

# The day and the week that are going on are partitions, too: the stream writes into them.
DAYS = dg.DailyPartitionsDefinition(start_date=START.isoformat(), end_offset=1)
MONTHS = dg.MonthlyPartitionsDefinition(start_date=START.replace(day=1).isoformat(), end_offset=1)
_MONDAY = START - timedelta(days=START.weekday())
WEEKS = dg.WeeklyPartitionsDefinition(start_date=_MONDAY.isoformat(), day_offset=1, end_offset=1)

# The stream writes every few seconds: Dagster warns of an asset that is not updated.
STREAM_FRESHNESS = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=24), warn_window=timedelta(hours=6))

# A range is rebuilt by one run, or by one for each partition, or anything between.
BACKFILL = dg.BackfillPolicy.multi_run(_SETTINGS.partitions_per_run)


def week_key(week: str) -> str:
    """Return the key of an ISO week: `2026-W05` → `2026-01-26`."""
    return date.fromisocalendar(int(week[:4]), int(week[6:]), 1).isoformat()


def iso_week(key: str) -> str:
    """Return the ISO week of a key: `2026-01-26` → `2026-W05`."""
    year, week, _ = date.fromisoformat(key).isocalendar()
    return f"{year:04d}-W{week:02d}"
