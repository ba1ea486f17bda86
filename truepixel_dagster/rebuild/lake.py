"""Materialize the tables of the lake: find stale days by their sources, and write days again.

Every table has a maker. It returns a stamp of the current sources of a shop's day, cheaply and without reading the
rows: for documents, their number and the sums of their sequence numbers or versions, which every write changes; for
tables that are computed from other tables, the digests of those. The lake stores the stamp of each written day. If the
two differ, the day is stale.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from typing import NamedTuple, TypeVar

from truepixel_dagster.answers.tables import LakeTable
from truepixel_dagster.events.event import DAY, day_of
from truepixel_dagster.events.shop_time import ShopDays
from truepixel_dagster.lake.arrow import Row
from truepixel_dagster.lake.files import Lake, Made, Written, lake_of
from truepixel_dagster.rebuild.stats import Progress, silent
from truepixel_dagster.resources import Stores, open_stores
from truepixel_dagster.retention import first_kept
from truepixel_dagster.settings import Settings
from truepixel_dagster.stores.shops import all_days, known

T = TypeVar("T")
#: How long a search stays open while the days of one of its pages are written: object storage may be slow.
KEPT_ALIVE = "60m"
#: The sources of shops' days: by day and shop, a text that changes with them.
Sources = Mapping[str, Mapping[str, str]]
#: The rows of a day by table and shop.
Rows = Mapping[str, Mapping[str, Sequence[Row]]]
#: The key of sources that belong to all shops.
ALL_SHOPS = ""


class Tools(NamedTuple):
    """Hold what makers need."""

    settings: Settings
    stores: Stores
    lake: Lake
    days: ShopDays
    currencies: Mapping[str, str]

    @property
    def first_kept(self) -> str:
        """Return the first day for which every shop still has all its events."""
        today = datetime.now(timezone.utc).date()
        return (first_kept(today, self.settings.event_retention_months) + timedelta(days=1)).isoformat()


class Maker(NamedTuple):
    """Define how some tables are computed together.

    `sources` returns the sources of days; `rows` yields every one of some days with its rows, and holds few in memory.
    `needs` are the tables that they are computed from. With `outlive`, figures stay unchanged after retention has
    removed their events.
    """

    tables: tuple[LakeTable, ...]
    sources: Callable[[Tools, Sequence[str]], Sources]
    rows: Callable[[Tools, Sequence[str]], Iterable[tuple[str, Rows]]]
    needs: tuple[LakeTable, ...] = ()
    outlive: bool = False

    def makes(self, tools: Tools, days: Sequence[str]) -> list[str]:
        """Return those of some days that it can compute."""
        return [day for day in days if not self.outlive or day >= tools.first_kept]


#: Writes tables, given what makers need and a function that reports progress.
Making = Callable[[Tools, Progress], Written]


@contextmanager
def making(settings: Settings) -> Iterator[Tools]:
    """Open everything that makers need, until the block ends.

    Raises:
        LakeError: The address of the lake cannot be used.
        Unavailable: A server does not answer.
    """
    with open_stores(settings) as stores:
        shops = {id_: found.shop for id_, found in known(stores.mongodb)}
        currencies = {id_: shop.currency for id_, shop in shops.items() if shop.currency}
        yield Tools(settings, stores, lake_of(settings), all_days(stores.mongodb), currencies)


def make(tools: Tools, maker: Maker, days: Sequence[str], progress: Progress = silent) -> Written:
    """Write days of a maker's tables again, from their current sources.

    The stamps of the sources are read first, so a change during the run makes the day stale again.

    Raises:
        LakeError: Another process is replacing a needed table.
        OSError, Unavailable: A disk, bucket or server does not answer; each file is either unchanged or complete.
    """
    done = Written()
    days = maker.makes(tools, days)
    if not days:
        return done
    sources = maker.sources(tools, days)
    for number, (day, rows) in enumerate(maker.rows(tools, days), start=1):
        for table in maker.tables:
            done += tools.lake.write(table, day, rows.get(table.name, {}), sources.get(day, {}))
        progress("days", number, len(days))
    return done


def days_of_history(settings: Settings) -> list[str]:
    """Return all days that may have figures, from the first partition to the latest day in any time zone."""
    first, last = settings.history_start, datetime.now(timezone.utc).date() + timedelta(days=1)
    return [(first + timedelta(days=number)).isoformat() for number in range((last - first).days + 1)]


def stale_days(tools: Tools, makers: Iterable[Maker], days: Sequence[str]) -> dict[str, dict[str, list[str]]]:
    """Return the stale days of each table with their shops, without tables that have none.

    A day is also stale if a table that it is computed from is stale.

    Arguments:
        tools: What makers need.
        makers: The makers, in the order of their needs.
        days: The days to look at, in ISO form.

    Raises:
        Unavailable: A server does not answer.
    """
    stale: dict[str, dict[str, list[str]]] = {}
    for maker in makers:
        own = maker.makes(tools, days)
        sources = maker.sources(tools, own) if own else {}
        for table in maker.tables:
            made = tools.lake.made_of(table, set(own).intersection(tools.lake.days(table)))
            found = {
                day: sorted(
                    _differ(sources.get(day, {}), made.get(day, {})).union(
                        *(stale.get(need.name, {}).get(day, ()) for need in maker.needs)
                    )
                )
                for day in own
            }
            if any(found.values()):
                stale[table.name] = {day: shops for day, shops in found.items() if shops}
    return stale


def refresh(tools: Tools, makers: Mapping[str, Maker], days: Sequence[str], progress: Progress = silent) -> Written:
    """Write the stale days of every table again, of some days; return what was written.

    Raises:
        LakeError, OSError, Unavailable: As for `make`.
    """
    done = Written()
    for maker in makers.values():
        found = stale_days(tools, [maker], days)
        stale = {day for of_table in found.values() for day in of_table}
        done += make(tools, maker, [day for day in days if day in stale], progress)
    return done


def _differ(now: Mapping[str, str], made: Mapping[str, Made]) -> set[str]:
    """Return the shops whose current sources differ from those of the written day."""
    then = {shop: each.sources for shop, each in made.items() if each.sources}
    return {shop for shop in now.keys() | then.keys() if now.get(shop) != then.get(shop)}


def by_day(rows: Callable[[Tools, str], Rows]) -> Callable[[Tools, Sequence[str]], Iterator[tuple[str, Rows]]]:
    """Return the `rows` of a maker whose days share nothing."""
    return lambda tools, days: ((day, rows(tools, day)) for day in days)


def in_days(days: Sequence[str], placed: Iterable[tuple[int, str, T]]) -> Iterator[tuple[str, list[T]]]:
    """Yield each of some days with its items, while it reads: at most three days are in memory.

    Arguments:
        days: The days to yield, in order; items of other days are left out.
        placed: Each item with its time in milliseconds since the epoch and its shop's day, in the order of the times.
    """
    open_days: dict[str, list[T]] = {day: [] for day in days}
    until = ""
    for at, day, each in placed:
        # No time zone is a whole day from UTC, so a shop's day is over when the next UTC day is.
        if (over := day_of(at - 2 * DAY)) != until:
            until = over
            for done in [open_day for open_day in open_days if open_day <= over]:
                yield done, open_days.pop(done)
        if day in open_days:
            open_days[day].append(each)
    yield from open_days.items()


def of_tables(*tables: LakeTable) -> Callable[[Tools, Sequence[str]], Sources]:
    """Return the sources of a maker whose tables are computed from other tables of the same day."""

    def sources(tools: Tools, days: Sequence[str]) -> Sources:
        made = [tools.lake.made_of(table, days) for table in tables]
        return {day: digests([each.get(day, {}) for each in made]) for day in days}

    return sources


def digests(made: Sequence[Mapping[str, Made]]) -> dict[str, str]:
    """Return one text for each shop that has rows in any of some tables."""
    shops = sorted({shop for each in made for shop, file in each.items() if file.rows})
    return {shop: digest(*(_sha256(each.get(shop)) for each in made)) for shop in shops}


def digest(*parts: str) -> str:
    """Return one short text for several."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _sha256(made: Made | None) -> str:
    return made.sha256 if made and made.rows else ""
