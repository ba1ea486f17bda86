"""Rebuild customers from the event history."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from truepixel_dagster.chunks import chunks
from truepixel_dagster.events.event import Event
from truepixel_dagster.events.origin import Origin
from truepixel_dagster.rebuild.context import RebuildContext
from truepixel_dagster.rebuild.history import of_users, on_days
from truepixel_dagster.rebuild.stats import Progress, RebuildStats, silent
from truepixel_dagster.rebuild.users import users_of
from truepixel_dagster.retention import check_kept
from truepixel_dagster.stages import attribution, customer, order_clusters
from truepixel_dagster.stages.attribution import Identity
from truepixel_dagster.stages.settling import rules_of
from truepixel_dagster.stages.stage import CUSTOMER
from truepixel_dagster.stores.documents import SCHEMA, read_all
from truepixel_dagster.stores.mongodb import CUSTOMERS, ORDERS

USERS = 500
Document = Mapping[str, Any]


def rebuild_days(context: RebuildContext, days: Sequence[str], progress: Progress = silent) -> RebuildStats:
    """Rebuild every customer who was seen on these days, by events or by the document.

    A customer first seen before the oldest kept event stays as the stream left it. Attributions decide which event
    counts an order: if they are missing too, rebuild them first.

    Raises:
        HistoryDropped: Retention has removed the events of a day.
        KafkaUnavailable, Unavailable: A server does not answer. The documents written so far are correct, and the
            others are unchanged.
    """
    check_kept(days, context.kept)
    context.history.refresh()
    users = users_of(context.history, on_days(days), progress)
    for day in days:
        within = {"$gte": day, "$lt": f"{day}T~"}
        users.update(context.stores.mongodb.ids(CUSTOMERS, {"$or": [{"first_seen": within}, {"last_seen": within}]}))
    return rebuild_users(context, users, progress)


def rebuild_users(context: RebuildContext, users: Iterable[str], progress: Progress = silent) -> RebuildStats:
    """Rebuild some customers."""
    wanted = sorted(users)
    result = RebuildStats()
    for chunk in chunks(wanted, USERS):
        result += _rebuild(context, chunk)
        progress("customers", result.documents, len(wanted))
    return result


def _rebuild(context: RebuildContext, users: Sequence[str]) -> RebuildStats:
    mongodb = context.stores.mongodb
    # A document that another writer changed meanwhile is decided again; the others are right by then.
    changed: set[str] = set()
    gone: dict[str, Any] = {}
    older = bad = 0

    def decide(stored: Mapping[str, Document]) -> dict[str, dict[str, Any]]:
        nonlocal older, bad
        older = 0
        new: dict[str, dict[str, Any]] = {}
        gone.clear()
        readable, unreadable = read_all(customer.PROFILE, stored)
        bad = len(unreadable)
        stored = {user: customer.PROFILE.usable(user, stored[user]) for user in readable}
        documents = _documents(context, [user for user in users if user not in unreadable], stored)
        for user in users:
            if user in unreadable:
                continue
            if stored.get(user, {}).get("first_seen", "~") < context.kept.isoformat():
                older += 1
                continue
            before = {key: value for key, value in stored.get(user, {}).items() if key not in ("_id", "v")}
            if user in documents:
                # Keep fields that this version does not know: the history does not have them.
                documents[user] = {**_others(before), **documents[user]}
                if documents[user] != before:
                    new[user] = documents[user]
            elif "v" in stored.get(user, {}):
                # A document without a version was imported, so it stays although no event supports it.
                gone[user] = stored[user]["v"]
        changed.update(new)
        return new

    rejected = mongodb.update(CUSTOMERS, users, decide)
    return RebuildStats(len(users), len(changed.difference(rejected)), mongodb.remove(CUSTOMERS, gone), 0, older, bad)


def _others(document: Document) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name not in customer.OWN_FIELDS}


def _documents(
    context: RebuildContext, users: Sequence[str], stored: Mapping[str, Document]
) -> dict[str, dict[str, Any]]:
    """Return the documents of users who have events or orders."""
    wanted = set(users)
    documents: dict[str, dict[str, Any]] = {}
    # Refresh after the documents were read: the history then has every event that they count.
    context.history.refresh()
    for page in context.history.events(of_users(wanted)):
        mine = [e for e in page if e.user in wanted and _counts(context, e, stored.get(e.user, {}))]
        by_user: dict[str, list[Event]] = {}
        for event in mine:
            by_user.setdefault(event.user, []).append(event)
        for user, events in by_user.items():
            after = customer.apply(documents.get(user), events) or documents[user]
            returned = [_at(event.origin) for event in events if context.stream.has_returned(event.origin)]
            documents[user] = {**after, "replayed": [*after.get("replayed", ()), *returned]} if returned else after
    _add_orders(context, users, documents)
    return {user: _with_marks(document, stored.get(user, {})) for user, document in documents.items()}


def _add_orders(context: RebuildContext, users: Sequence[str], documents: dict[str, dict[str, Any]]) -> None:
    """Add the sums of orders and the identities that orders give their clients."""
    mongodb = context.stores.mongodb
    sums = customer.order_sums(users, mongodb)
    clusters, _ = order_clusters.readable(mongodb.find_by(ORDERS, "users", users))
    identities: dict[str, list[Identity]] = {}
    for cluster in clusters.values():
        if cluster.merged_into is None:
            for user, said in attribution.identities_of(cluster, rules_of(context.settings)).items():
                identities.setdefault(user, []).extend(said)
    for user in users:
        if user in documents or user in sums:
            document = documents.get(user) or customer.nobody(user)
            own = sums.get(user, customer.OrderSums())
            # A document without its version would count as one of the first edition, and its orders twice.
            documents[user] = {**customer.with_orders(document, own, identities.get(user, ())), "schema": SCHEMA}


def _counts(context: RebuildContext, event: Event, stored: Document) -> bool:
    """Return whether the stream, or reprocessing its dead letter, has counted an event."""
    if _at(event.origin) in stored.get("replayed", ()):
        return True
    if not customer.counts(event):
        return False
    done = context.stream.is_committed(event.origin) or customer.is_applied(stored, event.origin)
    return done and context.stream.passed(CUSTOMER, event)


def _at(origin: Origin) -> str:
    return f"{origin.partition}/{origin.offset}"


def _with_marks(document: dict[str, Any], stored: Document) -> dict[str, Any]:
    """Add the marks of the records counted before, so that none of them is counted twice."""
    applied = dict(document["applied"])
    for partition, offset in stored.get("applied", {}).items():
        applied[partition] = max(offset, applied.get(partition, offset))
    replayed = customer.newest_marks(stored.get("replayed", ()), document.get("replayed", ()))
    return {**document, "applied": applied} | ({"replayed": replayed} if replayed else {})
