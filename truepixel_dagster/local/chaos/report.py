"""The result of chaos: the audit's findings, and how long the pipeline took to recover."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence

import msgspec

from truepixel_dagster.audit.account import account
from truepixel_dagster.audit.audit import audit
from truepixel_dagster.audit.compare import Difference
from truepixel_dagster.settings import Settings

MOST_EXAMPLES = 50


class Round(msgspec.Struct, frozen=True):
    """One fault. `recovery_seconds` is None if the pipeline did not recover in time, or the round failed.

    `takeover_seconds` is the time until another worker had the lane of a frozen one.
    """

    number: int
    kind: str
    what: str
    recovery_seconds: float | None
    takeover_seconds: float | None = None


class Verdict(msgspec.Struct, frozen=True):
    """The audit's findings in one log of the topic, or the findings of a round's clients of the collector."""

    produced: int
    duplicates: int
    indexed: int
    dead_letters: int
    lost: list[str]
    differences: list[Difference]
    excused: int = 0
    lost_to_retention: int = 0
    promised: int = 0


class Report(msgspec.Struct, frozen=True):
    """The result of chaos.

    `lost` counts records that are neither indexed nor a duplicate nor a dead letter, and records that the collector
    promised but that are not on the topic; `promised` counts all of its promises. `doubled` counts counters above their
    right value. `differences` counts everything that the audit found, and promised records that are altered or out of
    order. `days_not_shown` are the days with events that no run reported to Dagster. `excused` differences concern the
    order of users whose key moved when partitions were added. `lost_to_retention` counts records that a fault removed
    before they were read. Recovery is in seconds from the end of the fault, or of the operator's command that corrects
    it; for a frozen worker, from the freeze.
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
    excused: int
    lost_to_retention: int
    promised: int
    not_recovered: int
    days_not_shown: list[str]
    recovery_seconds: dict[str, dict[str, float]]
    takeover_seconds: dict[str, float]
    log: list[Round]
    examples: list[str]
    seconds: float

    @property
    def passed(self) -> bool:
        """Return whether nothing was lost, doubled or different, every round recovered, and every day is shown."""
        return not (self.lost or self.doubled or self.differences or self.not_recovered or self.days_not_shown)


def judge(settings: Settings) -> Verdict:
    """Audit the stores against the topic."""
    found, counts = audit(settings), account(settings)
    return Verdict(
        produced=counts.produced,
        duplicates=counts.duplicates,
        indexed=counts.indexed,
        dead_letters=counts.dead_letters,
        lost=counts.lost,
        differences=found.differences,
        excused=len(found.excused),
        lost_to_retention=found.lost_to_retention,
    )


def report(
    seed: int, log: Sequence[Round], verdicts: Sequence[Verdict], days_not_shown: Sequence[str], seconds: float
) -> Report:
    """Summarise the rounds and verdicts.

    Arguments:
        seed: The seed of the rounds.
        log: The rounds.
        verdicts: One for each log of the topic, the last log's at the end; the event history contains all of them.
        days_not_shown: The days of the event history that Dagster does not show.
        seconds: The duration of the whole.
    """
    differences = [difference for verdict in verdicts for difference in verdict.differences]
    lost = [origin for verdict in verdicts for origin in verdict.lost]
    return Report(
        rounds=len(log),
        seed=seed,
        kinds=dict(sorted(Counter(entry.kind for entry in log).items())),
        produced=sum(verdict.produced for verdict in verdicts),
        indexed=verdicts[-1].indexed,
        duplicates=sum(verdict.duplicates for verdict in verdicts),
        dead_letters=verdicts[-1].dead_letters,
        lost=len(lost),
        doubled=sum(map(is_doubled, differences)),
        differences=len(differences),
        excused=sum(verdict.excused for verdict in verdicts),
        lost_to_retention=verdicts[-1].lost_to_retention,
        promised=sum(verdict.promised for verdict in verdicts),
        not_recovered=sum(entry.recovery_seconds is None for entry in log),
        days_not_shown=list(days_not_shown),
        recovery_seconds=_recovery(log),
        takeover_seconds=_spread([entry.takeover_seconds for entry in log if entry.takeover_seconds is not None]),
        log=list(log),
        examples=[*map(str, differences[:MOST_EXAMPLES]), *(f"lost: {origin}" for origin in lost[:MOST_EXAMPLES])],
        seconds=round(seconds, 1),
    )


def is_doubled(difference: Difference) -> bool:
    """Return whether a difference is a counter above its right value."""
    numbers = (difference.actual, difference.expected)
    if difference.store not in ("customers", "product_stats") or difference.kind != "differs":
        return False
    actual, expected = (number or 0 for number in numbers)
    return isinstance(actual, int) and isinstance(expected, int) and actual > expected


def _recovery(log: Sequence[Round]) -> dict[str, dict[str, float]]:
    """Return the median and the longest recovery, by kind and over all."""
    by_kind: dict[str, list[float]] = {}
    for entry in log:
        if entry.recovery_seconds is not None:
            by_kind.setdefault(entry.kind, []).append(entry.recovery_seconds)
            by_kind.setdefault("all", []).append(entry.recovery_seconds)
    return {kind: _spread(values) for kind, values in sorted(by_kind.items())}


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": round(statistics.median(values), 1), "max": max(values)} if values else {}
