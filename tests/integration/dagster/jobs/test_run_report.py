"""A run's figures: a record with stable keys for machines, labels for people."""

from __future__ import annotations

from collections import Counter, defaultdict

import dagster as dg
import msgspec

from truepixel_dagster.exporter.totals import COUNTED, SERIES
from truepixel_dagster.jobs.run_report import FIGURES, FRESHNESS, LATENCIES, figures_in, observed
from truepixel_dagster.pipeline.run_figures import RunFigures, figures_of
from truepixel_dagster.pipeline.run_metrics import WAITING, RunMetrics

METRICS = RunMetrics(
    started=10.0,
    ended=20.0,
    committed=19.0,
    messages=100,
    latencies=[40.04, 60.0],
    freshness=[200.4],
    dead_letters=Counter(index=1, decode=2),
    lost=Counter({1: 5}),
    stage_seconds=defaultdict(float, {"index": 1.5, "customer": 0.25, f"customer{WAITING}": 0.125}),
)


def test_the_figures_come_back_as_they_were_reported() -> None:
    found = figures_in(observed(METRICS))
    assert found is not None
    assert msgspec.structs.replace(found, peak_memory_bytes=0) == msgspec.structs.replace(
        figures_of(METRICS), peak_memory_bytes=0
    )
    assert (found.messages_per_minute, found.lost_to_retention) == (600, {1: 5})


def test_an_observation_of_something_else_has_no_figures() -> None:
    assert figures_in(dg.AssetObservation("kafka_topic", metadata={"lag": 5})) is None


def test_people_read_labels() -> None:
    shown = {label: value.value for label, value in observed(METRICS).metadata.items() if label != FIGURES}
    assert (shown["messages"], shown["messages per minute"], shown["dead letters"]) == (100, 600, 3)
    assert (shown["dead letters of decode"], shown["lost to retention, partition 1"]) == (2, 5)
    assert (shown["index (s)"], shown["customer (s)"], shown["customer (waiting) (s)"]) == (1.5, 0.25, 0.125)
    assert (shown[LATENCIES], shown[FRESHNESS]) == ([40.0, 60.0], [200])
    assert (shown["lane taken"], shown["last commit"]) == (10.0, 19.0)
    assert "first messages" not in shown


def test_the_exporter_adds_up_figures_that_runs_report() -> None:
    assert {*COUNTED, *SERIES} <= set(RunFigures.__struct_fields__)
