"""A backlog cleared through the real sensor, daemon and run launcher."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from benchmarks.outcome import Outcome, Plot, median
from benchmarks.runs import RunFigures, reported
from benchmarks.servers import servers
from truepixel_dagster.audit.account import account
from truepixel_dagster.jobs.tally import percentile
from truepixel_dagster.local.demo import dagster_dev, free_port, produce
from truepixel_dagster.provision import provision
from truepixel_dagster.settings import Settings
from truepixel_dagster.stream.topics import lag

ONE_AFTER_THE_OTHER = ("fetch", "index", "ad_lead", "attribution", "commit", "finish")


@dataclass(frozen=True)
class Cleared:
    """How a backlog was cleared: the lag by second, the runs, and the seconds from the first run's start to the end."""

    messages: int
    waiting: list[tuple[float, float]]
    runs: list[RunFigures]
    seconds: float

    @property
    def per_minute(self) -> float:
        """From the start of the first run until the last message is committed."""
        return 60 * self.messages / self.seconds


def clear(settings: Settings, messages: int, say: Callable[[str], None]) -> Cleared:
    """Fill the topic, start Dagster, and watch the lag until it is gone."""
    provision(settings)
    say(f"generating {messages:,} messages")
    produce(settings, messages, seed=5)
    waiting: list[tuple[float, float]] = []
    with dagster_dev(settings, free_port(0)):
        began = time.time()
        while (left := sum(entry.lag for entry in lag(settings))) > 0:
            waiting.append((time.time() - began, float(left)))
            say(f"{left:,} messages wait")
            time.sleep(1)
        ended = time.time()
        # The last run reports when it has been idle.
        time.sleep(15)
    runs = reported(settings)
    waiting.append((ended - began, 0.0))
    return Cleared(messages, waiting, runs, ended - runs[0].started)


def run(quick: bool, say: Callable[[str], None]) -> Outcome:
    """One lane, with what it did in its runs and between them."""
    with servers(say) as settings:
        done = clear(settings, 100_000 if quick else 500_000, say)
        lost = len(account(settings).lost)
    full = [run for run in done.runs if run.messages >= 0.8 * max(run.messages for run in done.runs)]
    latencies = [latency for run in full for latency in run.latencies]
    stages: Counter[str] = Counter()
    for run_ in full:
        stages.update(run_.stage_seconds)
    worked = sum(60 * run.messages / run.per_minute for run in full)
    figures = {
        "per_minute_inside_runs": median([run.per_minute for run in full]),
        "per_minute_overall": done.per_minute,
        "attribution_p50_ms": percentile(latencies, 50),
        "attribution_p95_ms": percentile(latencies, 95),
        "attribution_p99_ms": percentile(latencies, 99),
        "seconds_between_runs": median([later.taken - earlier.given_back for earlier, later in pairwise(done.runs)]),
        "dagster_share": 1 - sum(stages[name] for name in ONE_AFTER_THE_OTHER) / worked,
        "peak_mib": max(run.peak_mib for run in done.runs),
        "runs": len(done.runs),
        "lost": lost,
    }
    rows: list[list[object]] = [[name.replace("_", " "), round(value, 2)] for name, value in figures.items()]
    rows += [[f"{name}, ms a micro-batch", 1000 * seconds / len(latencies)] for name, seconds in sorted(stages.items())]
    return Outcome(
        title=f"backlog: {done.messages:,} messages through sensor, daemon and launcher",
        columns=["figure", "value"],
        rows=rows,
        figures=figures,
        plot=Plot("seconds", "messages that wait", {"lag": done.waiting}),
    )
