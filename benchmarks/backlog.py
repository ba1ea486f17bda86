"""A backlog cleared through the real sensor, daemon and run launcher."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from itertools import pairwise

from benchmarks.outcome import Outcome, Plot, median
from benchmarks.runs import reported
from benchmarks.servers import servers
from truepixel_dagster.audit.account import account
from truepixel_dagster.jobs.tally import percentile
from truepixel_dagster.local.demo import dagster_dev, free_port, produce
from truepixel_dagster.provision import provision
from truepixel_dagster.stream.topics import lag


def run(quick: bool, say: Callable[[str], None]) -> Outcome:
    """Fill the topic, start Dagster, and watch the lag until it is gone."""
    messages = 100_000 if quick else 500_000
    with servers(say) as settings:
        provision(settings)
        say(f"generating {messages:,} messages")
        produce(settings, messages, seed=5)
        waiting: list[tuple[float, float]] = []
        with dagster_dev(settings, free_port(0)):
            began = time.time()
            while (left := sum(entry.lag for entry in lag(settings))) > 0:
                waiting.append((time.time() - began, float(left)))
                say(f"{left:,} messages wait")
                time.sleep(2)
            ended = time.time()
            # The last run reports when it has been idle.
            time.sleep(8)
        runs = reported(settings)
        told = account(settings)
    started = next(at for at, left in waiting if left < messages) if waiting else 0.0
    overall = 60 * messages / (ended - runs[0].started)
    full = [run for run in runs if run.messages >= 0.9 * settings.slots_per_run * settings.batch_messages] or runs
    inside = median([run.per_minute for run in full])
    latencies = [latency for run in full for latency in run.latencies]
    stages: Counter[str] = Counter()
    for run_ in full:
        stages.update(run_.stage_seconds)
    batches = sum(len(run.latencies) for run in full)
    gaps = [later.started - earlier.ended for earlier, later in pairwise(runs)]
    in_stages = sum(stages[name] for name in ("fetch", "index", "ad_lead", "attribution", "commit", "finish"))
    worked = sum(60 * run.messages / run.per_minute for run in full)
    figures = {
        "per_minute_inside_runs": inside,
        "per_minute_overall": overall,
        "attribution_p50_ms": percentile(latencies, 50),
        "attribution_p95_ms": percentile(latencies, 95),
        "attribution_p99_ms": percentile(latencies, 99),
        "seconds_between_runs": median(gaps),
        "dagster_share": 1 - in_stages / worked if worked else 0.0,
        "peak_mib": max(run.peak_mib for run in runs),
        "runs": len(runs),
        "seconds_until_the_first_commit": started,
        "lost": len(told.lost),
    }
    rows: list[list[object]] = [[name.replace("_", " "), round(value, 2)] for name, value in figures.items()]
    rows += [[f"{name}, ms a micro-batch", 1000 * seconds / batches] for name, seconds in sorted(stages.items())]
    return Outcome(
        title=f"backlog: {messages:,} messages through sensor, daemon and launcher",
        columns=["figure", "value"],
        rows=rows,
        figures=figures,
        plot=Plot("seconds", "messages that wait", {"lag": waiting}),
    )
