"""Chaos: a pipeline of its own under load, one fault after another, and then the audit.

Every round does one thing at a random moment and waits until everything that lay in Kafka by then is processed. At the
end the load stops, the pipeline settles, and the independent oracle says what the stores should hold.
"""

from __future__ import annotations

import shutil
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta, timezone
from random import Random

import msgspec

from truepixel_dagster.audit.account import account
from truepixel_dagster.audit.audit import audit
from truepixel_dagster.audit.compare import Difference
from truepixel_dagster.local.chaos.faults import FAULTS
from truepixel_dagster.local.chaos.pipeline import RECOVERY_SECONDS, Pipeline
from truepixel_dagster.local.demo import producing
from truepixel_dagster.local.traffic import Record, traffic
from truepixel_dagster.settings import Settings

Say = Callable[[str], None]
SETTLE_SECONDS = 600.0
# How much faster than real time the visitors live, so that many of their orders fall into the load.
TIME_LAPSE = 60


class Round(msgspec.Struct, frozen=True):
    """One fault; `recovery_seconds` is None where the pipeline did not recover in time, or did not do what it should.

    `takeover_seconds` are those until another worker had the lane of a frozen one.
    """

    number: int
    kind: str
    what: str
    recovery_seconds: float | None
    takeover_seconds: float | None = None


class Report(msgspec.Struct, frozen=True):
    """What a run of chaos came to.

    `lost` counts records that are neither indexed nor a duplicate nor a dead letter, `doubled` counters above what they
    should be, `differences` everything that the audit found. Recovery is in seconds from the end of the fault, or of
    the operator's command that puts it right; where a worker is frozen, from when it was.
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
    takeover_seconds: dict[str, float]
    log: list[Round]
    examples: list[str]
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether nothing was lost, doubled or different, and every round recovered."""
        return not (self.lost or self.doubled or self.differences or self.not_recovered)


def plan(rounds: int, rng: Random, kinds: Sequence[str] = ()) -> list[str]:
    """The kinds of the rounds: each about as often as the others, in a random order.

    Arguments:
        rounds: How many.
        rng: Which of them come once more than others, and the order.
        kinds: Of these; of all by default.
    """
    names = list(kinds or FAULTS)
    planned = [*names * (rounds // len(names)), *rng.sample(names, rounds % len(names))]
    rng.shuffle(planned)
    return planned


def chaos(
    settings: Settings,
    say: Say,
    *,
    rounds: int,
    seed: int,
    rate: float,
    kinds: Sequence[str] = (),
    on_round: Callable[[int], None],
) -> Report:
    """Run the rounds on servers of their own, let the pipeline settle, and audit it.

    Arguments:
        settings: What to keep of the settings; addresses and data folder are chaos's own.
        say: Told in lines what happens.
        rounds: How many faults.
        seed: Which faults, in which order, and the traffic. Not their exact moments: those depend on the machine.
        rate: Events a second.
        kinds: Of `FAULTS`; all of them by default.
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
            for number, kind in enumerate(plan(rounds, rng, kinds), start=1):
                log.append(_round(pipeline, number, kind, rng))
                say(f"{number:3} {kind:16} {_recovered(log[-1])}  {log[-1].what}")
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
    try:
        hit = FAULTS[kind](pipeline, rng)
    except Exception as error:  # whatever it was, the rounds after it can still show something
        return Round(number, kind, f"{type(error).__name__}: {error}", None)
    recovered = pipeline.wait_until_processed(pipeline.high(), RECOVERY_SECONDS)
    seconds = round(time.monotonic() - hit.ended_at, 1) if recovered else None
    return Round(number, kind, hit.what, seconds, hit.takeover and round(hit.takeover, 1))


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
        takeover_seconds=_spread([entry.takeover_seconds for entry in log if entry.takeover_seconds is not None]),
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
    return {kind: _spread(values) for kind, values in sorted(by_kind.items())}


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": round(statistics.median(values), 1), "max": max(values)} if values else {}
