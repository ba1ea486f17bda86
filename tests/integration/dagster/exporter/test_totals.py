"""Runs' reports are added up once each, on Dagster's own storage; a restart continues where the last process ended."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from prometheus_client import Metric, generate_latest
from prometheus_client.registry import Collector

from truepixel_dagster.events.event import Message
from truepixel_dagster.events.origin import Origin
from truepixel_dagster.exporter import totals
from truepixel_dagster.exporter.history import History, finished, sums
from truepixel_dagster.exporter.totals import Totals, advance, keep, load
from truepixel_dagster.jobs.run_report import FIGURES, observed
from truepixel_dagster.pipeline.invariants import CheckCounts
from truepixel_dagster.pipeline.run_metrics import RunMetrics
from truepixel_dagster.stream.micro_batch import MicroBatch

LATER = 60.0


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as made:
        yield made


def report(instance: dg.DagsterInstance, messages: int, **more: Any) -> None:
    metrics = RunMetrics(latencies=[40.0, 60.0], freshness=[200.0], dead_letters=Counter(decode=2, index=1), **more)
    metrics.fetched(MicroBatch(tuple(Message(Origin("t", 0, n), b"s:c", b"{}", (), 0) for n in range(messages))))
    metrics.stage_seconds["index"] += 1.5
    instance.report_runless_asset_event(observed(metrics))


def values(totals_: Totals) -> dict[tuple[str, ...], float]:
    return {(s.name, *s.labels.values()): s.value for metric in sums(totals_) for s in metric.samples}


def test_reports_are_added_up_once_and_a_restart_continues(instance: dg.DagsterInstance) -> None:
    report(instance, 10, order=CheckCounts(20, 1), contiguity=CheckCounts(10, 2))
    found = Totals()
    assert advance(instance, found, time.time() + LATER)
    assert not advance(instance, found, time.time() + LATER)
    keep(instance, "key", found)
    report(instance, 5)
    again = load(instance, "key")
    assert advance(instance, again, time.time() + LATER)
    now = values(again)
    assert now["truepixel_messages_total",] == 15
    assert now["truepixel_micro_batches_total",] == 2
    assert (now["truepixel_order_checked_total",], now["truepixel_order_violations_total",]) == (20, 1)
    assert (now["truepixel_contiguity_checked_total",], now["truepixel_contiguity_violations_total",]) == (10, 2)
    assert now["truepixel_dead_letters_total", "decode"] == 4
    assert now["truepixel_dead_letters_total", "customer"] == 0
    assert now["truepixel_stage_seconds_total", "index"] == 3
    assert now["truepixel_attribution_latency_seconds_bucket", "0.05"] == 2
    assert now["truepixel_attribution_latency_seconds_count",] == 4
    assert now["truepixel_attribution_latency_seconds_sum",] == pytest.approx(0.2)


def test_events_of_the_last_moment_wait_and_are_not_skipped(instance: dg.DagsterInstance) -> None:
    found = Totals()
    advance(instance, found, time.time() + LATER)
    report(instance, 3)
    advance(instance, found, time.time())
    assert found.counts.get("messages", 0) == 0
    advance(instance, found, time.time() + LATER)
    assert found.counts["messages"] == 3


def test_many_reports_take_several_calls(instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(totals, "AT_MOST", 2)
    found = Totals()
    report(instance, 1)
    advance(instance, found, time.time() + LATER)
    for _ in range(5):
        report(instance, 1)
    calls = 0
    while advance(instance, found, time.time() + LATER):
        calls += 1
    assert (calls, found.counts["messages"]) == (3, 6)


def test_only_the_newest_reports_before_the_first_scrape_count(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(totals, "AT_MOST", 2)
    for messages in (100, 10, 1):
        report(instance, messages)
    found = Totals()
    advance(instance, found, time.time() + LATER)
    assert found.counts["messages"] == 11


def test_an_interrupted_sum_restarts_at_the_stored_totals(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(totals, "SETTLED_SECONDS", -LATER)
    report(instance, 10)
    history = History(lambda: instance, "t")
    ended = totals._ended

    def breaks(*_: object) -> Iterator[str]:
        raise OSError("unreachable")

    monkeypatch.setattr(instance, "dispose", lambda: None)
    monkeypatch.setattr(totals, "_ended", breaks)
    with pytest.raises(OSError, match="unreachable"):
        history.look()
    monkeypatch.setattr(totals, "_ended", ended)
    seen = {sample.name: sample.value for metric in history.look() for sample in metric.samples}
    assert seen["truepixel_messages_total"] == 10


def test_foreign_reports_give_no_label_and_break_no_sum(instance: dg.DagsterInstance) -> None:
    """Whoever reaches Dagster's storage, or its webserver, may report on the topic as a run does."""
    evil: dict[str, Any] = {f"stage{number}": 1.0 for number in range(500)}
    evil |= {"a\n\x1b[31m{}": 1.0, "x" * 5000: 1.0, "index": float("nan"), "customer": "long"}
    figures: dict[str, Any] = {
        "micro_batches": "many",
        "messages": -5,
        "orders": float("inf"),
        "peak_memory_bytes": "x",
        "stage_seconds": evil,
        "dead_letters": {"\u202e": 1, "decode": []},
        "attribution_latencies_ms": ["x", None, 5],
        "freshness_ms": "no list",
    }
    for record in (figures, {"stage_seconds": [1], "dead_letters": None}, [1, 2]):
        metadata = {FIGURES: dg.JsonMetadataValue(record)}
        instance.report_runless_asset_event(dg.AssetObservation("kafka_topic", metadata=metadata))
    report(instance, 10)
    found = Totals()
    advance(instance, found, time.time() + LATER)
    for number in range(300):
        found.add_end(f"job{number}", "success")
    found.add_end("job\n{}", "success")
    shown = generate_latest(Once([*sums(found), finished(found, ["flush"])])).decode()
    assert shown.replace("\n", "").isprintable()
    assert len(shown.splitlines()) < 1000
    assert max(map(len, shown.splitlines())) < 250
    now = values(found)
    assert now["truepixel_messages_total",] == 10
    assert now["truepixel_stage_seconds_total", "other"] > 300
    assert all(re.fullmatch(r"[\w.+]*", label, re.ASCII) for _, *labels in now for label in labels)


class Once(Collector):
    """Metrics as they are, to be written as Prometheus reads them."""

    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> list[Metric]:
        return self._metrics
