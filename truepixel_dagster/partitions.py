"""Define the assets' partitions: the UTC days, months and ISO weeks in which events happened.

Product statistics and weekly visitors use the shop's own days and weeks: a partition has the shops' days of one date.

The key of a week is its Monday, as in Dagster: `2026-01-26` is the week `2026-W05`.
"""

from __future__ import annotations

from datetime import date, timedelta

import dagster as dg

from truepixel_dagster.settings import load_or_default

_SETTINGS = load_or_default()
START = _SETTINGS.history_start

# The current day, week and month are partitions, too: the stream writes to them.
DAYS = dg.DailyPartitionsDefinition(start_date=START.isoformat(), end_offset=1)
MONTHS = dg.MonthlyPartitionsDefinition(start_date=START.replace(day=1).isoformat(), end_offset=1)
_MONDAY = START - timedelta(days=START.weekday())
WEEKS = dg.WeeklyPartitionsDefinition(start_date=_MONDAY.isoformat(), day_offset=1, end_offset=1)

# The stream writes every few seconds, so Dagster warns of an asset that is not updated.
STREAM_FRESHNESS = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=24), warn_window=timedelta(hours=6))

# The number of partitions that one run of a backfill rebuilds.
BACKFILL = dg.BackfillPolicy.multi_run(_SETTINGS.partitions_per_run)


def week_key(week: str) -> str:
    """Return the key of an ISO week: `2026-W05` → `2026-01-26`."""
    return date.fromisocalendar(int(week[:4]), int(week[6:]), 1).isoformat()


def iso_week(key: str) -> str:
    """Return the ISO week of a key: `2026-01-26` → `2026-W05`."""
    year, week, _ = date.fromisoformat(key).isocalendar()
    return f"{year:04d}-W{week:02d}"
