"""Export metrics from Kafka, Elasticsearch, MongoDB and Redis."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime, timezone

from prometheus_client.core import GaugeMetricFamily, Metric

from truepixel_dagster.events.event import iso
from truepixel_dagster.settings import Settings
from truepixel_dagster.stages.attribution_document import ATTRIBUTIONS
from truepixel_dagster.stores.elasticsearch import ElasticsearchStore
from truepixel_dagster.stores.mongodb import MongoStore
from truepixel_dagster.stores.redis import RedisStore
from truepixel_dagster.stream import reading, topics
from truepixel_dagster.stream.topics import PartitionLag

KINDS = ("buffer", "claim")
# A query of Redis reads at most this many pages of about this many keys; the next query continues.
PAGES, PAGE = 20, 1000
WAITING_SECONDS = 2.0
PLACE = ["partition", "lane"]


def gauge(name: str, says: str, value: float) -> GaugeMetricFamily:
    """Return a gauge without labels."""
    return GaugeMetricFamily(f"truepixel_{name}", says, value=value)


def kafka(settings: Settings) -> list[Metric]:
    """Return lag and waiting time of each partition, and the number of kept dead letters.

    Raises:
        KafkaError: Kafka does not answer, or has no such topic.
    """
    partitions = topics.lag(settings.kafka())
    written = reading.oldest_waiting(settings.kafka(), partitions, WAITING_SECONDS)
    now = time.time()
    low, high = topics.bounds(settings.kafka(), settings.dead_topic)
    letters = sum(high.values()) - sum(low.values())
    return [
        *positions(partitions, settings.lanes),
        *ages(partitions, written, settings.lanes, now),
        gauge("dead_letter_records", "Records in the topic of dead letters, reprocessed ones included.", letters),
    ]


def positions(partitions: Sequence[PartitionLag], lanes: int) -> list[Metric]:
    """Return offsets and lag by partition and lane."""
    lag = GaugeMetricFamily("truepixel_lag_messages", "Messages that wait, not committed yet.", labels=PLACE)
    end = GaugeMetricFamily("truepixel_end_offset", "The offset that the next message will have.", labels=PLACE)
    says = "The next offset to process, once one was committed."
    committed = GaugeMetricFamily("truepixel_committed_offset", says, labels=PLACE)
    for entry in partitions:
        place = [str(entry.partition), str(entry.partition % lanes)]
        lag.add_metric(place, entry.lag)
        end.add_metric(place, entry.high)
        if entry.committed is not None:
            committed.add_metric(place, entry.committed)
    return [lag, end, committed]


def ages(partitions: Sequence[PartitionLag], written: dict[int, int], lanes: int, now: float) -> list[Metric]:
    """Return how long the oldest message of each partition has waited; nothing if the message was not read in time."""
    age = GaugeMetricFamily(
        "truepixel_oldest_uncommitted_age_seconds",
        "Age of the oldest message that is not committed yet; 0 if none waits.",
        labels=PLACE,
    )
    for entry in partitions:
        place = [str(entry.partition), str(entry.partition % lanes)]
        if not entry.lag:
            age.add_metric(place, 0.0)
        elif entry.partition in written:
            age.add_metric(place, max(0.0, now - written[entry.partition] / 1000))
    return [age]


def elasticsearch(store: ElasticsearchStore) -> list[Metric]:
    """Return the age of the newest attribution; nothing without an attribution.

    Raises:
        Unavailable: Elasticsearch does not answer.
    """
    store.ping()
    now = time.time()
    # An order that a shop's wrong clock dates into the future would hide that no others arrive.
    newest = store.newest(ATTRIBUTIONS, "occurred_at", until=iso(int(now * 1000)))
    if newest is None:
        return []
    then = datetime.fromisoformat(newest.replace("Z", "+00:00")).astimezone(timezone.utc).timestamp()
    says = "Seconds since the newest attributed order was placed."
    return [gauge("newest_attribution_age_seconds", says, max(0.0, now - then))]


def mongodb(store: MongoStore) -> list[Metric]:
    """Return nothing; only check that it answers.

    Raises:
        Unavailable: MongoDB does not answer.
    """
    store.ping()
    return []


class Buffers:
    """Measure the counters that wait in Redis: page by page, in several queries if there are many keys."""

    def __init__(self, store: RedisStore) -> None:
        self._store = store
        self._passes = {kind: Pass() for kind in KINDS}

    def look(self) -> list[Metric]:
        """Return how many keys hold counters, and for how long the oldest has.

        Raises:
            Unavailable: Redis does not answer.
        """
        self._store.ping()
        keys = GaugeMetricFamily(
            "truepixel_buffered_keys", "Keys in Redis whose counters wait for the flush.", labels=["kind"]
        )
        age = GaugeMetricFamily(
            "truepixel_buffered_age_seconds",
            "How long the oldest counters have waited in Redis; 0 if none wait.",
            labels=["kind"],
        )
        for kind, going in self._passes.items():
            going.go_on(self._store, kind)
            keys.add_metric([kind], going.keys)
            age.add_metric([kind], going.age)
        return [keys, age]


class Pass:
    """Scan one kind of keys: the result is that of the last complete pass, or of the current one if it is greater."""

    def __init__(self) -> None:
        self._cursor = 0
        self._now = (0, 0.0)
        self._last = (0, 0.0)

    @property
    def keys(self) -> int:
        """Return the number of keys."""
        return max(self._now[0], self._last[0])

    @property
    def age(self) -> float:
        """Return how long the oldest key had waited when it was read, in seconds."""
        return max(self._now[1], self._last[1])

    def go_on(self, store: RedisStore, kind: str) -> None:
        """Read the next pages, at most to the end."""
        for _ in range(PAGES):
            self._cursor, since = store.counter_page(kind, self._cursor, PAGE)
            oldest = max((time.time() - at / 1000 for at in since), default=0.0)
            self._now = (self._now[0] + len(since), max(self._now[1], oldest))
            if self._cursor == 0:
                self._last, self._now = self._now, (0, 0.0)
                return
