"""The collector's metrics for Prometheus. No label contains external text."""

from __future__ import annotations

import time
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from truepixel_dagster.collector.delivery import Delivery
from truepixel_dagster.collector.http import Room
from truepixel_dagster.collector.registry import Registry
from truepixel_dagster.collector.tokens import Tokens

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 4)
Found = tuple[str, str, float]


class Metrics:
    """Count requests and events, and report the current state."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._answers = Counter(
            "truepixel_collector_answers",
            "Requests answered, by endpoint and status.",
            ["endpoint", "status"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            "truepixel_collector_answer_seconds",
            "From a request's headers to its answer.",
            ["endpoint"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._events = Counter(
            "truepixel_collector_events",
            "Events by source and outcome.",
            ["source", "outcome"],
            registry=self.registry,
        )
        self._answered: dict[tuple[str, int], Counter] = {}
        self._counted: dict[tuple[str, str], Counter] = {}
        self._timed = {name: self._seconds.labels(name) for name in ("webhooks", "pixel", "pubsub", "eventbridge")}

    def answered(self, endpoint: str, status: int, seconds: float) -> None:
        """Count an answered request of an endpoint."""
        counter = self._answered.get((endpoint, status))
        if counter is None:
            counter = self._answered[endpoint, status] = self._answers.labels(endpoint, str(status))
        counter.inc()
        self._timed[endpoint].observe(seconds)

    def count(self, source: str, outcome: str, events: int = 1) -> None:
        """Count events of a source by their outcome: `promised`, `unsigned`, `refused` …"""
        if events:
            counter = self._counted.get((source, outcome))
            if counter is None:
                counter = self._counted[source, outcome] = self._events.labels(source, outcome)
            counter.inc(events)

    def text(self) -> bytes:
        """Return all metrics in Prometheus's text format."""
        return generate_latest(self.registry)


class State(Collector):
    """Report the current state of the collector."""

    def __init__(self, delivery: Delivery, registry: Registry, tokens: Tokens, room: Room) -> None:
        self._delivery = delivery
        self._registry = registry
        self._tokens = tokens
        self._room = room

    def collect(self) -> Iterable[Metric]:
        """Collect the metrics of one scrape."""
        for name, text, value in self._gauges():
            yield GaugeMetricFamily(f"truepixel_collector_{name}", text, value=value)
        for name, text, value in self._counters():
            yield CounterMetricFamily(f"truepixel_collector_{name}", text, value=value)

    def _gauges(self) -> list[Found]:
        delivery, journal = self._delivery, self._delivery.journal
        gauges: list[Found] = [
            ("underway_records", "Records in the queue of Kafka's client.", delivery.underway),
            (
                "kafka_slow",
                "Whether Kafka is unreachable or acknowledges late.",
                not delivery.topic or delivery.is_slow,
            ),
            ("takes", "Whether the collector can accept a record now.", delivery.takes),
            ("body_bytes", "Bytes of request bodies in memory.", self._room.used),
            ("shops_cached", "Names of shops in the cache.", self._registry.size),
            ("registry_away", "Whether the last query of MongoDB failed.", self._registry.trouble is not None),
        ]
        if journal is not None:
            held = journal.held
            age = max(0.0, time.time() - held.oldest) if held.oldest is not None else 0.0
            gauges += [
                ("journal_records", "Records in the journal.", held.records),
                ("journal_waiting_records", "Records that only the journal holds.", delivery.waiting),
                ("journal_bytes", "Bytes of records in the journal.", held.size),
                ("journal_max_bytes", "Capacity of the journal in bytes.", journal.most_bytes),
                ("journal_age_seconds", "Age of the oldest record in the journal.", age),
                ("journal_refused_records", "Records in the journal that Kafka will never accept.", held.refused),
                ("journal_failing", "Whether the journal's last commit failed.", bool(journal.failure)),
            ]
        return [(name, text, float(value)) for name, text, value in gauges]

    def _counters(self) -> list[Found]:
        return [
            ("acknowledged_records", "Records that Kafka has acknowledged.", float(self._delivery.acknowledged)),
            ("refused_records", "Records that Kafka has refused permanently.", float(self._delivery.refused)),
            ("redis_failures", "Calls to Redis that failed or timed out.", float(self._tokens.failures)),
        ]
