"""The generator: arrivals of visitors, and faults on the way to the topic (duplicates, malformed records)."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from heapq import heappop, heappush
from itertools import accumulate
from random import Random
from typing import Any

import msgspec

from truepixel_dagster.local.payloads.model import Shop, Visitor
from truepixel_dagster.local.payloads.text import EPOCH
from truepixel_dagster.local.traffic.chance import SECOND, happens, remember
from truepixel_dagster.local.traffic.journeys import crawl, journey, shop_update
from truepixel_dagster.local.traffic.malformed import broken
from truepixel_dagster.local.traffic.offline import offline_order
from truepixel_dagster.local.traffic.profile import DEFAULT, Profile
from truepixel_dagster.local.traffic.shops import shop_of
from truepixel_dagster.local.traffic.visitors import by_another_device, crawler_of, visitor_of
from truepixel_dagster.local.traffic.world import Journey, Placed, Record, World

DEFAULT_START = datetime(2026, 1, 5, tzinfo=timezone.utc)
DEFAULT_SPAN = timedelta(days=4)


def traffic(
    events: int,
    *,
    seed: int = 1,
    shops: int = 20,
    duplicates: float = 0.02,
    malformed: float = 0.005,
    start: datetime | None = None,
    span: timedelta = DEFAULT_SPAN,
    profile: Profile = DEFAULT,
    placed: list[Placed] | None = None,
) -> Iterator[Record]:
    """Generate records in order of arrival, one at a time; memory grows with the active visitors, not with `events`.

    Arguments:
        events: How many records to yield, duplicates and malformed ones included.
        seed: The same seed gives the same bytes.
        shops: How many shops there are; a few have most of the traffic.
        duplicates: The share of records that repeat an earlier one.
        malformed: The share of records that cannot be decoded.
        start: When the first visitors arrive, with a time zone; 2026-01-05 00:00 UTC by default.
        span: The time over which the records are spread.
        profile: How often each kind of thing happens.
        placed: Receives each placed order with its true values; memory grows with it.

    Raises:
        ValueError: A negative number of events, no shop, a share outside of 0 to 1, shares above 1 together, a start
            without time zone, or a span that is not positive.
    """
    start = start or DEFAULT_START
    if events < 0:
        raise ValueError("events must not be negative")
    if start.tzinfo is None or span <= timedelta(0):
        raise ValueError("start needs a time zone, and span must be positive")
    begin, length = to_millis(start - EPOCH), to_millis(span)
    clock = (begin + length * index // events for index in range(events))
    options: dict[str, Any] = {"duplicates": duplicates, "malformed": malformed, "profile": profile, "placed": placed}
    return traffic_at(clock, begin, seed=seed, shops=shops, **options)


def shops_of(seed: int, count: int, profile: Profile = DEFAULT) -> list[Shop]:
    """Return the shops of the traffic with these arguments, the busiest first."""
    return _shops(Random(seed), count, profile)


def _shops(rng: Random, count: int, profile: Profile) -> list[Shop]:
    return [shop_of(rng, profile, rank) for rank in range(count)]


def traffic_at(
    clock: Iterator[int],
    begin: int,
    *,
    seed: int = 1,
    shops: int = 20,
    duplicates: float = 0.02,
    malformed: float = 0.005,
    profile: Profile = DEFAULT,
    placed: list[Placed] | None = None,
) -> Iterator[Record]:
    """Generate a record for each time of a clock; see `traffic`.

    Arguments:
        clock: The times of the records, ascending, in milliseconds since the epoch.
        begin: The first of these times.
        seed: As in `traffic`, like the remaining arguments.
        shops: How many shops there are.
        duplicates: The share of records that repeat an earlier one.
        malformed: The share of records that cannot be decoded.
        profile: How often each kind of thing happens.
        placed: Receives each placed order.

    Raises:
        ValueError: No shop, a share outside of 0 to 1, or shares above 1 together.
    """
    if shops < 1:
        raise ValueError("there must be a shop")
    if min(duplicates, malformed) < 0 or duplicates + malformed > 1:
        raise ValueError("duplicates and malformed are shares: 0 to 1, and not above 1 together")
    world = World(Random(seed), profile, placed)
    arrivals = _Arrivals(world, _shops(world.rng, shops, profile), begin)
    return _with_faults(world, arrivals, clock, duplicates, malformed)


def to_millis(delta: timedelta) -> int:
    """Return a duration in milliseconds, rounded down."""
    return delta // timedelta(milliseconds=1)


def _with_faults(
    world: World, arrivals: _Arrivals, clock: Iterator[int], duplicates: float, malformed: float
) -> Iterator[Record]:
    rng = world.rng
    recent: list[Record] = []
    older: list[Record] = []
    at = 0
    for now in clock:
        chance = rng.random()
        if recent and chance < duplicates:
            again = rng.choice(older if rng.random() < 0.4 else recent)
            yield msgspec.structs.replace(again, at=at, kind="duplicate")
        elif recent and chance < duplicates + malformed:
            yield broken(rng, rng.choice(recent), at)
        else:
            record = arrivals.next(now)
            at = record.at
            remember(rng, recent, record, 50)
            if not older or rng.random() < 0.02:
                remember(rng, older, record, 500)
            yield record


class _Arrivals:
    """Hold the records and journeys in progress, in order of their times."""

    def __init__(self, world: World, shops: list[Shop], begin: int) -> None:
        self._world = world
        self._rng = world.rng
        self._shops = shops
        self._weights = list(accumulate(1 / (rank + 1) ** 1.1 for rank in range(len(shops))))
        self._due: list[tuple[int, int, Record | Journey]] = []
        self._known: list[Visitor] = []
        self._count = 0
        for rank, shop in enumerate(shops):
            # Choose evenly over the ranks: with a share of a fifth, the fifth shop, the tenth and so on.
            if int((rank + 1) * world.profile.shop_updates) > int(rank * world.profile.shop_updates):
                self._add(begin - 30 * SECOND, shop_update(world, shop, begin - 30 * SECOND))

    def next(self, now: int) -> Record:
        """Return the next record. If none is due, new visitors arrive."""
        if not self._due or self._due[0][0] > now:
            self._wave(now)
        while True:
            entry = heappop(self._due)[2]
            if isinstance(entry, Record):
                return entry
            self._continue(entry)
            # A journey may leave no record.
            if not self._due:
                self._wave(now)

    def _wave(self, now: int) -> None:
        """Add a wave of visitors. Waves make visits overlap, however few there are in a day."""
        begin = now - 30 * SECOND
        for _ in range(1 + int(self._rng.random() * 24)):
            self._add(begin, self._arrival(begin))
            begin += int(self._rng.random() * 20 * SECOND)

    def _arrival(self, at: int) -> Journey:
        """Return the journey of a visitor, known or new, of a crawler, or of a buyer without a browser."""
        rng, world, profile = self._rng, self._world, self._world.profile
        if happens(rng, profile.bots):
            return crawl(world, crawler_of(rng, self._some_shop()), at)
        chance = rng.random()
        if self._known and chance < profile.known:
            visitor = rng.choice(self._known)
            if happens(rng, profile.second_device):
                visitor = by_another_device(rng, visitor)
            return journey(world, visitor, at, shopper=True)
        shop = self._some_shop()
        if chance > 1 - profile.offline:
            return offline_order(world, shop, at, self._known)
        visitor = visitor_of(rng, profile, shop)
        shopper = rng.random() < profile.shoppers
        if shopper:
            remember(rng, self._known, visitor, 100)
        return journey(world, visitor, at, shopper=shopper)

    def _some_shop(self) -> Shop:
        return self._shops[bisect(self._weights, self._rng.random() * self._weights[-1])]

    def _continue(self, journey: Journey) -> None:
        deliveries, again = next(journey)
        for record in deliveries:
            self._add(record.at, record)
        if again is not None:
            self._add(again, journey)

    def _add(self, at: int, entry: Record | Journey) -> None:
        self._count += 1
        heappush(self._due, (at, self._count, entry))
