"""Restore the data of Redis exactly, after Redis lost all or some of it.

Everything in Redis exists elsewhere too. An offset is committed after it was counted, so the **applied offsets** are
the committed ones. The **buffered counters** are what the history up to these offsets has and the documents lack, so
the documents are set to the totals of the history and nothing is buffered. The **visitors** are in the history, the
**reprocessed dead letters** in the customers' documents, and the **refusals** above the committed offsets in the topic
of dead letters.

No other process may write during a restore. So Redis first gets the epoch of a restore, which only the restore accepts:
lanes, flushes and rebuilds stop at their next call. Then the restore takes the leases of all partitions. The new epoch
is set last, so that an interrupted restore starts from the beginning. Counts beyond the committed offsets are removed
from the documents, and counted when their records are read again.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone

import msgspec

from truepixel_dagster.dead_letters import topic as dead_letters
from truepixel_dagster.events.event import week_of
from truepixel_dagster.events.shop_time import ShopDays, days_beside
from truepixel_dagster.events.times import to_millis
from truepixel_dagster.flush import PRODUCT_STATS, WEEKLY_VISITORS
from truepixel_dagster.rebuild import product_stats, weekly_visitors
from truepixel_dagster.rebuild.context import RebuildContext
from truepixel_dagster.rebuild.history import open_history
from truepixel_dagster.rebuild.stats import Progress, RebuildStats, silent
from truepixel_dagster.rebuild.stream_progress import read_stream_progress
from truepixel_dagster.redis_state import check_applied
from truepixel_dagster.resources import Stores, open_stores
from truepixel_dagster.retention import first_kept
from truepixel_dagster.settings import Settings
from truepixel_dagster.source_log import compare, remember
from truepixel_dagster.stages.index import EVENTS
from truepixel_dagster.stores.epoch import RESTORING, Epoch, StateLost
from truepixel_dagster.stores.epoch_keeper import EpochKeeper
from truepixel_dagster.stores.errors import Unavailable
from truepixel_dagster.stores.mongodb import CUSTOMERS, ORDERS
from truepixel_dagster.stores.redis import Place
from truepixel_dagster.stores.redis.leases import LaneBusy, Lease
from truepixel_dagster.stores.shops import all_days
from truepixel_dagster.stream.events_log import EventsLog
from truepixel_dagster.stream.topics import IdentityReader

OWNER = "restore-redis"
_LOOK_AGAIN = 0.5
# How often to try while committed offsets move. A commit that was already sent can move them once.
_TRIES = 3


class Restored(msgspec.Struct, frozen=True):
    """Hold what a restore did, or would do. `reason` says why it was needed; it is empty if it was not.

    `applied` has offsets by partition. `letters` counts the reprocessed dead letters, `refusals` those above the
    committed offsets, `days` and `weeks` what was rebuilt, and `older` the days and weeks whose events retention has
    removed: their documents stay unchanged.
    """

    reason: str = ""
    applied: dict[int, int] = {}
    letters: int = 0
    refusals: int = 0
    days: int = 0
    weeks: int = 0
    older: int = 0
    product_stats: RebuildStats = RebuildStats()
    weekly_visitors: RebuildStats = RebuildStats()


class _Plan(msgspec.Struct, frozen=True):
    """Hold what Redis must contain, and the days and weeks that depend on what it contained."""

    committed: dict[int, int]
    base: int
    replayed: set[Place]
    refusals: dict[Place, str]
    days: list[str]
    weeks: list[str]
    older: int

    @property
    def applied(self) -> dict[int, int]:
        # Every record of an older log is processed.
        ends = {partition: max(offset, self.base) for partition, offset in self.committed.items()}
        return {partition: end - 1 for partition, end in ends.items() if end > 0}


def restore(settings: Settings, *, dry_run: bool = False, force: bool = False, progress: Progress = silent) -> Restored:
    """Restore the data of Redis if any of it is lost.

    Arguments:
        settings: The pipeline's settings.
        dry_run: Change nothing; return what would be done.
        force: Also if nothing seems lost, or if Redis holds the data of another installation.
        progress: Called with the progress.

    Raises:
        LogChanged: The topic is not the log that was processed.
        StateLost: Redis holds the data of another installation, or lost its data during the restore.
        KafkaError, Unavailable: A server does not answer; run it again.
    """
    with open_stores(settings) as stores, open_history(settings, stores) as history:
        expected, held = stores.redis.expected_epoch(), stores.redis.held_epoch()
        log = _log(settings, stores)
        reason = _reason(log, stores)
        if not reason and not force:
            return Restored()
        foreign = held is not None and held != expected.value and not held.startswith(RESTORING)
        if foreign and not force:
            raise StateLost(
                f"Redis holds the data of another installation (its epoch is {held}, MongoDB has {expected.value});"
                " nothing was changed. Check TRUEPIXEL_REDIS_URL; `truepixel restore-redis --force` replaces the data"
            )
        # An older copy of this installation's data is still true; another server's data is about other records.
        known = _reprocessed_in(stores, held) if held == expected.value else set()
        if dry_run:
            return _summary(_planned(settings, log, stores, known), reason or "--force")
        with _exclusively(settings, log, stores):
            context = RebuildContext(
                settings, stores, history, log, read_stream_progress(log, stores), all_days(stores.mongodb)
            )
            plan, counted, visitors = _rebuilt(context, known, progress)
            fresh = Epoch(secrets.token_hex(8), 0)
            # MongoDB first: if this stops in between, Redis still has the epoch of an unfinished restore.
            EpochKeeper(stores.mongodb, stores.redis).replace(fresh)
            stores.redis.replace_epoch(fresh)
            stores.redis.trust(fresh)
        done = _summary(plan, reason or "--force")
        return msgspec.structs.replace(done, product_stats=counted, weekly_visitors=visitors)


def _log(settings: Settings, stores: Stores) -> EventsLog:
    """Return the topic of events after checking, without Redis, that it is the log that was processed."""
    kept = remember(settings.kafka(), stores.mongodb)
    compare(settings.kafka(), kept, IdentityReader(settings.kafka()).read())
    return EventsLog(settings.kafka(), kept.generation)


def _reason(log: EventsLog, stores: Stores) -> str:
    """Return why a restore is needed; empty if it is not."""
    try:
        check_applied(log.kafka, stores, log.committed(), log.base)
    except StateLost as lost:
        return str(lost)
    return ""


def _reprocessed_in(stores: Stores, held: str) -> set[Place]:
    """Return the reprocessed records that an older copy of the data names."""
    stores.redis.trust(Epoch(held, 0))
    return stores.redis.replayed()


@contextmanager
def _exclusively(settings: Settings, log: EventsLog, stores: Stores) -> Iterator[None]:
    """Stop all other writers, and hold the leases of all partitions until the block ends."""
    restoring = Epoch(RESTORING + secrets.token_hex(8), 0)
    stores.redis.replace_epoch(restoring)
    stores.redis.trust(restoring)
    partitions = sorted(log.committed())
    client, name = stores.redis.client, settings.namespace
    lease = Lease(client, name, partitions, OWNER, settings.lease, epoch=stores.redis.expected_epoch)
    end = time.monotonic() + 2 * settings.lease
    while True:
        try:
            lease.acquire()
            break
        except LaneBusy as busy:
            if time.monotonic() > end:
                raise Unavailable(f"{busy} and does not stop. End that run, then run this again") from None
            time.sleep(_LOOK_AGAIN)
    for store in stores:
        store.guard = lease.check
    try:
        yield
    finally:
        lease.release()


def _rebuilt(
    context: RebuildContext, known: set[Place], progress: Progress
) -> tuple[_Plan, RebuildStats, RebuildStats]:
    """Set the data of Redis and the documents that depend on it; repeat if an earlier commit moved the offsets."""
    log, stores = context.log, context.stores
    counted = visitors = RebuildStats()
    for _ in range(_TRIES):
        plan = _planned(context.settings, log, stores, known)
        stores.redis.start_over(plan.applied, plan.replayed, plan.refusals)
        own = context._replace(stream=read_stream_progress(log, stores))
        counted += product_stats.rebuild_days(own, plan.days, progress)
        visitors += weekly_visitors.rebuild_weeks(own, plan.weeks, progress)
        if log.committed() == plan.committed:
            return plan, counted, visitors
    raise Unavailable("the committed offsets keep moving. End all runs of process_events, then run this again")


def _planned(settings: Settings, log: EventsLog, stores: Stores, known: set[Place]) -> _Plan:
    committed = log.committed()
    returned = known | _returned(stores)
    refusals = {
        (origin.partition, origin.offset): msgspec.json.encode({"stage": letter.stage, "reason": letter.error}).decode()
        for origin, letter in dead_letters.newest(dead_letters.read(settings.kafka())).items()
        if origin.offset >= committed.get(origin.partition, 0) and origin.offset >= log.base
    }
    days, weeks, older = _touched(settings, stores, all_days(stores.mongodb))
    return _Plan(committed, log.base, returned, refusals, days, weeks, older)


def _returned(stores: Stores) -> set[Place]:
    """Return the reprocessed records that the customers' documents name.

    Stage customer is the last one before the counters. A dead letter that no customer names is treated as waiting, also
    in the totals, so that it counts when it is reprocessed.
    """
    found: set[Place] = set()
    for document in stores.mongodb.find(CUSTOMERS, {"replayed": {"$exists": True}}):
        for place in document["replayed"]:
            partition, _, offset = place.partition("/")
            found.add((int(partition), int(offset)))
    return found


def _touched(settings: Settings, stores: Stores, shop_days: ShopDays) -> tuple[list[str], list[str], int]:
    """Return the days and weeks with events or documents that can be rebuilt, and how many cannot."""
    store = stores.elasticsearch
    store.refresh()
    oldest = first_kept(datetime.now(timezone.utc).date(), settings.event_retention_months)
    kept = (oldest + timedelta(days=1 if shop_days.zones else 0)).isoformat()
    of_events = set(store.days(f"{EVENTS}-", "occurred_at"))
    if shop_days.zones:
        of_events |= {day for day in days_beside(of_events) if day >= kept}
    # An imported order may count on a day that has no events.
    # MongoDB returns None for orders that count on no day.
    of_orders = set(stores.mongodb.distinct(ORDERS, "days")) - {None}
    days = {*of_events, *of_orders, *store.days(f"{PRODUCT_STATS}-", "day")}
    weeks = {week_of(to_millis(f"{day}T00:00:00.000Z")) for day in of_events}
    weeks |= {hit["_source"]["week"] for hit in store.scan(WEEKLY_VISITORS, fields=["week"])}
    whole = {week for week in weeks if weekly_visitors.days_of(week)[0] >= kept}
    recent = {day for day in days if day >= kept}
    return sorted(recent), sorted(whole), len(days - recent) + len(weeks - whole)


def _summary(plan: _Plan, reason: str) -> Restored:
    return Restored(
        reason=reason,
        applied=plan.applied,
        letters=len(plan.replayed),
        refusals=len(plan.refusals),
        days=len(plan.days),
        weeks=len(plan.weeks),
        older=plan.older,
    )
