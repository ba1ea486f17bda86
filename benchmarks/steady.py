"""Measure freshness under steady traffic: from a message's arrival in Kafka until its attribution is acknowledged.

Through the real sensor, daemon and launcher, at three rates one after the other. A micro-batch counts with its oldest
message, so that the figures are upper bounds. The first run of each rate is the warm-up: it starts on an idle lane.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone

from benchmarks.outcome import Outcome, Plot
from benchmarks.runs import reported
from benchmarks.servers import servers
from truepixel_dagster.local.demo import dagster_dev, free_port, producing
from truepixel_dagster.local.traffic import FIRST, Record, traffic
from truepixel_dagster.pipeline.run_metrics import percentile
from truepixel_dagster.provision import provision
from truepixel_dagster.settings import Settings
from truepixel_dagster.stream.topics import lag

RATES = (10_000, 50_000, 100_000)


def live(per_minute: int) -> Iterator[Record]:
    """Return more traffic than is needed, from now on."""
    span = timedelta(hours=1)
    start = datetime.now(timezone.utc)
    return traffic(per_minute * 60, seed=per_minute, shops=20, start=start, span=span, profile=FIRST)


def one_rate(settings: Settings, per_minute: int, seconds: float) -> list[tuple[float, float]]:
    """Send at a rate, and wait until everything is processed; return the lag by second."""
    points, began = [], time.monotonic()
    with producing(settings, live(per_minute), per_minute / 60):
        while (at := time.monotonic() - began) < seconds:
            points.append((at, float(sum(entry.lag for entry in lag(settings.kafka())))))
            time.sleep(1)
    while sum(entry.lag for entry in lag(settings.kafka())):
        time.sleep(1)
    # The last run ends when it has been idle, and then reports; its standby run does the same.
    time.sleep(20)
    return points


def run(quick: bool, say: Callable[[str], None]) -> Outcome:
    """Measure each rate."""
    seconds = 90.0 if quick else 300.0
    lines: dict[str, list[tuple[float, float]]] = {}
    rows: list[list[object]] = []
    figures: dict[str, float] = {}
    with servers(say) as settings:
        provision(settings)
        with dagster_dev(settings, free_port(0)):
            for rate in RATES:
                say(f"{rate:,} messages a minute for {seconds:.0f} s")
                began = time.time()
                lines[f"{rate:,}/min"] = one_rate(settings, rate, seconds)
                runs = [run for run in reported(settings) if run.started > began and run.messages][1:]
                fresh = [value / 1000 for run in runs for value in run.freshness]
                worst = max(y for _, y in lines[f"{rate:,}/min"])
                p50, p95, p99 = (percentile(fresh, percent) for percent in (50, 95, 99))
                rows.append([f"{rate:,}", len(runs), *(f"{p:.2f}" for p in (p50, p95, p99)), f"{worst:,.0f}"])
                figures |= {f"freshness_p50_s_{rate}": p50, f"freshness_p95_s_{rate}": p95}
                figures |= {f"freshness_p99_s_{rate}": p99, f"most_lag_{rate}": worst}
    return Outcome(
        title="steady: seconds from Kafka to the acknowledged attribution, the oldest message of each micro-batch",
        columns=["messages a minute", "runs", "p50, s", "p95, s", "p99, s", "most lag"],
        rows=rows,
        figures=figures,
        plot=Plot("seconds", "messages that wait", lines),
    )
