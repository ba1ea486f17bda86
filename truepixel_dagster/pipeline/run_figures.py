"""The figures that a run of the stream reports, under stable keys that the exporter and the benchmarks read.

`jobs/run_report.py` adds labels to the same figures for people.
"""

from __future__ import annotations

import time

import msgspec

from truepixel_dagster.pipeline.run_metrics import RunMetrics, peak_memory


class RunFigures(msgspec.Struct, frozen=True):
    """Hold a run's figures.

    Names end in the unit. `lane_taken` and the other times are seconds since the epoch. `dead_letters` and
    `stage_seconds` are by stage; their `customer_waiting` is how long the lane waited for the pool to accept stage 4.
    `lost_to_retention` is by partition. The series have an entry for each micro-batch.
    """

    messages: int
    micro_batches: int
    messages_per_minute: int
    messages_left_waiting: int
    indexed: int
    duplicates: int
    replays: int
    redacted: int
    order_checked: int
    order_violations: int
    contiguity_checked: int
    contiguity_violations: int
    users_touched: int
    orders: int
    status_changes: int
    peak_memory_bytes: int
    lane_taken: float
    lane_given_back: float
    first_messages: float | None
    last_commit: float | None
    dead_letters: dict[str, int]
    lost_to_retention: dict[int, int]
    stage_seconds: dict[str, float]
    attribution_latencies_ms: list[float]
    freshness_ms: list[float]


def figures_of(metrics: RunMetrics) -> RunFigures:
    """Return the figures of a run that has done its work."""
    return RunFigures(
        messages=metrics.messages,
        micro_batches=metrics.batches,
        messages_per_minute=round(metrics.per_minute),
        messages_left_waiting=metrics.waiting,
        indexed=metrics.indexed,
        duplicates=metrics.duplicates,
        replays=metrics.redelivered,
        redacted=metrics.redacted,
        order_checked=metrics.order.checked,
        order_violations=metrics.order.violations,
        contiguity_checked=metrics.contiguity.checked,
        contiguity_violations=metrics.contiguity.violations,
        users_touched=metrics.touched,
        orders=metrics.orders,
        status_changes=metrics.statuses,
        peak_memory_bytes=peak_memory(),
        lane_taken=metrics.started,
        lane_given_back=metrics.ended or time.time(),
        first_messages=metrics.received,
        last_commit=metrics.committed,
        dead_letters=dict(sorted(metrics.dead_letters.items())),
        lost_to_retention=dict(sorted(metrics.lost.items())),
        stage_seconds={stage: round(seconds, 3) for stage, seconds in sorted(metrics.stage_seconds.items())},
        attribution_latencies_ms=[round(latency, 1) for latency in metrics.latencies],
        freshness_ms=[round(fresh) for fresh in metrics.freshness],
    )
