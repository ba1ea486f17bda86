"""Chaos: a pipeline of its own under load, one fault after another, and then the audit.

Every round does one thing at a random moment and waits until everything that lay in Kafka by then is processed. At the
end the load stops, the pipeline settles, and the independent oracle says what the stores should hold.
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
from truepixel_dagster.local.chaos.pipeline import RECOVERY_SECONDS, ChaosFailed, Pipeline, until
from truepixel_dagster.local.chaos.report import Report, Round, judge, report
from truepixel_dagster.local.lock import alone
from truepixel_dagster.settings import Settings

Say = Callable[[str], None]
SETTLE_SECONDS = 600.0


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
        InUse: Another one is at work in the same folder.
        StackError: The servers do not start.
        ChaosFailed: The pipeline did not come to work at all.
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
        pipeline.stop_daemon()
        say("comparing the stores with the topic")
        verdicts = [*pipeline.verdicts, judge(pipeline.settings)]
        return report(seed, log, verdicts, days, time.monotonic() - started)


def fresh(base: Path, settings: Settings, say: Say) -> Pipeline:
    """A pipeline with nothing of an earlier one."""
    shutil.rmtree(base, ignore_errors=True)
    return Pipeline(base, settings, say)


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
