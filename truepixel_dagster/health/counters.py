"""Check that the counters of a day match the event history, and that the flush keeps up."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping

from truepixel_dagster.flush import PRODUCT_STATS, counters_of, place_of
from truepixel_dagster.health.verdict import EXAMPLES, Verdict, verdict
from truepixel_dagster.rebuild.context import RebuildContext
from truepixel_dagster.rebuild.history import all_of
from truepixel_dagster.resources import Stores
from truepixel_dagster.settings import Settings
from truepixel_dagster.stores.redis import CounterKey
from truepixel_dagster.text import code

LOOKS = 5
Counters = dict[str, int]


def sample(context: RebuildContext, seed: int | None = None) -> tuple[str, str] | None:
    """Return a random shop and day with product statistics whose events are kept; None if there is none.

    Raises:
        Unavailable: Elasticsearch does not answer.
    """
    elasticsearch = context.stores.elasticsearch
    elasticsearch.refresh()
    kept = {"range": {"day": {"gte": context.first_day.isoformat()}}}
    rng = random.Random(seed)  # noqa: S311 (a sample, no secret)
    found = None
    for count, hit in enumerate(elasticsearch.scan(f"{PRODUCT_STATS}-", kept, fields=["shop_id", "day"]), start=1):
        if rng.randrange(count) == 0:
            found = (hit["_source"]["shop_id"], hit["_source"]["day"])
    return found


def counters_match(context: RebuildContext, sampled: tuple[str, str] | None, pause: float = 1.0) -> Verdict:
    """Compare documents and buffered counters of a shop's day with the event history, up to the applied offsets.

    The stream and flushes continue meanwhile, so only a difference in each of five comparisons is wrong.

    Arguments:
        context: The settings, stores and history.
        sampled: Shop and day; None if there is nothing to compare.
        pause: Seconds between two comparisons.

    Raises:
        KafkaUnavailable, Unavailable: A server does not answer.
    """
    if sampled is None:
        return verdict("", "", products=0)
    shop, day = sampled
    differing: list[str] = []
    products = 0
    for look in range(LOOKS):
        if look:
            time.sleep(pause)
        expected, actual = _look(context, shop, day)
        products = len(expected)
        differing = sorted(key[1] for key in expected.keys() | actual.keys() if expected.get(key) != actual.get(key))
        if not differing:
            break
    examples = differing[:EXAMPLES]
    wrong = (
        f"{len(differing)} products of shop {code(shop)} on {day} differ from the history, such as"
        f" {', '.join(map(code, examples[:3]))}"
    )
    advice = f"Materialize product_stats for {day}: it replaces them by the totals of the history"
    return verdict(
        wrong if differing else "",
        advice,
        shop=shop,
        day=day,
        products=products,
        differing=len(differing),
        examples=examples,
    )


def _look(
    context: RebuildContext, shop: str, day: str
) -> tuple[dict[CounterKey, Counters], dict[CounterKey, Counters]]:
    """Return the counts of the history, and those of documents, claims and buffers; without empty products."""
    from truepixel_dagster.rebuild.product_stats import totals_of

    applied = context.stores.redis.applied_now()
    context.history.refresh()
    expected = {key: _some(own) for key, own in totals_of(context, shop, day, applied).items()}
    elasticsearch, redis = context.stores.elasticsearch, context.stores.redis
    hits = elasticsearch.scan(
        f"{PRODUCT_STATS}-{day[:4]}.{day[5:7]}", all_of({"term": {"shop_id": shop}}, {"term": {"day": day}})
    )
    keys = {(shop, hit["_source"]["product_id"], day) for hit in hits} | expected.keys()
    for kind in ("claim", "buffer"):
        for found in redis.counter_keys(kind, 1000):
            keys.update(key for key in found if (key[0], key[2]) == (shop, day))
    wanted = sorted(keys)
    documents = elasticsearch.mget([place_of(key, elasticsearch) for key in wanted])
    actual: dict[CounterKey, Counters] = {}
    for key, document, (buffer, claim) in zip(wanted, documents, redis.peek(wanted)):
        source = document.source if document else {}
        counted = counters_of(source)
        open_claim = claim if claim and claim.token != source.get("last_token") else None
        for more in (buffer, open_claim):
            for field, amount in (more.counters if more else {}).items():
                counted[field] = counted.get(field, 0) + amount
        actual[key] = _some(counted)
    return {k: own for k, own in expected.items() if own}, {k: own for k, own in actual.items() if own}


def _some(counters: Mapping[str, int]) -> Counters:
    return {field: amount for field, amount in counters.items() if amount}


def buffer_age(settings: Settings, stores: Stores, now: float) -> Verdict:
    """Check for counters that wait in Redis for longer than the setting allows, buffered or in an open claim.

    Arguments:
        settings: `alert_buffer`, in seconds.
        stores: The stores; Redis is read.
        now: Seconds since the epoch.

    Raises:
        Unavailable: Redis does not answer.
    """
    counts = {"buffer": 0, "claim": 0}
    oldest = now
    for kind in counts:
        for keys in stores.redis.counter_keys(kind, 1000):
            counts[kind] += len(keys)
            waiting = [held for pair in stores.redis.peek(keys) for held in pair if held and held.since]
            oldest = min([oldest, *(held.since / 1000 for held in waiting)])
    age = round(now - oldest, 1)
    wrong = f"counters have waited in Redis for {age:.0f} s" if age > settings.alert_buffer else ""
    advice = (
        "Check that the schedule flush_every_minute is on, and the last run of the job flush. `truepixel flush` flushes"
        " now"
    )
    return verdict(wrong, advice, oldest_seconds=age, buffered=counts["buffer"], open_claims=counts["claim"])
