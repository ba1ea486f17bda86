"""Rebuild the product statistics of a day while the stream continues to count.

A rebuild is a flush that sets a document where a flush adds to it. It claims a key together with the applied offsets of
the same moment: everything buffered before is in the history up to these offsets, and everything buffered later is
above them. So the totals up to these offsets replace the document and the claim, and later increments are added to
them. If the rebuild stops, the next flush takes over the claim and adds it to the unchanged document.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple

import msgspec

from truepixel_dagster.chunks import chunks
from truepixel_dagster.events.event import Event
from truepixel_dagster.events.money import bounded_sum
from truepixel_dagster.events.origin import Origin
from truepixel_dagster.flush import (
    AMOUNTS,
    COUNTED,
    COUNTS,
    PRODUCT_STATS,
    FlushRefused,
    amounts_of,
    counters_of,
    flush_keys,
    place_of,
)
from truepixel_dagster.orders.cluster import Change, Cluster
from truepixel_dagster.rebuild.context import RebuildContext
from truepixel_dagster.rebuild.history import Query, all_of, beyond, on_shop_days
from truepixel_dagster.rebuild.stats import Progress, RebuildStats, silent
from truepixel_dagster.retention import check_kept
from truepixel_dagster.stages import order_clusters
from truepixel_dagster.stages.product_stats import COUNTED_NAMES, increments
from truepixel_dagster.stages.stage import ATTRIBUTION
from truepixel_dagster.stores.documents import SCHEMA, Unreadable, report
from truepixel_dagster.stores.elasticsearch import Found, Place
from truepixel_dagster.stores.errors import Unavailable
from truepixel_dagster.stores.mongodb import ORDERS
from truepixel_dagster.stores.redis import CounterKey

KEYS = 200
_TRIES = 20

Counters = dict[str, int]


class Row(NamedTuple):
    """Hold what one event adds to one field of one key, and the event's position."""

    key: CounterKey
    field: str
    amount: int
    partition: int
    offset: int


def rebuild_days(context: RebuildContext, days: Sequence[str], progress: Progress = silent) -> RebuildStats:
    """Replace the counts of these days by the totals of the event history, one day after the other.

    A day is each shop's own, by the time zone known when the rebuild begins. The orders' documents hold what orders
    count, on the shop's days at that time: if they are missing, or the time zone has changed, rebuild attributions
    first.

    Raises:
        HistoryDropped: Retention has removed the events of a day.
        KafkaUnavailable, Unavailable: A server does not answer. The documents written so far are correct, and the
            others are unchanged.
        FlushRefused: Elasticsearch refused a document.
    """
    check_kept(days, context.kept, (context.first_day - context.kept).days)
    buffered = _buffered(context, set(days))
    result = RebuildStats()
    for number, day in enumerate(days, start=1):
        result += _rebuild_day(context, day, buffered.get(day, set()), progress)
        progress("days", number, len(days))
    return result


def _rebuild_day(
    context: RebuildContext, day: str, buffered: AbstractSet[CounterKey], progress: Progress
) -> RebuildStats:
    elasticsearch = context.stores.elasticsearch
    of_day = elasticsearch.scan(
        f"{PRODUCT_STATS}-{day[:4]}.{day[5:7]}", {"term": {"day": day}}, fields=["product_id", "shop_id"]
    )
    keys = {(source["shop_id"], source["product_id"], day) for source in _named(of_day)} | buffered
    applied = context.stores.redis.applied_now()
    context.history.refresh()
    totals = _totals(context, None, {}, day, applied, progress)
    wanted = sorted(keys | totals.keys())
    result = RebuildStats()
    for chunk in chunks(wanted, KEYS):
        result += _put(context, {key: totals.get(key, {}) for key in chunk}, applied, day)
        progress(f"products of {day}", result.documents, len(wanted))
    return result


def _named(hits: Iterable[Any]) -> Iterator[Mapping[str, str]]:
    """Yield the documents that name their product; a rebuild leaves the others alone."""
    return (hit["_source"] for hit in hits if {"shop_id", "product_id"} <= hit["_source"].keys())


def totals_of(context: RebuildContext, shop: str, day: str, applied: Mapping[int, int]) -> dict[CounterKey, Counters]:
    """Return the totals of a shop's events and orders on a day, up to the applied offsets.

    Raises:
        Unavailable: A server does not answer.
    """
    totals = _totals(context, {"term": {"shop_id": shop}}, {"shop_id": shop}, day, applied)
    return {key: counters for key, counters in totals.items() if key[0] == shop}


def _totals(
    context: RebuildContext,
    events: Query | None,
    orders: Mapping[str, Any],
    day: str,
    applied: Mapping[int, int],
    progress: Progress = silent,
) -> dict[CounterKey, Counters]:
    totals: dict[CounterKey, Counters] = {}
    seen = 0
    for rows, count in _rows(context, all_of(on_shop_days([day], context.days), *([events] if events else []))):
        own = (row for row in rows if row.key[2] == day)
        _add(totals, (row for row in own if row.offset <= applied.get(row.partition, -1)))
        seen += count
        progress(f"events of {day} read", seen, 0)
    for cluster in _clusters(context, {**orders, "days": day}):
        _add(totals, _counted_of(context, cluster, applied, day))
    return totals


def _put(
    context: RebuildContext, totals: Mapping[CounterKey, Counters], applied: Mapping[int, int], day: str
) -> RebuildStats:
    """Write the totals of some keys; repeat for keys that were flushed in between."""
    left = list(totals)
    changed = removed = 0
    unreadable: set[CounterKey] = set()
    for _ in range(_TRIES):
        if not left:
            return RebuildStats(len(totals) - len(unreadable), changed, removed, unreadable=len(unreadable))
        claimed = _claim(context, left)
        caught_up = _catch_up(context, claimed, totals, applied, day)
        written, differed = _write(context, claimed, caught_up, unreadable)
        changed += differed
        removed += _remove_empty(context, [key for key in written if not any(caught_up[key].values())])
        left = [key for key in left if key not in written and key not in unreadable]
    raise Unavailable(f"Redis: {len(left)} counters were flushed by others during each of {_TRIES} tries")


def _claim(context: RebuildContext, keys: Sequence[CounterKey]) -> dict[CounterKey, tuple[str, dict[int, int]]]:
    """Claim keys; return the token and applied offsets of each. Flush claims that others left first."""
    redis, elasticsearch = context.stores.redis, context.stores.elasticsearch
    claimed: dict[CounterKey, tuple[str, dict[int, int]]] = {}
    left = list(keys)
    for _ in range(_TRIES):
        tokens = [secrets.token_hex(12) for _ in left]
        found = dict(zip(left, redis.stake(left, tokens)))
        claimed |= {key: (token, found[key] or {}) for key, token in zip(left, tokens) if found[key] is not None}
        left = [key for key in left if found[key] is None]
        if not left:
            return claimed
        refused: dict[CounterKey, str] = {}
        flush_keys(left, redis, elasticsearch, refused)
        if refused:
            raise FlushRefused(refused)
    raise Unavailable(f"Redis: {len(left)} claims stayed open during {_TRIES} tries")


def _catch_up(
    context: RebuildContext,
    claimed: Mapping[CounterKey, tuple[str, Mapping[int, int]]],
    totals: Mapping[CounterKey, Counters],
    applied: Mapping[int, int],
    day: str,
) -> dict[CounterKey, Counters]:
    """Return the totals of each key up to the offsets at which it was claimed."""
    upto: dict[int, int] = {}
    for _, offsets in claimed.values():
        for partition, offset in offsets.items():
            upto[partition] = max(offset, upto.get(partition, offset))
    found = {key: dict(totals[key]) for key in claimed}
    query = beyond(applied, upto)
    if query is None:
        return found
    context.history.refresh()
    rows_of_events = (
        row for rows, _ in _rows(context, all_of(on_shop_days([day], context.days), query)) for row in rows
    )
    rows_of_orders = (
        row
        for cluster in _clusters(context, {"days": day, "$or": _changed_beyond(applied, upto)})
        for row in _changes_of(context, cluster, applied, day)
    )
    for rows in (rows_of_events, rows_of_orders):
        _add(found, (r for r in rows if r.key in claimed and r.offset <= claimed[r.key][1].get(r.partition, -1)))
    return found


def _changed_beyond(after: Mapping[int, int], upto: Mapping[int, int]) -> list[dict[str, Any]]:
    return [
        {"changes": {"$elemMatch": {"partition": partition, "offset": {"$gt": after.get(partition, -1), "$lte": last}}}}
        for partition, last in upto.items()
    ]


def _clusters(context: RebuildContext, query: Mapping[str, Any]) -> Iterator[Cluster]:
    """Yield the clusters of orders that count on a day; log and skip those that cannot be read."""
    for document in context.stores.mongodb.find(ORDERS, {"merged_into": None, **query}):
        try:
            yield order_clusters.CLUSTER.read(document["_id"], document)
        except Unreadable as error:
            report(error)


def _counted_of(context: RebuildContext, cluster: Cluster, applied: Mapping[int, int], day: str) -> Iterator[Row]:
    """Yield the counts of a cluster's orders on a day, minus the changes that the stream has not applied yet."""
    for product, own_day, field, amount in cluster.counted:
        if own_day == day:
            yield Row((cluster.shop_id, product, day), field, amount, -1, -1)
    for change in cluster.changes:
        if not _is_applied(context, change, applied):
            yield from (row._replace(amount=-row.amount) for row in _of_change(cluster, change, day))


def _changes_of(context: RebuildContext, cluster: Cluster, applied: Mapping[int, int], day: str) -> Iterator[Row]:
    """Yield the increments of changes that were not applied at the given offsets and may be applied now."""
    for change in cluster.changes:
        if not _is_applied(context, change, applied):
            yield from _of_change(cluster, change, day)


def _of_change(cluster: Cluster, change: Change, day: str) -> Iterator[Row]:
    for product, own_day, field, amount in change.rows:
        if own_day == day:
            yield Row((cluster.shop_id, product, day), field, amount, change.partition, change.offset)


def _is_applied(context: RebuildContext, change: Change, applied: Mapping[int, int]) -> bool:
    """Return whether the product statistics include a change. They do not while its record waits as a dead letter."""
    if change.held and not context.stream.has_returned(Origin("", change.partition, change.offset)):
        return False
    return change.offset <= applied.get(change.partition, -1)


def _rows(context: RebuildContext, query: Query) -> Iterator[tuple[list[Row], int]]:
    """Yield the increments of the events of each page, and the number of events."""
    products = context.settings.products_per_event
    # Most events count nothing, and their payloads are the most to read.
    counted = {"terms": {"name": sorted(COUNTED_NAMES)}}
    for page in context.history.events(all_of(query, counted)):
        events = [event for event in page if context.stream.passed(ATTRIBUTION, event)]
        yield [row for event in events for row in _of(context, event, products)], len(page)


def _of(context: RebuildContext, event: Event, products: int) -> Iterator[Row]:
    day = context.days.day(event)
    for product, field, amount in increments(event, products):
        yield Row((event.shop_id, product, day), field, amount, event.origin.partition, event.origin.offset)


def _add(totals: dict[CounterKey, Counters], rows: Iterable[Row]) -> None:
    for row in rows:
        own = totals.setdefault(row.key, {})
        # In the order of offsets and limited to 64 bits, as the stream counts.
        own[row.field] = bounded_sum(own.get(row.field, 0), row.amount)


def _write(
    context: RebuildContext,
    claimed: Mapping[CounterKey, tuple[str, Mapping[int, int]]],
    totals: Mapping[CounterKey, Counters],
    unreadable: set[CounterKey],
) -> tuple[set[CounterKey], int]:
    """Write under the claims that still hold, and acknowledge them; return the written keys and how many had changed.

    The claim of a document that cannot be read stays open until a flush after its repair.
    """
    redis, elasticsearch = context.stores.redis, context.stores.elasticsearch
    keys = {place_of(key, elasticsearch): key for key in claimed}
    documents = dict(zip(keys, elasticsearch.mget(list(keys))))
    tokens = redis.open_tokens(list(keys.values()))
    changed: dict[Place, bytes] = {}
    for (place, key), token in zip(keys.items(), tokens):
        if token != claimed[key][0]:
            continue
        try:
            changed[place] = _encoded(key, token, totals[key], documents[place])
        except Unreadable as error:
            report(error)
            unreadable.add(key)
    outcome = elasticsearch.replace(changed, documents)
    if outcome.refused:
        raise FlushRefused(outcome.refused)
    written = {keys[place]: documents[place] for place in changed.keys() - set(outcome.conflicts)}
    redis.acknowledge({key: claimed[key][0] for key in written})
    return set(written), sum(_differs(before, totals[key]) for key, before in written.items())


def _encoded(key: CounterKey, token: str, counters: Counters, document: Found | None) -> bytes:
    before = COUNTED.usable(document.id, document.source) if document else {}
    return msgspec.json.encode({**before, **_document(key, counters), "last_token": token})


def _document(key: CounterKey, counters: Counters) -> dict[str, Any]:
    shop, product, day = key
    counts = {field: counters.get(field, 0) for field in COUNTS}
    head = {"schema": SCHEMA, "shop_id": shop, "product_id": product, "day": day}
    return {**head, **counts, **amounts_of(counters)}


def _differs(document: Found | None, counters: Counters) -> bool:
    if document is None:
        return any(counters.values())
    before = counters_of(document.source)
    return {field: n for field, n in before.items() if n} != {field: n for field, n in counters.items() if n}


def _remove_empty(context: RebuildContext, keys: Sequence[CounterKey]) -> int:
    """Remove documents that count nothing, unless something was counted in between; return how many."""
    elasticsearch = context.stores.elasticsearch
    documents = elasticsearch.mget([place_of(key, elasticsearch) for key in keys])
    empty = [doc for doc in documents if doc and not any(doc.source.get(f) for f in (*COUNTS, *AMOUNTS))]
    return elasticsearch.remove(empty)


def _buffered(context: RebuildContext, days: AbstractSet[str]) -> dict[str, set[CounterKey]]:
    """Return the keys of these days that have counters in Redis, by day."""
    found: dict[str, set[CounterKey]] = {}
    for kind in ("claim", "buffer"):
        for keys in context.stores.redis.counter_keys(kind, 1000):
            for key in keys:
                if key[2] in days:
                    found.setdefault(key[2], set()).add(key)
    return found
