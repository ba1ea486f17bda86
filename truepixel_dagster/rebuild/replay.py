"""Process a range of Kafka again, outside of the stream's consumer group.

Records are indexed again, and then their users, orders and days are rebuilt from the history. So a replay corrects what
is wrong, changes nothing that is correct, and may be repeated.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from collections.abc import Set as AbstractSet

import msgspec

from truepixel_dagster.chunks import chunks
from truepixel_dagster.events.event import day_of
from truepixel_dagster.rebuild import ad_leads, attributions, customers, product_stats, stored, weekly_visitors
from truepixel_dagster.rebuild.attributions import names_of, rules_of
from truepixel_dagster.rebuild.context import RebuildContext
from truepixel_dagster.rebuild.events import Range, events_of, index_events, read
from truepixel_dagster.rebuild.history import beyond
from truepixel_dagster.rebuild.stats import Progress, RebuildStats, silent
from truepixel_dagster.stages.stage import AD_LEAD, ATTRIBUTION, CUSTOMER, INDEX, NAMES, PRODUCT_STATS
from truepixel_dagster.stores.mongodb import ORDERS
from truepixel_dagster.stores.shops import learn
from truepixel_dagster.stream.errors import BadRange


class Replayed(msgspec.Struct, frozen=True):
    """Count the records and events of a replay, and hold what each stage changed.

    `older` counts events from before the oldest kept month: they are skipped.
    """

    records: int
    events: int
    older: int
    stages: dict[str, RebuildStats]


def stages_of(names: Sequence[str]) -> Sequence[str]:
    """Return the requested stages; all if none is named.

    Raises:
        BadRange: A name is not a stage.
    """
    for name in names:
        if name not in NAMES:
            raise BadRange(f"unknown stage {name!r}. The stages are {', '.join(NAMES)}")
    return names or NAMES


def where_of(
    context: RebuildContext, *, since: int | None, until: int | None, partition: int | None, offsets: str | None
) -> Range:
    """Return the requested range: by time, or by a partition's offsets as `FIRST:LAST`.

    Raises:
        BadRange: Neither or both are given, or the range is invalid.
        KafkaUnavailable: Kafka does not answer.
    """
    by_offsets = partition is not None and offsets is not None
    if by_offsets == (since is not None) or (partition is None) != (offsets is None) or (by_offsets and until):
        raise BadRange("no range, or two: give either since (and until), or partition and offsets FIRST:LAST")
    if since is not None:
        return between(context, since, until if until is not None else int(time.time() * 1000))
    found = re.fullmatch(r"([0-9]{1,18}):([0-9]{1,18})", offsets or "")
    if found is None or partition is None:
        raise BadRange(f"offsets {offsets!r} are not FIRST:LAST, such as 1000:1999")
    return of_partition(context, partition, int(found[1]), int(found[2]))


def between(context: RebuildContext, since: int, until: int) -> Range:
    """Return the committed records that were written to Kafka from one time up to but excluding another, both in
    milliseconds since the epoch.

    Raises:
        BadRange: The second time is not later than the first.
        KafkaUnavailable: Kafka does not answer.
    """
    if until <= since:
        raise BadRange("until must be later than since")
    first = context.log.offsets_at(since)
    return _within(context, Range(first, context.log.offsets_at(until)))


def of_partition(context: RebuildContext, partition: int, first: int, last: int) -> Range:
    """Return the committed records of a partition from one of Kafka's offsets to another, both included.

    Raises:
        BadRange: The partition does not exist, or the last offset is below the first.
        KafkaUnavailable: Kafka does not answer.
    """
    if partition not in context.stream.committed:
        known = ", ".join(map(str, sorted(context.stream.committed)))
        raise BadRange(f"there is no partition {partition}; the topic has {known}")
    if last < first:
        raise BadRange(f"offsets {first}:{last} end before they begin: give FIRST:LAST")
    others, base = dict.fromkeys(context.stream.committed, 0), context.log.base
    return _within(context, Range({partition: base + first}, {**others, partition: base + last + 1}))


def _within(context: RebuildContext, where: Range) -> Range:
    committed = context.stream.committed
    return Range(where.first, {p: min(end, committed.get(p, 0)) for p, end in where.end.items()})


def replay(
    context: RebuildContext, where: Range, stages: Sequence[str] = NAMES, progress: Progress = silent
) -> Replayed:
    """Process a range by some stages, in their order.

    Raises:
        KafkaUnavailable, Unavailable: A server does not answer. The documents written so far are correct, and the
            others are unchanged.
    """
    records = events = older = 0
    kept = context.kept.isoformat()
    with_window = (context.kept + context.settings.window).isoformat()
    indexed = RebuildStats()
    users: set[str] = set()
    orders: set[str] = set()
    days: set[str] = set()
    weeks: set[str] = set()
    for chunk in chunks(read(context, where, progress), context.settings.batch_messages):
        all_found = events_of(context, chunk)
        found = [event for event in all_found if day_of(event.occurred_at) >= kept]
        if learn(context.stores.mongodb, found):
            context = context.with_shops_of_now()
        records, events = records + len(chunk), events + len(found)
        older += len(all_found) - len(found)
        if INDEX in stages:
            indexed += RebuildStats(len(found), index_events(context, found))
        users.update(event.user for event in found)
        orders |= names_of(event for event in found if day_of(event.occurred_at) >= with_window)
        days.update(context.days.day(event) for event in found)
        weeks.update(context.days.week(event) for event in found if event.source == "pixel")
    if INDEX in stages:
        indexed += _without_replaced(context, where)
    first_day = context.first_day.isoformat()
    whole_days = sorted(day for day in days if day >= first_day)
    whole_weeks = sorted(week for week in weeks if weekly_visitors.days_of(week)[0] >= first_day)
    done = _later_stages(context, set(stages), users, orders, whole_days, whole_weeks, progress)
    first = {INDEX: indexed} if INDEX in stages else {}
    return Replayed(records, events, older, {**first, **done})


def _without_replaced(context: RebuildContext, where: Range) -> RebuildStats:
    """Remove the documents that an earlier edition wrote for the records of a range under other ids."""
    query = beyond(
        {partition: offset - 1 for partition, offset in where.first.items()},
        {partition: end - 1 for partition, end in where.end.items()},
    )
    return RebuildStats(removed=stored.remove_replaced(context, query)) if query else RebuildStats()


def _later_stages(
    context: RebuildContext,
    stages: AbstractSet[str],
    users: AbstractSet[str],
    orders: AbstractSet[str],
    days: Sequence[str],
    weeks: Sequence[str],
    progress: Progress,
) -> dict[str, RebuildStats]:
    done: dict[str, RebuildStats] = {}
    if AD_LEAD in stages:
        done[AD_LEAD] = ad_leads.rebuild_users(context, users, progress)
    if ATTRIBUTION in stages:
        done[ATTRIBUTION] = attributions.rebuild_orders(context, orders, rules_of(context), progress)
    # An order may count for another client than the one in its webhook's key, and its returns on later days.
    clusters = context.stores.mongodb.find_by(ORDERS, "ids", orders).values()
    if CUSTOMER in stages:
        concerned = {user for cluster in clusters for user in cluster.get("users", ())}
        done[CUSTOMER] = customers.rebuild_users(context, {*users, *concerned}, progress)
    if PRODUCT_STATS in stages:
        context.history.refresh()
        first_day = context.first_day.isoformat()
        counted_on = {day for cluster in clusters for day in cluster.get("days", ()) if day >= first_day}
        counted = product_stats.rebuild_days(context, sorted({*days, *counted_on}), progress)
        done[PRODUCT_STATS] = counted + weekly_visitors.rebuild_weeks(context, weeks, progress)
    return done
