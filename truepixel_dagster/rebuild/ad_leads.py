"""Rebuild the touches of users from the event history."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from truepixel_dagster.chunks import chunks
from truepixel_dagster.events.event import Event
from truepixel_dagster.events.origin import Origin
from truepixel_dagster.events.shop_time import days_beside
from truepixel_dagster.events.touch import Touch
from truepixel_dagster.rebuild.context import RebuildContext
from truepixel_dagster.rebuild.history import WITH_AD, all_of, of_users, on_days
from truepixel_dagster.rebuild.stats import Progress, RebuildStats, silent
from truepixel_dagster.rebuild.users import users_of
from truepixel_dagster.retention import check_kept
from truepixel_dagster.stages.ad_lead import LEAD, Lead, NotedOrder, document_of, noted_in, touch_of, with_noted
from truepixel_dagster.stages.order_clusters import CLUSTER
from truepixel_dagster.stages.stage import AD_LEAD
from truepixel_dagster.stores.documents import SCHEMA, read_all
from truepixel_dagster.stores.mongodb import AD_LEADS, ORDERS

USERS = 500


def rebuild_days(context: RebuildContext, days: Sequence[str], progress: Progress = silent) -> RebuildStats:
    """Rebuild the touches of every user who has an ad on these days, by events or by the document, and of every user
    whom the notes of an order of these days name.

    A document with a touch from before the oldest kept event stays as the stream left it.

    Raises:
        HistoryDropped: Retention has removed the events of a day.
        KafkaUnavailable, Unavailable: A server does not answer. The documents written so far are correct, and the
            others are unchanged.
    """
    check_kept(days, context.kept)
    context.history.refresh()
    users = users_of(context.history, all_of(on_days(days), WITH_AD), progress)
    for day in days:
        within = {"$elemMatch": {"at": {"$gte": day, "$lt": f"{day}T~"}}}
        users.update(context.stores.mongodb.ids(AD_LEADS, {"touches": within}))
    orders = context.stores.mongodb.ids(ORDERS, {"days": {"$in": sorted(days_beside(days))}})
    for chunk in chunks(orders, USERS):
        users.update(_noted_by(context.stores.mongodb.read(ORDERS, chunk)))
    return rebuild_users(context, users, progress)


def rebuild_users(context: RebuildContext, users: Iterable[str], progress: Progress = silent) -> RebuildStats:
    """Rebuild the touches of some users."""
    wanted = sorted(users)
    result = RebuildStats()
    for chunk in chunks(wanted, USERS):
        result += _rebuild(context, chunk)
        progress("users", result.documents, len(wanted))
    return result


def _rebuild(context: RebuildContext, users: Sequence[str]) -> RebuildStats:
    settings, mongodb = context.settings, context.stores.mongodb
    # A document that another writer changed meanwhile is decided again; the others are right by then.
    changed: set[str] = set()
    gone: dict[str, Any] = {}
    older = bad = 0

    def decide(stored: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        nonlocal older, bad
        older = 0
        new: dict[str, dict[str, Any]] = {}
        gone.clear()
        leads, unreadable = read_all(LEAD, stored)
        bad = len(unreadable)
        known = {user: {(t.partition, t.offset) for t in lead.all} for user, lead in leads.items()}
        touches = touches_of_users(context, users, known)
        noted = _noted(context, users)
        for user in users:
            if user in unreadable:
                continue
            if user in leads and any(touch.at < context.kept.isoformat() for touch in leads[user].all):
                older += 1
                continue
            # Orders also record which users their notes name, in case the document was lost.
            orders = with_noted(leads.get(user, Lead()), noted.get(user, ())).orders
            if user in touches or orders:
                lead = _lead(context, touches.get(user, ()), settings.touches_kept, orders)
                document = stored.get(user, {})
                if lead != leads.get(user) or document.get("schema") != SCHEMA:
                    new[user] = document_of(lead, document)
            elif user in stored:
                gone[user] = stored[user].get("v")
        changed.update(new)
        return new

    rejected = mongodb.update(AD_LEADS, users, decide)
    removed = mongodb.remove(AD_LEADS, gone)
    return RebuildStats(len(users), len(changed.difference(rejected)), removed, older=older, unreadable=bad)


def _noted(context: RebuildContext, users: Sequence[str]) -> dict[str, set[NotedOrder]]:
    """Return the orders whose notes name these users, by user."""
    return _noted_by(context.stores.mongodb.find_by(ORDERS, "users", users))


def _noted_by(stored: Mapping[str, Mapping[str, Any]]) -> dict[str, set[NotedOrder]]:
    found: dict[str, set[NotedOrder]] = {}
    clusters, _ = read_all(CLUSTER, stored)
    for cluster in clusters.values():
        # The facts of a merged cluster are in the cluster that absorbed it.
        for user, orders in noted_in(cluster).items() if cluster.merged_into is None else ():
            found.setdefault(user, set()).update(orders)
    return found


def _lead(context: RebuildContext, touches: Sequence[Touch], kept: int, orders: tuple[NotedOrder, ...]) -> Lead:
    """Return the newest touches, and those that touches of an uncommitted batch have displaced (`stages.ad_lead`)."""
    done = context.stream.is_committed
    under_way = sum(not done(Origin("", touch.partition, touch.offset)) for touch in touches)
    needed = touches[-(kept + under_way) :]
    return Lead(tuple(needed[-kept:]), tuple(needed[:-kept]), orders)


def touches_of_users(
    context: RebuildContext, users: Iterable[str], known: Mapping[str, set[tuple[int, int]]]
) -> dict[str, list[Touch]]:
    """Return all touches of users by the event history.

    Arguments:
        context: The settings, stores and history.
        users: The users, as `shop:client`.
        known: Partition and offset of records of each user that stage 2 has processed, committed or not. Stage 2 has
            then also processed the user's earlier records of that partition.
    """
    wanted = set(users)
    reached = {user: _last_of_each(origins) for user, origins in known.items()}
    context.history.refresh()
    events: dict[str, list[Event]] = {}
    for page in context.history.outlines(all_of(of_users(wanted), WITH_AD)):
        for event in page:
            if event.ad and event.user in wanted and _counts(context, event, reached.get(event.user, {})):
                events.setdefault(event.user, []).append(event)
    repeat = int(context.settings.touch_repeat * 1000)
    return {user: touches_of(mine, repeat) for user, mine in events.items()}


def _last_of_each(origins: Iterable[tuple[int, int]]) -> dict[int, int]:
    last: dict[int, int] = {}
    for partition, offset in origins:
        last[partition] = max(offset, last.get(partition, offset))
    return last


def _counts(context: RebuildContext, event: Event, reached: Mapping[int, int]) -> bool:
    origin = event.origin
    done = context.stream.is_committed(origin) or origin.offset <= reached.get(origin.partition, -1)
    return done and context.stream.passed(AD_LEAD, event)


def touches_of(events: Sequence[Event], repeat: int) -> list[Touch]:
    """Return the touches among a user's events. A repeated ad within the given time is the same touch.

    Arguments:
        events: Events with ads, by partition and offset.
        repeat: Milliseconds within which a repeated ad is the same touch.
    """
    # A user's partition changes only when partitions are added, so the partition with the earliest arrival is first.
    heard: dict[int, int] = {}
    for event in events:
        heard.setdefault(event.origin.partition, event.received_at)
    found: list[Touch] = []
    for event in sorted(events, key=lambda event: (heard[event.origin.partition], event.origin)):
        assert event.ad is not None  # noqa: S101 (the query asks for ads)
        previous = found[-1] if found else None
        if previous and previous.ad.same_as(event.ad) and abs(event.occurred_at - previous.millis) <= repeat:
            continue
        found.append(touch_of(event))
    return found
