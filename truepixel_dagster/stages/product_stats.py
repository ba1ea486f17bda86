"""Stage 5: product statistics and weekly visitors, buffered in Redis until they are flushed.

    >>> from truepixel_dagster.events.decode import decode
    >>> from truepixel_dagster.events.event import Message
    >>> from truepixel_dagster.events.origin import Origin
    >>> from truepixel_dagster.stages.product_stats import increments
    >>> viewed = b'{"productVariant": {"product": {"id": "7"}}}'
    >>> value = b'{"id": "e1", "name": "product_viewed", "clientId": "c", "data": ' + viewed + b"}"
    >>> list(increments(decode(Message(Origin("events", 0, 7), b"shop:c", value, timestamp=1_767_607_201_000))))
    [('7', 'views', 1)]

One call applies a batch's increments and advances its partitions' applied offsets, so that a redelivered event counts
once however micro-batches are cut. Stage 3 decides what a record changes in an order's counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from truepixel_dagster.events.event import Event
from truepixel_dagster.events.money import bounded_sum
from truepixel_dagster.events.origin import Origin
from truepixel_dagster.events.pixel_payload import ADDED_TO_CART, CHECKOUT_STARTED, PRODUCT_VIEWED
from truepixel_dagster.events.shape import LINES_PER_EVENT
from truepixel_dagster.orders.counts import Counted
from truepixel_dagster.stores.errors import Unavailable
from truepixel_dagster.stores.redis import NEVER_APPLIED, CounterKey, Increments, RedisStore, WeekKey

VIEWS, CARTS, CHECKOUTS = "views", "carts", "checkouts"
#: The names of the pixel events that count something.
COUNTED_NAMES = frozenset({PRODUCT_VIEWED, ADDED_TO_CART, CHECKOUT_STARTED})
# One call to Redis applies at most this many counters: meanwhile Redis answers no other client.
COUNTERS_AT_ONCE = 20_000
_TRIES = 20


class Counting(NamedTuple):
    """The rules of counting: the shop's day and week of an event, and how many products of one event count."""

    day_of: Callable[[Event], str]
    week_of: Callable[[Event], str]
    products: int = LINES_PER_EVENT


def decide(
    events: Sequence[Event],
    changes: Mapping[Origin, Counted],
    applied: Mapping[int, int],
    counting: Counting,
) -> tuple[Increments, int]:
    """Return the increments of a batch, and how many of its events had not been applied.

    Arguments:
        events: The events that continue, each partition's in offset order.
        changes: The changes of orders' counts, by origin of the record.
        applied: The last applied offset of each partition.
        counting: The rules of counting.
    """
    counters: dict[CounterKey, dict[str, int]] = {}
    visitors: dict[WeekKey, set[str]] = {}
    upto = {event.origin.partition: applied[event.origin.partition] for event in events}
    new = [event for event in events if event.origin.offset > applied[event.origin.partition]]
    for event in new:
        upto[event.origin.partition] = max(upto[event.origin.partition], event.origin.offset)
        for (product, day, field), amount in _all_of(event, changes, counting):
            counter = counters.setdefault((event.shop_id, product, day), {})
            counter[field] = bounded_sum(counter.get(field, 0), amount)
        if event.source == "pixel" and not event.bot and not event.anonymous:
            visitors.setdefault((event.shop_id, counting.week_of(event)), set()).add(event.client_id)
    return Increments(counters, visitors, upto), len(new)


def _all_of(
    event: Event, changes: Mapping[Origin, Counted], counting: Counting
) -> Iterator[tuple[tuple[str, str, str], int]]:
    yield from changes.get(event.origin, {}).items()
    if not event.bot and event.name in COUNTED_NAMES:
        day = counting.day_of(event)
        for product, field, amount in increments(event, counting.products):
            yield (product, day, field), amount


def increments(event: Event, products: int = LINES_PER_EVENT) -> Iterable[tuple[str, str, int]]:
    """Yield the increments of one pixel event: product, field, amount. Only its first `products` products count."""
    if event.bot:
        return
    if event.name == PRODUCT_VIEWED:
        yield from ((product, VIEWS, 1) for product in event.product_ids)
        return
    items = event.items
    if len(items) > products:
        first = set(list(dict.fromkeys(item.product_id for item in items))[:products])
        items = tuple(item for item in items if item.product_id in first)
    if event.name == ADDED_TO_CART:
        yield from ((item.product_id, CARTS, item.quantity) for item in items)
    elif event.name == CHECKOUT_STARTED:
        yield from ((product, CHECKOUTS, 1) for product in dict.fromkeys(item.product_id for item in items))


def run(events: Sequence[Event], changes: Mapping[Origin, Counted], store: RedisStore, counting: Counting) -> int:
    """Apply a batch, in one call unless it has very many products; return how many events had not been applied.

    Raises:
        Unavailable: Redis does not answer.
    """
    return sum(_run(part, changes, store, counting) for part in _parts(events, changes))


def _parts(events: Sequence[Event], changes: Mapping[Origin, Counted]) -> Iterator[Sequence[Event]]:
    """Yield the events in order, in parts that one call can apply."""
    start = size = 0
    for position, event in enumerate(events):
        own = len(event.product_ids) + len(changes.get(event.origin, ()))
        if size + own > COUNTERS_AT_ONCE and position > start:
            yield events[start:position]
            start, size = position, 0
        size += own
    if start < len(events):
        yield events[start:]


def _run(events: Sequence[Event], changes: Mapping[Origin, Counted], store: RedisStore, counting: Counting) -> int:
    partitions = sorted({event.origin.partition for event in events})
    for _ in range(_TRIES):
        applied = store.applied(partitions)
        new, count = decide(events, changes, applied, counting)
        if count == 0 or store.apply(new, applied):
            return count
    raise Unavailable(f"another worker kept changing the applied offsets of partitions {partitions} in Redis")


def replay(events: Sequence[Event], changes: Mapping[Origin, Counted], store: RedisStore, counting: Counting) -> None:
    """Apply reprocessed events: each once, by its origin, whatever the applied offsets are.

    Raises:
        Unavailable: Redis does not answer.
    """
    never = NEVER_APPLIED
    for part in _parts(events, changes):
        alone = {e.origin: decide([e], changes, {e.origin.partition: never}, counting)[0] for e in part}
        store.apply_once(alone)
