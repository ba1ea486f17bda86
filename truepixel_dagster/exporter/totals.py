"""Add up the figures of finished runs: each report once, however often the exporter restarts.

The exporter reads Dagster's history from a cursor, and stores the sums with the cursor in Dagster's own storage.
Without them, a restart would miss runs or count them again: history is pruned, so the remaining runs add up to less
than Prometheus has seen, and Prometheus treats a falling counter as one that was reset.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dagster as dg
import msgspec

from truepixel_dagster.asset_keys import KAFKA_TOPIC
from truepixel_dagster.jobs.run_report import FIGURES
from truepixel_dagster.stages.stage import REJECTING

# How many reports one read adds up; the next read continues. As many count of those before the first read.
AT_MOST = 1000
# Events of the same moment may become visible in another order, so the newest ones wait for the next read.
SETTLED_SECONDS = 2.0

# The figures of a run (`pipeline/run_figures.py`) that are added up; their metrics have the same names.
COUNTED = (
    "messages",
    "micro_batches",
    "indexed",
    "duplicates",
    "replays",
    "orders",
    "order_checked",
    "order_violations",
    "contiguity_checked",
    "contiguity_violations",
)
# The series of a run, and the metric of each.
SERIES = {"attribution_latencies_ms": "attribution_latency", "freshness_ms": "freshness"}
BOUNDS = {
    "attribution_latency": (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
    "freshness": (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0),
}
# The limits of a label's values: each value is a time series of its own.
_NAME = re.compile(r"[A-Za-z0-9_]{1,100}")
MOST_NAMES, OTHER = 100, "other"
LARGEST = 2**53
ENDS = {
    dg.DagsterEventType.RUN_SUCCESS: "success",
    dg.DagsterEventType.RUN_FAILURE: "failure",
    dg.DagsterEventType.RUN_CANCELED: "canceled",
}


class Histogram(msgspec.Struct):
    """Hold observations (seconds) by bucket, not cumulated; the last bucket has no bound."""

    buckets: list[int]
    total: float = 0.0

    def observe(self, bounds: Sequence[float], seconds: float) -> None:
        """Add one observation."""
        self.buckets[bisect_left(bounds, seconds)] += 1
        self.total += seconds


class Totals(msgspec.Struct):
    """Hold the sums and, by kind of event, the last of Dagster's event ids that they contain."""

    cursors: dict[str, int] = {}
    counts: dict[str, float] = {}
    dead_letters: dict[str, float] = {}
    stage_seconds: dict[str, float] = {}
    finished: dict[str, dict[str, int]] = {}
    histograms: dict[str, Histogram] = {}
    peak_memory: float = 0.0

    def add_run(self, figures: Mapping[str, Any]) -> None:
        """Add the figures that a run of the stream has reported."""
        for name in COUNTED:
            add(self.counts, name, number(figures.get(name)))
        for stage, seconds in mapping(figures.get("stage_seconds")).items():
            add(self.stage_seconds, label(stage, self.stage_seconds), number(seconds))
        letters = mapping(figures.get("dead_letters"))
        for stage in REJECTING:
            add(self.dead_letters, stage, number(letters.get(stage)))
        for series, name in SERIES.items():
            histogram = self.histograms.setdefault(name, Histogram([0] * (len(BOUNDS[name]) + 1)))
            found = figures.get(series)
            for millis in found if isinstance(found, list) else ():
                histogram.observe(BOUNDS[name], number(millis) / 1000)
        self.peak_memory = number(figures.get("peak_memory_bytes"))

    def add_end(self, job: str, how: str) -> None:
        """Add a run that has ended."""
        ends = self.finished.setdefault(label(job, self.finished), {})
        ends[how] = ends.get(how, 0) + 1


_TOTALS = msgspec.json.Decoder(Totals)


def number(value: object) -> float:
    """Return a reported figure; 0 if it is not a number: any program with access to Dagster's storage may report."""
    usable = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < LARGEST
    return value if usable else 0  # type: ignore[return-value]


def mapping(value: object) -> Mapping[str, Any]:
    """Return figures by name as a run reports them; empty for anything else."""
    return value if isinstance(value, dict) else {}


def label(text: str, known: Mapping[str, object]) -> str:
    """Return a text as the value of a label; `other` if it is not a name, or not among the first names."""
    if text in known:
        return text
    return text if _NAME.fullmatch(text) and len(known) < MOST_NAMES else OTHER


def add(sums: dict[str, float], name: str, value: float) -> None:
    """Add to one of several sums."""
    sums[name] = sums.get(name, 0) + value


def load(instance: dg.DagsterInstance, key: str) -> Totals:
    """Return the stored sums; empty ones at the first start."""
    kept = instance.daemon_cursor_storage.get_cursor_values({key}).get(key)
    totals = _TOTALS.decode(kept) if kept else Totals()
    # The first version kept labels that were made for people.
    totals.stage_seconds = {name.replace(" (waiting)", "_waiting"): n for name, n in totals.stage_seconds.items()}
    return totals


def keep(instance: dg.DagsterInstance, key: str, totals: Totals) -> None:
    """Store the sums with their cursors, all in one value."""
    instance.daemon_cursor_storage.set_cursor_values({key: msgspec.json.encode(totals).decode()})


def advance(instance: dg.DagsterInstance, totals: Totals, now: float) -> bool:
    """Add the events since the cursors, at most 1,000 of each kind.

    Arguments:
        instance: Dagster's instance.
        totals: Changed in place.
        now: Seconds since the epoch.

    Returns:
        Whether anything was added.
    """
    before = dict(totals.cursors)
    for figures in _reports(instance, totals.cursors, now):
        totals.add_run(figures)
    for kind, how in ENDS.items():
        for job in _ended(instance, kind, totals.cursors, now):
            totals.add_end(job, how)
    return totals.cursors != before


def _reports(instance: dg.DagsterInstance, cursors: dict[str, int], now: float) -> Iterator[Mapping[str, Any]]:
    topic = dg.AssetKey(KAFKA_TOPIC)

    def filtered(after: int | None) -> dg.AssetRecordsFilter:
        return dg.AssetRecordsFilter(topic, after_storage_id=after, before_timestamp=now - SETTLED_SECONDS)

    after = cursors.get("reports")
    found = instance.fetch_observations(filtered(after), limit=AT_MOST, ascending=after is not None).records
    for record in _in_order(found, cursors, "reports"):
        observed = record.asset_observation
        # The sensor's observations of the lag have no figures of a run.
        if observed is not None and FIGURES in observed.metadata:
            yield mapping(observed.metadata[FIGURES].value)


def _ended(instance: dg.DagsterInstance, kind: Any, cursors: dict[str, int], now: float) -> Iterator[str]:
    after = cursors.get(kind.value)
    wanted = dg.RunStatusChangeRecordsFilter(kind, after_storage_id=after, before_timestamp=now - SETTLED_SECONDS)
    found = instance.fetch_run_status_changes(wanted, limit=AT_MOST, ascending=after is not None).records
    for record in _in_order(found, cursors, kind.value):
        yield record.event_log_entry.job_name or ""


def _in_order(records: Sequence[dg.EventLogRecord], cursors: dict[str, int], name: str) -> Iterator[dg.EventLogRecord]:
    """Yield records, the oldest first, and advance the cursor. Set it also without a record, to skip none."""
    cursors.setdefault(name, 0)
    for record in sorted(records, key=lambda record: record.storage_id):
        cursors[name] = record.storage_id
        yield record
