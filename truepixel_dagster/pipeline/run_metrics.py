"""Count and time a run's work for its report."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from truepixel_dagster.events.event import DAY, Event, day_of
from truepixel_dagster.pipeline.invariants import CheckCounts
from truepixel_dagster.stream.micro_batch import MicroBatch, OffsetRange

# The suffix of a stage's name for the time until the pool accepted the micro-batch, without the work itself.
WAITING = "_waiting"


@dataclass
class RunMetrics:
    """Hold a run's counts. Times are seconds since the epoch; `days` counts events by asset and day.

    A latency (ms) runs from the fetch to the acknowledged attribution; a freshness (ms) runs from the arrival of a
    micro-batch's oldest message in Kafka to the same moment. Both have an entry for each micro-batch.

    `received` is when the first messages arrived, `committed` when offsets were last committed, `waiting` the lane's
    lag when the run handed it over, `lost` the number of offsets per partition that retention removed before they were
    read. `order` and `contiguity` are the results of the invariant checks (`pipeline/invariants.py`).
    """

    started: float = field(default_factory=time.time)
    ended: float | None = None
    received: float | None = None
    committed: float | None = None
    batches: int = 0
    messages: int = 0
    indexed: int = 0
    redelivered: int = 0
    duplicates: int = 0
    redacted: int = 0
    touched: int = 0
    orders: int = 0
    customers: int = 0
    counted: int = 0
    statuses: int = 0
    waiting: int = 0
    dead_letters: Counter[str] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    freshness: list[float] = field(default_factory=list)
    stage_seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    days: defaultdict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    ranges: dict[int, OffsetRange] = field(default_factory=dict)
    lost: Counter[int] = field(default_factory=Counter)
    lost_ranges: list[OffsetRange] = field(default_factory=list)
    order: CheckCounts = field(default_factory=CheckCounts)
    contiguity: CheckCounts = field(default_factory=CheckCounts)

    def fetched(self, batch: MicroBatch) -> None:
        """Count a fetched micro-batch."""
        self.batches += 1
        self.messages += len(batch.messages)
        for partition, new in batch.ranges.items():
            old = self.ranges.get(partition)
            self.ranges[partition] = OffsetRange(old.topic, partition, old.first, new.last) if old else new

    def lost_to_retention(self, ranges: Iterable[OffsetRange]) -> None:
        """Count offsets that retention removed before they were read."""
        for each in ranges:
            self.lost_ranges.append(each)
            self.lost[each.partition] += each.last - each.first + 1

    def wrote(self, what: str, events: Iterable[Event]) -> None:
        """Count events by the day on which they happened."""
        self.days[what].update(event.occurred_at // DAY for event in events)

    def by_day(self, what: str) -> dict[str, int]:
        """Return how many events were written, by day (UTC)."""
        return {day_of(day * DAY): count for day, count in sorted(self.days[what].items())}

    @property
    def seconds(self) -> float:
        """Return the seconds from the start of work to the handover of the lane."""
        return (self.ended or time.time()) - self.started

    @property
    def per_minute(self) -> float:
        """Return the run's messages per minute."""
        return 60 * self.messages / max(self.seconds, 1e-9)


def percentile(values: Iterable[float], percent: int) -> float:
    """Return the nearest-rank percentile; 0 for no values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)] if ordered else 0.0


def peak_memory() -> int:
    """Return the process's peak resident memory in bytes, as the kernel counted it."""
    for line in Path("/proc/self/status").read_text().splitlines() if Path("/proc/self/status").exists() else ():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    import resource
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
