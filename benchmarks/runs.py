"""Read the figures that runs of the stream reported to Dagster, and start such runs."""

from __future__ import annotations

import time
from dataclasses import dataclass

import dagster as dg

from truepixel_dagster.asset_keys import KAFKA_TOPIC, LANE_TAG, LANES_TAG
from truepixel_dagster.instance.process import dagster_home, ended, execute, make_history
from truepixel_dagster.jobs.run_report import figures_in
from truepixel_dagster.settings import Settings

MOST_SECONDS = 120


@dataclass(frozen=True)
class RunFigures:
    """Hold a run's own figures: messages, messages a minute inside of it, peak memory (MiB).

    Latencies and freshness are milliseconds, one for each micro-batch. `started` is when Dagster started it; `taken`
    and `given_back` are when it had its lane, `received` is when its first messages came, and `committed` when it last
    committed (epoch seconds).
    """

    run_id: str
    pid: int
    lane: int
    messages: int
    per_minute: float
    latencies: tuple[float, ...]
    freshness: tuple[float, ...]
    peak_mib: float
    stage_seconds: dict[str, float]
    started: float
    taken: float
    given_back: float
    received: float
    committed: float


def reported(settings: Settings) -> list[RunFigures]:
    """Return the runs of the stream, oldest first."""
    found = []
    with dg.DagsterInstance.from_config(str(dagster_home(settings))) as instance:
        for record in instance.fetch_observations(dg.AssetKey(KAFKA_TOPIC), limit=1000).records:
            observed = record.asset_observation
            figures = figures_in(observed) if observed else None
            run = instance.get_run_record_by_id(record.run_id)
            # The observation of a failed run names no run.
            if figures is None or run is None:
                continue
            found.append(
                RunFigures(
                    record.run_id,
                    _pid(instance, record.run_id),
                    int(run.dagster_run.tags.get(LANE_TAG, 0)),
                    figures.messages,
                    float(figures.messages_per_minute),
                    tuple(figures.attribution_latencies_ms),
                    tuple(figures.freshness_ms),
                    figures.peak_memory_bytes / 2**20,
                    figures.stage_seconds,
                    run.start_time or 0.0,
                    figures.lane_taken,
                    figures.lane_given_back,
                    figures.first_messages or figures.lane_taken,
                    figures.last_commit or figures.lane_taken,
                )
            )
    return sorted(found, key=lambda run: run.started)


def all_reported(settings: Settings, messages: int) -> list[RunFigures]:
    """Wait until the runs together have reported a number of messages, and return them; an idle run reports at its end.

    Raises:
        TimeoutError: They have not reported them within two minutes.
    """
    end = time.monotonic() + MOST_SECONDS
    while time.monotonic() < end:
        runs = [run for run in reported(settings) if run.messages]
        if sum(run.messages for run in runs) >= messages:
            return runs
        time.sleep(2)
    raise TimeoutError(f"the runs have not reported {messages:,} messages {MOST_SECONDS} s after the last commit")


def _pid(instance: dg.DagsterInstance, run_id: str) -> int:
    """Return the id of a run's process."""
    for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_START):
        if entry.dagster_event and entry.dagster_event.pid:
            return entry.dagster_event.pid
    raise LookupError(f"run {run_id} began no step")


def run_lanes(settings: Settings) -> tuple[float, float]:
    """Run all lanes at once through Dagster, each in its own process.

    Returns:
        Messages a minute from the first that any of them gets to the last commit, and the highest peak (MiB).

    Raises:
        RuntimeError: A run failed; the message has the end of its log.
    """
    make_history(settings)
    before = {run.run_id for run in reported(settings)}
    logs = [settings.data_dir / "logs" / f"lane-{lane}.log" for lane in range(settings.lanes)]
    tags = {LANES_TAG: str(settings.lanes)}
    runs = [execute(settings, "process_events", {**tags, LANE_TAG: str(lane)}, log) for lane, log in enumerate(logs)]
    with ended(runs):
        for run, log in zip(runs, logs):
            if run.wait() != 0:
                raise RuntimeError(f"a run of process_events failed: {log.read_text()[-3000:]}")
    new = [run for run in reported(settings) if run.run_id not in before]
    seconds = max(run.committed for run in new) - min(run.received for run in new)
    return 60 * sum(run.messages for run in new) / seconds, max(run.peak_mib for run in new)
