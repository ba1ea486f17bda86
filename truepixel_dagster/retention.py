"""How long the event history is kept: whole months, by the index that holds them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import date, timedelta

from truepixel_dagster.resources import Stores
from truepixel_dagster.settings import Settings
from truepixel_dagster.stages.index import EVENTS


class HistoryDropped(Exception):
    """What is to be worked out anew needs events of a month that is no longer kept."""


_MONTH = re.compile(r"([0-9]{4})\.([0-9]{2})")


def first_kept(today: date, months: int) -> date:
    """The first day of the oldest month that is kept beside the one that is going on."""
    count = today.year * 12 + today.month - 1 - months
    return date(count // 12, count % 12 + 1, 1)


def check_kept(days: Iterable[str], kept: date, earlier_days: int = 0) -> None:
    """Check that the events are kept that some days are worked out from.

    Arguments:
        days: ISO days.
        kept: The first day that is kept.
        earlier_days: How many days before each of them are needed, too.

    Raises:
        HistoryDropped: They are not; the message says which day is the first that can be worked out.
    """
    first = kept + timedelta(days=earlier_days)
    dropped = [day for day in days if day < first.isoformat()]
    if dropped:
        needed = f" and {earlier_days} days before a day are needed" if earlier_days else ""
        raise HistoryDropped(
            f"{min(dropped)} cannot be worked out anew: events are kept from {kept} on"
            f" (TRUEPIXEL_EVENT_RETENTION_MONTHS){needed}. {first} is the first day that can"
        )


def outdated(indices: Iterable[str], prefix: str, today: date, months: int) -> list[str]:
    """Which of some indices hold a month that is over and older than to be kept.

    Arguments:
        indices: Full names; those that are not `prefix` + `YYYY.MM` are none of ours.
        prefix: What the names begin with.
        today: The day, UTC.
        months: Months kept beside the one that is going on.
    """
    kept = first_kept(today, months)
    names = {name: _MONTH.fullmatch(name.removeprefix(prefix)) for name in indices if name.startswith(prefix)}
    months_of = {name: date(int(found[1]), int(found[2]), 1) for name, found in names.items() if found}
    return sorted(name for name, month in months_of.items() if month < kept)


def drop_outdated(settings: Settings, stores: Stores, today: date) -> Sequence[str]:
    """Drop the event indices that are older than the setting says; returns their names.

    Raises:
        Unavailable: Elasticsearch does not answer.
    """
    store = stores.elasticsearch
    prefix = store.index(f"{EVENTS}-")
    names = outdated(store.indices(f"{EVENTS}-"), prefix, today, settings.event_retention_months)
    for name in names:
        store.drop(name)
    return names
