"""Flush buffered counters from Redis to Elasticsearch: claim → write → acknowledge.

A crash loses nothing and counts nothing twice, wherever it happens:

- before the claim: the counters are still in the buffer;
- after the claim, before the write: the claim stays open, and the next flush gets it with the same token;
- after the write, before the acknowledgement: the document's last token is the claim's, so it is not written again;
- after the acknowledgement: the flush is complete.

Several flushes at once are safe. Two of them may get the same claim. While one is paused, the other may write and
acknowledge it, and then claim and write newer counters: the document's last token is then a newer one and proves
nothing. So each flush reads the document, then checks that the claim is still open, and then writes under the
document's sequence number. While a claim is open, no newer one exists. So the document contains this claim exactly if
its last token is the claim's, and the sequence number refuses the write if the document has changed since.
"""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from truepixel_dagster.events.money import bounded_sum
from truepixel_dagster.orders.counts import ORDERS, RETURNED, RETURNED_UNITS, REVENUE, UNITS
from truepixel_dagster.stages.product_stats import CARTS, CHECKOUTS, VIEWS
from truepixel_dagster.stores.documents import SCHEMA, Reader, Unreadable
from truepixel_dagster.stores.elasticsearch import ElasticsearchStore, Found, Place
from truepixel_dagster.stores.redis import Claim, CounterKey, RedisStore, WeekKey

BATCH = 100
COUNTS = (VIEWS, CARTS, CHECKOUTS, ORDERS, UNITS, RETURNED_UNITS)
# Fields of a document that hold amounts by currency, and the prefix of their counters.
AMOUNTS = {"revenue": REVENUE, "returned_revenue": RETURNED}
PRODUCT_STATS, WEEKLY_VISITORS = "product-stats", "weekly-visitors"


class _Counted(msgspec.Struct, frozen=True):
    """Hold the fields that are read from a product's day."""

    views: int = 0
    carts: int = 0
    checkouts: int = 0
    orders: int = 0
    units: int = 0
    returned_units: int = 0
    revenue: dict[str, int] = {}
    returned_revenue: dict[str, int] = {}
    last_token: str = ""


class _Visited(msgspec.Struct, frozen=True):
    """Hold the fields that are read from a shop's week."""

    visitors: int = 0
    exact: bool = False


COUNTED = Reader(_Counted, f"Elasticsearch {PRODUCT_STATS}")
VISITED = Reader(_Visited, f"Elasticsearch {WEEKLY_VISITORS}")
Progress = Callable[[int], None]


class FlushResult(msgspec.Struct, frozen=True):
    """Count what a flush did. `oldest_seconds` is the age of the oldest flushed counter.

    `recovered` counts the claims of interrupted flushes, `retries` how often documents were read again because they had
    changed, and `partitions` the keys by day or ISO week.
    """

    keys: int = 0
    batches: int = 0
    recovered: int = 0
    retries: int = 0
    oldest_seconds: float = 0.0
    seconds: float = 0.0
    partitions: dict[str, int] = {}


class FlushRefused(Exception):
    """Raised when Elasticsearch refuses documents. All others are written; these stay in Redis for the next flush."""

    def __init__(self, refused: Mapping[Any, str]) -> None:
        super().__init__(f"Elasticsearch rejected {len(refused)} documents, such as: {next(iter(refused.values()))}")


def flush_product_stats(
    redis: RedisStore,
    elasticsearch: ElasticsearchStore,
    *,
    batch: int = BATCH,
    progress: Progress = lambda _: None,
) -> FlushResult:
    """Flush every buffered counter, after the claims of interrupted flushes.

    Arguments:
        redis: The store with the counters.
        elasticsearch: The store to write to.
        batch: The number of keys claimed at a time.
        progress: Called with the number of keys flushed so far.

    Raises:
        Unavailable: A server does not answer; nothing is lost.
        FlushRefused: Elasticsearch refused documents; all others are written.
    """
    started, now = time.monotonic(), time.time() * 1000
    keys = batches = recovered = retries = 0
    oldest = now
    refused: dict[CounterKey, str] = {}
    days: Counter[str] = Counter()
    for kind in ("claim", "buffer"):
        for found in redis.counter_keys(kind, batch):
            claims, again = flush_keys(found, redis, elasticsearch, refused)
            retries += again
            days.update(day for _, _, day in (claim.key for claim in claims))
            keys, batches = keys + len(claims), batches + 1
            recovered += len(claims) if kind == "claim" else 0
            oldest = min([oldest, *(claim.since for claim in claims if claim.since)])
            progress(keys)
    if refused:
        raise FlushRefused(refused)
    age = round((now - oldest) / 1000, 1)
    return FlushResult(keys, batches, recovered, retries, age, round(time.monotonic() - started, 3), dict(days))


def flush_keys(
    keys: Sequence[CounterKey], redis: RedisStore, elasticsearch: ElasticsearchStore, refused: dict[CounterKey, str]
) -> tuple[list[Claim], int]:
    """Claim, write and acknowledge some keys.

    Arguments:
        keys: The keys to flush.
        redis: The store with their counters.
        elasticsearch: The store to write to.
        refused: Receives the reason for each refused document; its claim stays open.

    Returns:
        The claims that were written, and how often documents were read again.

    Raises:
        Unavailable: A server does not answer; nothing is lost.
    """
    claims = redis.claim(keys, [secrets.token_hex(12) for _ in keys])
    refused.update({claim.key: claim.unreadable for claim in claims if claim.unreadable})
    claims = [claim for claim in claims if not claim.unreadable]
    retries = _write_claims(claims, redis, elasticsearch, refused)
    written = [claim for claim in claims if claim.key not in refused]
    redis.acknowledge({claim.key: claim.token for claim in written})
    return written, retries


def _write_claims(
    claims: Sequence[Claim], redis: RedisStore, elasticsearch: ElasticsearchStore, refused: dict[CounterKey, str]
) -> int:
    """Write claims to their documents; add to `refused`, and return how often documents were read again."""
    by_place = {place_of(claim.key, elasticsearch): claim for claim in claims}
    # A month with a wrong index must not block the other months.
    wrong = elasticsearch.refusing({index for index, _ in by_place})
    refused.update({claim.key: wrong[index] for (index, _), claim in by_place.items() if index in wrong})

    def decide(documents: Mapping[Place, Found | None]) -> dict[Place, bytes]:
        tokens = redis.open_tokens([by_place[place].key for place in documents])
        changed: dict[Place, bytes] = {}
        for (place, document), token in zip(documents.items(), tokens):
            claim = by_place[place]
            if token == claim.token and not (document and document.source.get("last_token") == claim.token):
                try:
                    changed[place] = msgspec.json.encode(_added(claim, document))
                except Unreadable as error:
                    refused[claim.key] = str(error)
        return changed

    written = elasticsearch.update([place for place in by_place if place[0] not in wrong], decide)
    refused.update({by_place[place].key: reason for place, reason in written.refused.items()})
    return written.rereads


def place_of(key: CounterKey, elasticsearch: ElasticsearchStore) -> tuple[str, str]:
    """Return index and id of the document of a product's day."""
    shop, product, day = key
    return elasticsearch.index(f"{PRODUCT_STATS}-{day[:4]}.{day[5:7]}"), f"{shop}:{product}:{day}"


def _added(claim: Claim, document: Found | None) -> dict[str, Any]:
    """Return the document with a claim added."""
    shop, product, day = claim.key
    before = COUNTED.usable(document.id, document.source) if document else {}
    amounts = {name: dict(before.get(name, {})) for name in AMOUNTS}
    for name, added in amounts_of(claim.counters).items():
        for currency, amount in added.items():
            amounts[name][currency] = bounded_sum(amounts[name].get(currency, 0), amount)
    # Drop zero amounts, such as those of an order that now counts on another day.
    amounts = {name: {c: amount for c, amount in own.items() if amount} for name, own in amounts.items()}
    counts = {field: bounded_sum(before.get(field, 0), claim.counters.get(field, 0)) for field in COUNTS}
    head = {"schema": SCHEMA, "shop_id": shop, "product_id": product, "day": day}
    return {**before, **head, **counts, **amounts, "last_token": claim.token}


def counters_of(source: Mapping[str, Any]) -> dict[str, int]:
    """Return the counts of a document by the names of their Redis counters."""
    found = {field: source.get(field, 0) for field in COUNTS}
    for name, prefix in AMOUNTS.items():
        found |= {prefix + currency: amount for currency, amount in source.get(name, {}).items()}
    return found


def amounts_of(counters: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """Return the amounts among counters, by the document's field and by currency."""
    return {
        name: {field[len(prefix) :]: amount for field, amount in counters.items() if field.startswith(prefix)}
        for name, prefix in AMOUNTS.items()
    }


def flush_weekly_visitors(
    redis: RedisStore,
    elasticsearch: ElasticsearchStore,
    *,
    batch: int = BATCH,
    progress: Progress = lambda _: None,
) -> FlushResult:
    """Write the visitors of every changed week; a week that grows in between stays marked for the next flush.

    Raises:
        Unavailable: A server does not answer; nothing is lost.
        FlushRefused: Elasticsearch refused documents; all others are written.
    """
    started = time.monotonic()
    keys = batches = retries = 0
    refused: dict[WeekKey, str] = {}
    flushed: Counter[str] = Counter()
    for weeks in redis.dirty_weeks(batch):
        counts = dict(zip(weeks, redis.visitors(weeks)))
        retries += _write_weeks(counts, elasticsearch, refused)
        written = [week for week in counts if week not in refused]
        redis.visitors_written(written, [counts[week] for week in written])
        flushed.update(week for _, week in written)
        keys, batches = keys + len(written), batches + 1
        progress(keys)
    if refused:
        raise FlushRefused(refused)
    return FlushResult(keys, batches, 0, retries, 0.0, round(time.monotonic() - started, 3), dict(flushed))


def _write_weeks(counts: Mapping[WeekKey, int], elasticsearch: ElasticsearchStore, refused: dict[WeekKey, str]) -> int:
    index = elasticsearch.index(WEEKLY_VISITORS)
    if wrong := elasticsearch.refusing([index]):
        refused.update(dict.fromkeys(counts, wrong[index]))
        return 0
    by_place = {(index, f"{shop}:{week}"): (shop, week) for shop, week in counts}

    def decide(documents: Mapping[Place, Found | None]) -> dict[Place, bytes]:
        changed: dict[Place, bytes] = {}
        for place, document in documents.items():
            week = by_place[place]
            try:
                if (source := _week(week, counts[week], document)) is not None:
                    changed[place] = msgspec.json.encode(source)
            except Unreadable as error:
                refused[week] = str(error)
        return changed

    written = elasticsearch.update(by_place, decide)
    refused.update({by_place[place]: reason for place, reason in written.refused.items()})
    return written.rereads


def _week(key: WeekKey, visitors: int, document: Found | None) -> dict[str, Any] | None:
    """Return the document of a week; None if the existing one stays.

    A count never shrinks, so a higher stored count is newer. An exact count of a rebuild becomes an estimate again when
    another visitor is seen in the week.
    """
    shop, week = key
    if document is None and not visitors:
        # A rebuild found that no visitor counts.
        return None
    before = document.source if document else {}
    known = VISITED.read(document.id, before) if document else _Visited(exact=True)
    if not known.exact and known.visitors >= visitors:
        return None
    own = {"schema": SCHEMA, "shop_id": shop, "week": week, "visitors": max(known.visitors, visitors), "exact": False}
    return {**before, **own}
