"""Keep the event history for whole months: each month has an index, and retention drops it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import date, timedelta

from truepixel_dagster.resources import Stores
from truepixel_dagster.settings import Settings
from truepixel_dagster.stages.index import EVENTS


class HistoryDropped(Exception):
    """Raised when a rebuild needs events of a month that retention has removed."""


_MONTH = re.compile(r"([0-9]{4})\.([0-9]{2})")


def first_kept(today: date, months: int) -> date:
    """Return the first day of the oldest month kept, `months` before the current one."""
    count = today.year * 12 + today.month - 1 - months
    return date(count // 12, count % 12 + 1, 1)


def check_kept(days: Iterable[str], kept: date, earlier_days: int = 0) -> None:
    """Check that the events for rebuilding some days are kept.

    Arguments:
        days: ISO days.
        kept: The first day whose events are kept.
        earlier_days: How many days before each day are needed too.

    Raises:
        HistoryDropped: Retention has removed some of them; the message names the first day that can be rebuilt.
    """
    first = kept + timedelta(days=earlier_days)
    dropped = [day for day in days if day < first.isoformat()]
    if dropped:
        needed = f", and a rebuild needs the {earlier_days} days before a day" if earlier_days else ""
        raise HistoryDropped(
            f"cannot rebuild {min(dropped)}: events before {kept} were removed by retention"
            f" (TRUEPIXEL_EVENT_RETENTION_MONTHS){needed}. The first day that can be rebuilt is {first}"
        )


def outdated(indices: Iterable[str], prefix: str, today: date, months: int) -> list[str]:
    """Return the indices whose month is older than retention keeps.

    Arguments:
        indices: Full names; names other than `prefix` + `YYYY.MM` are ignored.
        prefix: The beginning of the names.
        today: The current day, UTC.
        months: The number of months kept besides the current one.
    """
    kept = first_kept(today, months)
    names = {name: _MONTH.fullmatch(name.removeprefix(prefix)) for name in indices if name.startswith(prefix)}
    months_of = {name: date(int(found[1]), int(found[2]), 1) for name, found in names.items() if found}
    return sorted(name for name, month in months_of.items() if month < kept)


def drop_outdated(settings: Settings, stores: Stores, today: date) -> Sequence[str]:
    """Drop the event indices that are older than the setting allows; return their names.

    Raises:
        Unavailable: Elasticsearch does not answer.
    """
    store = stores.elasticsearch
    prefix = store.index(f"{EVENTS}-")
    names = outdated(store.indices(f"{EVENTS}-"), prefix, today, settings.event_retention_months)
    for name in names:
        store.drop(name)
    return names
