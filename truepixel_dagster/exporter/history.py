"""Export metrics from Dagster's instance: the sums of finished runs, live runs, the health checks."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import dagster as dg
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from truepixel_dagster.definitions import definitions
from truepixel_dagster.exporter.totals import BOUNDS, COUNTED, ENDS, OTHER, Totals, advance, keep, load, number
from truepixel_dagster.sensors.kafka_lag import LIVE
from truepixel_dagster.stages.stage import REJECTING
from truepixel_dagster.text import label_of

# More are not read: the limit of runs at a time is far below.
LIVE_AT_MOST = 1000
# The time limit for the queries of one read of PostgreSQL.
TIMEOUT_MS, RECYCLE_SECONDS, CONNECTIONS_MORE = 5000, 300, 1

# Not `job`: Prometheus has a label of that name for the scraped target.
RUN = ("dagster_job", "status")

SAYS = {
    "messages": "Messages that runs have processed, redeliveries and duplicates included.",
    "micro_batches": "Micro-batches that runs have processed.",
    "indexed": "Events that were new to the event history.",
    "duplicates": "Records of events that are in the history already: they stop at stage 1.",
    "replays": "Records that were delivered and processed again, such as after a crash.",
    "orders": "Orders that were counted.",
    "order_checked": "Records whose order by user an invariant check examined.",
    "order_violations": "Of these, how many took effect behind a later record of their user. It should be 0.",
    "contiguity_checked": "Committed records whose processing by every stage an invariant check examined.",
    "contiguity_violations": "Of these, how many a stage had not processed. It should be 0.",
}
HISTOGRAMS = {
    "attribution_latency": "Fetch to acknowledged attribution, for each micro-batch.",
    "freshness": "Arrival in Kafka of a micro-batch's oldest message to its acknowledged attribution.",
}
# A check's figures: how much it examined, and how much of that was wrong.
FIGURES = {
    "audit": ("records", "differences"),
    "records_accounted": ("records", "unaccounted"),
    "orders_attributed": ("sightings", "missing"),
    "credits_sum": ("orders", "uneven"),
    "counters_match": ("products", "differing"),
    "dead_letter_share": ("records", "dead_letters"),
}


class History:
    """Read metrics from Dagster's instance; the first read connects.

    Arguments:
        connect: Creates the instance.
        namespace: The pipeline's namespace; each has its own sums.
    """

    def __init__(self, connect: Callable[[], dg.DagsterInstance], namespace: str) -> None:
        self._connect = connect
        self._key = f"truepixel/exporter/{namespace}"
        self._instance: dg.DagsterInstance | None = None
        self._totals = Totals()
        repository = definitions.get_repository_def()
        self._jobs = [job.name for job in repository.get_all_jobs()]
        self._checks = sorted(repository.asset_graph.asset_check_keys)

    def look(self) -> list[Metric]:
        """Return all metrics, from the instance's stores."""
        if self._instance is None:
            self._instance = self._connect()
            self._instance.optimize_for_webserver(TIMEOUT_MS, RECYCLE_SECONDS, CONNECTIONS_MORE)
            self._totals = load(self._instance, self._key)
        try:
            if advance(self._instance, self._totals, time.time()):
                keep(self._instance, self._key, self._totals)
        except BaseException:
            # Half of it may have been added: the next read starts again from the stored sums.
            broken, self._instance = self._instance, None
            with suppress(Exception):
                broken.dispose()
            raise
        return [
            *sums(self._totals),
            finished(self._totals, self._jobs),
            self._live(self._instance),
            *checks(self._latest(self._instance)),
        ]

    def _live(self, instance: dg.DagsterInstance) -> Metric:
        records = instance.get_run_records(dg.RunsFilter(statuses=LIVE), limit=LIVE_AT_MOST)
        # Runs of other jobs belong to other code locations.
        named = ((run.job_name if run.job_name in self._jobs else OTHER, run.status) for run in map(_run, records))
        found = Counter(named)
        runs = GaugeMetricFamily("truepixel_runs", "Runs that have not ended, by status.", labels=RUN)
        for job in (*sorted(self._jobs), OTHER):
            for status in LIVE:
                runs.add_metric([job, status.value.lower()], found[job, status])
        return runs

    def _latest(self, instance: dg.DagsterInstance) -> Mapping[str, Any]:
        """Return the newest complete evaluation of each health check, even if a later one is running or failed."""
        found = instance.event_log_storage.get_asset_check_summary_records(self._checks)
        evaluations = {}
        for key, summary in found.items():
            completed = summary.last_completed_check_execution_record
            event = completed.event if completed else None
            if event and event.dagster_event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
                evaluations[key.name] = event.get_dagster_event().asset_check_evaluation_data, event.timestamp
        return evaluations


def _run(record: dg.RunRecord) -> dg.DagsterRun:
    return record.dagster_run


def sums(totals: Totals) -> Iterator[Metric]:
    """Yield the figures that runs of the stream have reported."""
    for name in COUNTED:
        yield CounterMetricFamily(f"truepixel_{name}", SAYS[name], value=totals.counts.get(name, 0))
    letters = CounterMetricFamily(
        "truepixel_dead_letters", "Records that became dead letters, by the stage.", labels=["stage"]
    )
    for stage in REJECTING:
        letters.add_metric([stage], totals.dead_letters.get(stage, 0))
    yield letters
    seconds = CounterMetricFamily(
        "truepixel_stage_seconds",
        "Seconds spent in a stage; divided by micro-batches, the mean of one.",
        labels=["stage"],
    )
    for stage, value in sorted(totals.stage_seconds.items()):
        seconds.add_metric([stage], value)
    yield seconds
    for name, says in HISTOGRAMS.items():
        yield histogram(totals, name, says)
    says = "Peak resident memory of the last run that reported."
    yield GaugeMetricFamily("truepixel_worker_peak_memory_bytes", says, value=totals.peak_memory)


def histogram(totals: Totals, name: str, says: str) -> Metric:
    """Return a histogram in Prometheus' form: each bucket includes all below it."""
    bounds = BOUNDS[name]
    kept = totals.histograms.get(name)
    counts = kept.buckets if kept else [0] * (len(bounds) + 1)
    upto = 0
    buckets = []
    for bound, count in zip((*map(str, bounds), "+Inf"), counts):
        upto += count
        buckets.append((bound, float(upto)))
    return HistogramMetricFamily(f"truepixel_{name}_seconds", says, buckets, kept.total if kept else 0.0)


def finished(totals: Totals, jobs: Sequence[str]) -> Metric:
    """Return the counts of ended runs; 0 for outcomes without a run, or their first run would be no increase."""
    ended = CounterMetricFamily("truepixel_runs_finished", "Runs that have ended.", labels=RUN)
    for job in sorted({*jobs, *totals.finished}):
        for how in ENDS.values():
            ended.add_metric([job, how], totals.finished.get(job, {}).get(how, 0))
    return ended


def checks(latest: Mapping[str, Any]) -> list[Metric]:
    """Return the results of the last run of each health check."""
    passed = GaugeMetricFamily("truepixel_check_passed", "Whether a check of health passed: 1.", labels=["check"])
    when = GaugeMetricFamily("truepixel_check_timestamp_seconds", "When a check of health last ran.", labels=["check"])
    looked = GaugeMetricFamily(
        "truepixel_check_looked_at", "How many records, orders or days a health check examined.", labels=["check"]
    )
    wrong = GaugeMetricFamily("truepixel_check_wrong", "How much of that was wrong.", labels=["check"])
    for name, (evaluation, timestamp) in sorted(latest.items()):
        passed.add_metric([name], float(evaluation.passed))
        when.add_metric([name], timestamp)
        for family, figure in zip((looked, wrong), FIGURES.get(name, ())):
            if (found := evaluation.metadata.get(label_of(figure))) is not None:
                family.add_metric([name], number(found.value))
    return [passed, when, looked, wrong]
