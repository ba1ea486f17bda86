"""Clear a backlog through the real sensor, daemon and run launcher."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from benchmarks.outcome import Outcome, Plot, median
from benchmarks.runs import RunFigures, all_reported
from benchmarks.servers import servers
from truepixel_dagster.audit.account import account
from truepixel_dagster.jobs.drain import drain
from truepixel_dagster.local.demo import dagster_dev, free_port, produce
from truepixel_dagster.local.traffic import FIRST
from truepixel_dagster.pipeline.run_metrics import percentile
from truepixel_dagster.provision import provision
from truepixel_dagster.settings import Settings
from truepixel_dagster.stages.stage import STAGES
from truepixel_dagster.stream.topics import lag

ROUNDS = 5
IN_LANES = "a lane a partition"
ONE_AFTER_THE_OTHER = ("fetch", *(stage.name for stage in STAGES if not stage.in_background), "commit", "finish")


@dataclass(frozen=True)
class Cleared:
    """Hold how a backlog was cleared: lag by second, runs, and the seconds from the first run's start to the end."""

    messages: int
    waiting: list[tuple[float, float]]
    runs: list[RunFigures]
    seconds: float

    @property
    def per_minute(self) -> float:
        """Return messages a minute, from the start of the first run until the last message is committed."""
        return 60 * self.messages / self.seconds


def clear(settings: Settings, messages: int, say: Callable[[str], None]) -> Cleared:
    """Fill the topic, start Dagster, and watch the lag until it is gone."""
    provision(settings)
    say(f"generating {messages:,} messages")
    produce(settings, messages, seed=5, profile=FIRST)
    waiting: list[tuple[float, float]] = []
    with dagster_dev(settings, free_port(0)):
        began = time.time()
        while (left := sum(entry.lag for entry in lag(settings.kafka()))) > 0:
            waiting.append((time.time() - began, float(left)))
            say(f"{left:,} messages wait")
            time.sleep(1)
        ended = time.time()
        runs = all_reported(settings, messages)
    waiting.append((ended - began, 0.0))
    return Cleared(messages, waiting, runs, ended - runs[0].started)


def warm_up(settings: Settings, messages: int) -> None:
    """Process messages before measuring: servers that have just started are still compiling their code."""
    cold = settings.model_copy(update={"namespace": "warm-up", "data_dir": settings.data_dir / "warm-up"})
    provision(cold)
    produce(cold, messages, seed=6, profile=FIRST)
    drain(cold, lambda _: None)


def run(quick: bool, say: Callable[[str], None]) -> Outcome:
    """Measure one lane in several rounds, and a lane for each partition once."""
    rounds, messages = (1, 100_000) if quick else (ROUNDS, 500_000)
    found: dict[str, dict[str, float]] = {}
    waiting: dict[str, list[tuple[float, float]]] = {}
    with servers(say) as base:
        say("warming the servers up")
        warm_up(base, 50_000 if quick else 400_000)
        for name, lanes in [*((f"round {n + 1}", 1) for n in range(rounds)), (IN_LANES, base.kafka_partitions)]:
            namespace = name.replace(" ", "-")
            update = {"namespace": namespace, "data_dir": base.data_dir / namespace, "lanes": lanes}
            own = base.model_copy(update=update)
            done = clear(own, messages, say)
            found[name] = figures(done, lanes) | {"lost": len(account(own).lost)}
            waiting[name] = done.waiting
            say(f"{name}: {found[name]['per_minute_overall']:,.0f} messages/min")
    return outcome(found, waiting, messages)


def outcome(
    found: dict[str, dict[str, float]], waiting: dict[str, list[tuple[float, float]]], messages: int
) -> Outcome:
    """Return the table, the figures and the plot."""
    one_lane = [each for name, each in found.items() if name != IN_LANES]
    # Not every round has waited in every stage.
    names = list(dict.fromkeys(figure for each in one_lane for figure in each))
    medians = {figure: median([each.get(figure, 0.0) for each in one_lane]) for figure in names}
    columns = {"one lane, median": medians, **found}
    return Outcome(
        title=f"backlog: {messages:,} messages through sensor, daemon and launcher",
        columns=["figure", *columns],
        rows=[
            [name.replace("_", " "), *(f"{each.get(name, 0.0):,.2f}" for each in columns.values())] for name in names
        ],
        figures={
            **{f"{name}_1": value for name, value in medians.items()},
            **{f"{name}_in_lanes": value for name, value in found[IN_LANES].items()},
        },
        plot=Plot("seconds", "messages that wait", waiting),
    )


def figures(done: Cleared, lanes: int) -> dict[str, float]:
    """Return the figures of a cleared backlog, from its full runs only."""
    most = max(run.messages for run in done.runs)
    full = [run for run in done.runs if run.messages >= 0.8 * most]
    latencies = [latency for run in full for latency in run.latencies]
    stages: Counter[str] = Counter()
    for run_ in full:
        stages.update(run_.stage_seconds)
    worked = sum(60 * run.messages / run.per_minute for run in full)
    by_lane = [
        sorted((run for run in done.runs if run.lane == lane), key=lambda run: run.taken) for lane in range(lanes)
    ]
    between = [later.taken - earlier.given_back for runs in by_lane for earlier, later in pairwise(runs)]
    return {
        "per_minute_inside_runs": lanes * median([run.per_minute for run in full]),
        "per_minute_overall": done.per_minute,
        "attribution_p50_ms": percentile(latencies, 50),
        "attribution_p95_ms": percentile(latencies, 95),
        "attribution_p99_ms": percentile(latencies, 99),
        "seconds_between_runs": median(between),
        "dagster_share": 1 - sum(stages[name] for name in ONE_AFTER_THE_OTHER) / worked,
        "peak_mib": max(run.peak_mib for run in done.runs),
        "runs": len(done.runs),
        **{f"{name},_ms_a_micro-batch": 1000 * value / len(latencies) for name, value in sorted(stages.items())},
    }
