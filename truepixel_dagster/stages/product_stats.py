"""Stage 5: product statistics and weekly visitors, buffered in Redis until they are flushed.

One call applies a batch's increments and moves its partitions' applied offsets with them, so that a replayed event
counts once however the batches are cut.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from truepixel_dagster.events.event import Event
from truepixel_dagster.events.money import bounded_sum
from truepixel_dagster.events.origin import Origin
from truepixel_dagster.events.pixel import ADDED_TO_CART, CHECKOUT_STARTED, PRODUCT_VIEWED
from truepixel_dagster.events.shape import MAX_LINE_ITEMS
from truepixel_dagster.events.shop_time import ShopDays
from truepixel_dagster.stores.errors import Unavailable
from truepixel_dagster.stores.redis import NEVER_APPLIED, CounterKey, Increments, RedisStore, WeekKey

VIEWS, CARTS, CHECKOUTS, ORDERS, UNITS = "views", "carts", "checkouts", "orders", "units"
REVENUE = "revenue:"
# One call to Redis applies no more counters than this, while it answers nobody else.
COUNTERS_AT_ONCE = 20_000
_TRIES = 20


class Counting(NamedTuple):
    """By what events are counted: the shop's day and week of an event, and how many products of one event count."""

    day_of: Callable[[Event], str]
    week_of: Callable[[Event], str]
    products: int = MAX_LINE_ITEMS


IN_UTC = Counting(ShopDays().day, ShopDays().week)


def decide(
    events: Sequence[Event],
    counted: AbstractSet[Origin],
    applied: Mapping[int, int],
    counting: Counting = IN_UTC,
) -> tuple[Increments, int]:
    """What a batch adds, and how many of its events had not been applied.

    Arguments:
        events: The events that run on, each partition's in offset order.
        counted: The origins of the events that count an order.
        applied: The last applied offset of each partition.
        counting: By what events are counted.
    """
    counters: dict[CounterKey, dict[str, int]] = {}
    visitors: dict[WeekKey, set[str]] = {}
    upto = {event.origin.partition: applied[event.origin.partition] for event in events}
    new = [event for event in events if event.origin.offset > applied[event.origin.partition]]
    for event in new:
        upto[event.origin.partition] = max(upto[event.origin.partition], event.origin.offset)
        day = ""
        counts_order = event.origin in counted
        for product, field, amount in increments(event, counts_order=counts_order, products=counting.products):
            # Most events count no product.
            day = day or counting.day_of(event)
            counter = counters.setdefault((event.shop_id, product, day), {})
            counter[field] = bounded_sum(counter.get(field, 0), amount)
        if event.source == "pixel":
            visitors.setdefault((event.shop_id, counting.week_of(event)), set()).add(event.client_id)
    return Increments(counters, visitors, upto), len(new)


def increments(event: Event, *, counts_order: bool, products: int = MAX_LINE_ITEMS) -> Iterable[tuple[str, str, int]]:
    """What one event adds: product, field, amount. Of its products only so many of the first count."""
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
    elif counts_order:
        yield from ((product, ORDERS, 1) for product in dict.fromkeys(item.product_id for item in items))
        for item in items:
            yield item.product_id, UNITS, item.quantity
            if item.revenue:
                yield item.product_id, REVENUE + item.revenue.currency, item.revenue.amount


def run(events: Sequence[Event], counted: AbstractSet[Origin], store: RedisStore, counting: Counting = IN_UTC) -> int:
    """Apply a batch, in one call unless it has very many products; returns how many events had not been applied before.

    Raises:
        Unavailable: Redis does not answer.
    """
    return sum(_run(part, counted, store, counting) for part in _parts(events))


def _parts(events: Sequence[Event]) -> Iterator[Sequence[Event]]:
    """The events in order, cut where one call would apply too many counters."""
    start = size = 0
    for position, event in enumerate(events):
        own = len(event.product_ids)
        if size + own > COUNTERS_AT_ONCE and position > start:
            yield events[start:position]
            start, size = position, 0
        size += own
    if start < len(events):
        yield events[start:]


def _run(events: Sequence[Event], counted: AbstractSet[Origin], store: RedisStore, counting: Counting) -> int:
    partitions = sorted({event.origin.partition for event in events})
    for _ in range(_TRIES):
        applied = store.applied(partitions)
        new, count = decide(events, counted, applied, counting)
        if count == 0 or store.apply(new, applied):
            return count
    raise Unavailable(f"the applied offsets of partitions {partitions} kept changing: another worker is writing")


def replay(
    events: Sequence[Event], counted: AbstractSet[Origin], store: RedisStore, counting: Counting = IN_UTC
) -> None:
    """Apply events that the stream passed over: each once by its origin, whatever the applied offsets are.

    Raises:
        Unavailable: Redis does not answer.
    """
    never = NEVER_APPLIED
    for part in _parts(events):
        alone = {e.origin: decide([e], counted, {e.origin.partition: never}, counting)[0] for e in part}
        store.apply_once(alone)
