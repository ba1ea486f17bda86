"""Shared by the peers: run the five stages by the pipeline's own functions, and report a drain.

Runs in the peers' virtual environment, without Dagster.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from truepixel_dagster.dead_letters.topic import DeadLetters
from truepixel_dagster.events.decode import Undecodable, decode
from truepixel_dagster.events.event import Event, Message
from truepixel_dagster.events.origin import Origin
from truepixel_dagster.events.shop_time import ShopDays
from truepixel_dagster.orders.counts import Counted
from truepixel_dagster.pipeline.run_metrics import peak_memory
from truepixel_dagster.resources import Stores
from truepixel_dagster.settings import Settings
from truepixel_dagster.stages import ad_lead, attribution, customer, index, product_stats
from truepixel_dagster.stages.product_stats import Counting
from truepixel_dagster.stages.refused import Refused
from truepixel_dagster.stages.settling import rules_of, settling, with_visits
from truepixel_dagster.stores.redis import RedisStore
from truepixel_dagster.stream.micro_batch import group_by_user

Count = Callable[[Sequence[Event], Mapping[Origin, Counted], RedisStore, Counting], Any]


class Stages:
    """Run the five stages one after the other, each with one store call (or a read and a write) for all given messages.

    Arguments:
        settings: The pipeline's settings.
        stores: The stores of the documents.
        letters: The topic of dead letters for undecodable messages; the caller flushes it before a commit.
        count: Runs stage 5, guarded by its partitions' offsets, or by record if records arrive in any order.
    """

    def __init__(
        self, settings: Settings, stores: Stores, letters: DeadLetters, count: Count = product_stats.run
    ) -> None:
        self._stores = stores
        self._letters = letters
        self._count = count
        self._kept = settings.touches_kept
        self._repeat = int(settings.touch_repeat * 1000)
        self._rules = rules_of(settings)
        self._days = ShopDays()
        self._counting = Counting(self._days.day, self._days.week, settings.products_per_event)

    def run(self, messages: Sequence[Message]) -> None:
        """Pass messages through all stages; each user's events must be in the order of their offsets."""
        self.handle(self.decode(messages))

    def decode(self, messages: Sequence[Message]) -> list[Event]:
        """Return the events of messages; undecodable ones become dead letters. Not thread-safe."""
        decoded = [decode(message) for message in messages]
        for item in decoded:
            if isinstance(item, Undecodable):
                self._letters.send(item.message, error=item.reason, stage="decode")
        return [item for item in decoded if isinstance(item, Event)]

    def handle(self, decoded: Sequence[Event]) -> None:
        """Pass events through all stages.

        Raises:
            RuntimeError: A store rejected a document, which never happens with the benchmark's traffic.
        """
        elasticsearch, mongodb, redis = self._stores
        indexed = index.run(decoded, elasticsearch)
        events, users = indexed.events, group_by_user(indexed.events)
        leads = ad_lead.run(users, mongodb, kept=self._kept, repeat=self._repeat)
        applied = redis.known_applied()
        by = settling(self._rules, leads.touches, self._days, lambda p, offset: offset <= applied.get(p, -1))
        found = attribution.run(with_visits(events, leads.orders), by, mongodb, elasticsearch)
        refused = customer.run(users, found.users, mongodb)
        self._count(events, found.changes, redis, self._counting)
        _none((*indexed.refused, *leads.refused, *found.refused, *refused.own, *refused.of_orders))


def _none(refused: Sequence[Refused]) -> None:
    if refused:
        raise RuntimeError(f"{len(refused)} events were refused, such as: {refused[0].reason}")


class Stopwatch:
    """Measure time from the first message that a peer receives."""

    def __init__(self) -> None:
        self._began: float | None = None

    def received(self) -> None:
        """Note a received message; only the first one counts."""
        if self._began is None:
            self._began = time.perf_counter()

    def report(self, messages: int) -> None:
        """Print the figures of a drain as one line of JSON; call it right after the last commit."""
        ended = time.perf_counter()
        seconds = ended - (ended if self._began is None else self._began)
        figures = {
            "messages": messages,
            "per_minute": 60 * messages / max(seconds, 1e-9),
            "peak_mib": peak_memory() / 2**20,
        }
        sys.stdout.write(json.dumps(figures) + "\n")
        sys.stdout.flush()
