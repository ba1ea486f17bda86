"""Chaos: a pipeline of its own under load, one fault after another, and then the audit.

Every round does one thing at a random moment and waits until everything that lay in Kafka by then is processed. At the
end the load stops, the pipeline settles, and the independent oracle says what the stores should hold.
"""

from __future__ import annotations

import shutil
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from random import Random
from typing import NamedTuple

import msgspec
import psutil

from truepixel_dagster.audit.account import account
from truepixel_dagster.audit.audit import audit
from truepixel_dagster.audit.compare import Difference
from truepixel_dagster.local.chaos.failpoints import FLUSH_POINTS, STAGE_POINTS
from truepixel_dagster.local.chaos.pipeline import Pipeline, until
from truepixel_dagster.local.demo import producing
from truepixel_dagster.local.traffic import Record, traffic
from truepixel_dagster.settings import Settings

Say = Callable[[str], None]
# A lane is taken over within a minute; a growing pause after a failure may come on top.
RECOVERY_SECONDS = 180.0
SETTLE_SECONDS = 600.0
# How much faster than real time the visitors live, so that many of their orders fall into the load.
TIME_LAPSE = 60


class Round(msgspec.Struct, frozen=True):
    """One fault; `recovery_seconds` is None where the pipeline did not recover in time."""

    number: int
    kind: str
    what: str
    recovery_seconds: float | None


class Report(msgspec.Struct, frozen=True):
    """What a run of chaos came to.

    `lost` counts records that are neither indexed nor a duplicate nor a dead letter, `doubled` counters above what they
    should be, `differences` everything that the audit found. Recovery is in seconds from the fault.
    """

    rounds: int
    seed: int
    kinds: dict[str, int]
    produced: int
    indexed: int
    duplicates: int
    dead_letters: int
    lost: int
    doubled: int
    differences: int
    not_recovered: int
    recovery_seconds: dict[str, dict[str, float]]
    log: list[Round]
    examples: list[str]
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether nothing was lost, doubled or different, and every round recovered."""
        return not (self.lost or self.doubled or self.differences or self.not_recovered)


class Hit(NamedTuple):
    """What a fault did, and when it hit (monotonic seconds)."""

    what: str
    at: float


Fault = Callable[[Pipeline, Random], Hit]


def kill_worker(pipeline: Pipeline, rng: Random) -> Hit:
    """SIGKILL to the worker, wherever it is."""
    pipeline.kill_worker(rng)
    return Hit("worker killed", time.monotonic())


def kill_worker_at_stage(pipeline: Pipeline, rng: Random) -> Hit:
    """SIGKILL to the worker exactly at the boundary of a stage."""
    point = pipeline.next_of("stage", STAGE_POINTS, rng)
    pipeline.kill_at(point)
    return Hit(f"worker killed {point}", time.monotonic())


def kill_flush(pipeline: Pipeline, rng: Random) -> Hit:
    """SIGKILL to a flush between two of its steps; it counts as recovered when no claim is open any more."""
    point = pipeline.next_of("flush", FLUSH_POINTS, rng)
    pipeline.kill_at(point)
    at = time.monotonic()
    until(lambda: not pipeline.open_claims(), RECOVERY_SECONDS, "the end of the interrupted claims")
    return Hit(f"flush killed {point}", at)


def kill_daemon(pipeline: Pipeline, rng: Random) -> Hit:
    """SIGKILL to Dagster's daemon, which is started again after a while."""
    at, pause = time.monotonic(), rng.uniform(0, 5)
    pipeline.kill_daemon()
    time.sleep(pause)
    pipeline.start_daemon()
    return Hit(f"daemon killed, started again after {pause:.1f} s", at)


def freeze_worker(pipeline: Pipeline, rng: Random) -> Hit:
    """SIGSTOP to a worker that has the lane until another one has it, then SIGCONT; the first has to end by itself."""
    time.sleep(rng.uniform(0, 1))
    worker, owner = pipeline.freeze_owner()
    at = time.monotonic()
    try:
        until(lambda: pipeline.owner() not in (None, owner), RECOVERY_SECONDS, "another owner of the frozen one's lane")
        taken = time.monotonic() - at
        pipeline.wait_until_processed(pipeline.high(), RECOVERY_SECONDS)
    finally:
        with suppress(psutil.NoSuchProcess):
            worker.resume()
    until(lambda: not worker.is_running(), RECOVERY_SECONDS, f"the end of the worker {worker.pid} that lost its lane")
    return Hit(f"worker frozen until its lane was taken over, after {taken:.1f} s, and woken up", at)


def kill_server(name: str) -> Fault:
    """SIGKILL to a server, which is started again after a while."""

    def fault(pipeline: Pipeline, rng: Random) -> Hit:
        at, pause = time.monotonic(), rng.uniform(0.5, 6)
        pipeline.kill_server(name)
        time.sleep(pause)
        pipeline.start_servers()
        return Hit(f"{name} killed, started again after {pause:.1f} s", at)

    return fault


def bad_connection(pipeline: Pipeline, rng: Random) -> Hit:
    """The connections to a server are cut, or held back, for a while."""
    name = pipeline.next_of("connection", sorted(pipeline.proxies), rng)
    proxy, seconds, cut = pipeline.proxies[name], rng.uniform(2, 8), rng.random() < 0.5
    at = time.monotonic()
    try:
        proxy.cut() if cut else proxy.delay(rng.uniform(0.2, 1.5))
        time.sleep(seconds)
    finally:
        proxy.heal()
    return Hit(f"connections to {name} {'cut' if cut else 'slow'} for {seconds:.1f} s", at)


FAULTS: Mapping[str, Fault] = {
    "worker": kill_worker,
    "stage": kill_worker_at_stage,
    "freeze": freeze_worker,
    "daemon": kill_daemon,
    "kafka": kill_server("kafka"),
    "elasticsearch": kill_server("elasticsearch"),
    "mongodb": kill_server("mongodb"),
    "redis": kill_server("redis"),
    "connection": bad_connection,
    "flush": kill_flush,
}


def plan(rounds: int, rng: Random) -> list[str]:
    """The kinds of the rounds: each about as often as the others, in a random order."""
    kinds = [kind for _ in range(-(-rounds // len(FAULTS))) for kind in FAULTS][:rounds]
    rng.shuffle(kinds)
    return kinds


def chaos(
    settings: Settings, say: Say, *, rounds: int, seed: int, rate: float, on_round: Callable[[int], None]
) -> Report:
    """Run the rounds on servers of their own, let the pipeline settle, and audit it.

    Arguments:
        settings: What to keep of the settings; addresses and data folder are chaos's own.
        say: Told in lines what happens.
        rounds: How many faults.
        seed: Which faults, in which order, and the traffic. Not their exact moments: those depend on the machine.
        rate: Events a second.
        on_round: Told the number of rounds done.

    Raises:
        StackError: The servers do not start.
        ChaosFailed: The pipeline did not come to work at all.
    """
    rng, started = Random(seed), time.monotonic()
    base = settings.data_dir / "chaos"
    shutil.rmtree(base, ignore_errors=True)
    log: list[Round] = []
    with Pipeline(base, settings, say) as pipeline:
        with producing(pipeline.settings, load(rate, seed), rate):
            pipeline.wait_for_work()
            for number, kind in enumerate(plan(rounds, rng), start=1):
                log.append(_round(pipeline, number, kind, rng))
                say(f"{number:3} {kind:13} {_recovered(log[-1])}  {log[-1].what}")
                on_round(number)
        say("the load has ended; waiting until everything is processed")
        pipeline.wait_until_processed(pipeline.high(), SETTLE_SECONDS)
        pipeline.stop_daemon()
        return _judge(pipeline.settings, seed, log, started, say)


def load(rate: float, seed: int) -> Iterator[Record]:
    """More traffic than any run needs, at a rate (events a second) and in time-lapse."""
    events = 2_000_000
    span = timedelta(seconds=TIME_LAPSE * events / rate)
    return traffic(events, seed=seed, start=datetime.now(timezone.utc) - span, span=span)


def _round(pipeline: Pipeline, number: int, kind: str, rng: Random) -> Round:
    time.sleep(rng.uniform(0, 3))
    hit = FAULTS[kind](pipeline, rng)
    recovered = pipeline.wait_until_processed(pipeline.high(), RECOVERY_SECONDS)
    return Round(number, kind, hit.what, round(time.monotonic() - hit.at, 1) if recovered else None)


def _recovered(done: Round) -> str:
    return "not recovered" if done.recovery_seconds is None else f"{done.recovery_seconds:6.1f} s"


def _judge(settings: Settings, seed: int, log: Sequence[Round], started: float, say: Say) -> Report:
    say("comparing the stores with what the topic says they should hold")
    found, counts = audit(settings), account(settings)
    return Report(
        rounds=len(log),
        seed=seed,
        kinds=dict(sorted(Counter(entry.kind for entry in log).items())),
        produced=counts.produced,
        indexed=counts.indexed,
        duplicates=counts.duplicates,
        dead_letters=counts.dead_letters,
        lost=len(counts.lost),
        doubled=sum(map(is_doubled, found.differences)),
        differences=len(found.differences),
        not_recovered=sum(entry.recovery_seconds is None for entry in log),
        recovery_seconds=_recovery(log),
        log=list(log),
        examples=[str(difference) for difference in found.differences[:50]],
        seconds=round(time.monotonic() - started, 1),
    )


def is_doubled(difference: Difference) -> bool:
    """Whether a counter is above what it should be."""
    numbers = (difference.actual, difference.expected)
    if difference.store not in ("customers", "product_stats") or difference.kind != "differs":
        return False
    actual, expected = (number or 0 for number in numbers)
    return isinstance(actual, int) and isinstance(expected, int) and actual > expected


def _recovery(log: Sequence[Round]) -> dict[str, dict[str, float]]:
    """Median and longest recovery, by kind and over all."""
    by_kind: dict[str, list[float]] = {}
    for entry in log:
        if entry.recovery_seconds is not None:
            by_kind.setdefault(entry.kind, []).append(entry.recovery_seconds)
            by_kind.setdefault("all", []).append(entry.recovery_seconds)
    return {
        kind: {"median": round(statistics.median(values), 1), "max": max(values)}
        for kind, values in sorted(by_kind.items())
    }
