"""Run chaos: a pipeline of its own under load, one fault after another, and then the audit.

Each round causes one fault at a random moment and waits until all records that are in Kafka by then are processed. At
the end the load stops, the pipeline processes the rest, and the audit compares the stores with the independent oracle.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from random import Random

from truepixel_dagster.local.chaos.days import days_not_shown
from truepixel_dagster.local.chaos.faults import FAULTS
from truepixel_dagster.local.chaos.load import Load, load
from truepixel_dagster.local.chaos.pipeline import Pipeline
from truepixel_dagster.local.chaos.report import Report, Round, judge, report
from truepixel_dagster.local.chaos.waiting import RECOVERY_SECONDS, ChaosFailed, until
from truepixel_dagster.local.lock import alone
from truepixel_dagster.settings import Settings

Say = Callable[[str], None]
SETTLE_SECONDS = 600.0


def plan(rounds: int, rng: Random, kinds: Sequence[str] = ()) -> list[str]:
    """Return the kinds of the rounds: each about as often as the others, in a random order.

    Arguments:
        rounds: The number of rounds.
        rng: Chooses the kinds that occur once more than others, and the order.
        kinds: The kinds; all by default.
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
    """Run the rounds on their own servers, let the pipeline process the rest, and audit it.

    Arguments:
        settings: Settings for everything but addresses and data folder, which are chaos's own.
        say: Receives lines about the progress.
        rounds: The number of faults.
        seed: Determines the faults, their order and the traffic, but not their moments, which depend on the machine.
        rate: Events per second.
        kinds: Names of `FAULTS`; all by default.
        on_round: Called with the number of completed rounds.

    Raises:
        InUse: Another chaos runs in the same folder.
        StackError: The servers do not start.
        ChaosFailed: The pipeline committed no micro-batch in time.
    """
    rng, started = Random(seed), time.monotonic()
    base = settings.data_dir / "chaos"
    log: list[Round] = []
    with alone(base.with_suffix(".lock")), fresh(base, settings, say) as pipeline:
        pipeline.load = Load(pipeline.settings, load(rate, seed), rate)
        with pipeline.load.on():
            pipeline.wait_for_work()
            for number, kind in enumerate(plan(rounds, rng, kinds), start=1):
                log.append(_round(pipeline, number, kind, rng))
                say(f"{number:3} {kind:19} {_recovered(log[-1])}  {log[-1].what}")
                on_round(number)
        say("the load has ended; waiting until everything is processed")
        pipeline.wait_until_processed(pipeline.high(), SETTLE_SECONDS)
        with suppress(ChaosFailed):
            until(lambda: not days_not_shown(pipeline.settings), RECOVERY_SECONDS, "every day to be shown")
        days = days_not_shown(pipeline.settings)
        pipeline.daemon.stop()
        say("comparing the stores with the topic")
        verdicts = [*pipeline.verdicts, judge(pipeline.settings)]
        return report(seed, log, verdicts, days, time.monotonic() - started)


def fresh(base: Path, settings: Settings, say: Say) -> Pipeline:
    """Remove an earlier pipeline's data and return a new pipeline."""
    shutil.rmtree(base, ignore_errors=True)
    return Pipeline(base, settings, say)


def _round(pipeline: Pipeline, number: int, kind: str, rng: Random) -> Round:
    time.sleep(rng.uniform(0, 3))
    try:
        hit = FAULTS[kind](pipeline, rng)
    except Exception as error:  # later rounds can still show something
        return Round(number, kind, f"{type(error).__name__}: {error}", None)
    recovered = pipeline.wait_until_processed(pipeline.high(), RECOVERY_SECONDS)
    seconds = round(time.monotonic() - hit.ended_at, 1) if recovered else None
    return Round(number, kind, hit.what, seconds, hit.takeover and round(hit.takeover, 1))


def _recovered(done: Round) -> str:
    return "not recovered" if done.recovery_seconds is None else f"{done.recovery_seconds:6.1f} s"
