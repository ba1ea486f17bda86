"""Starts a run for each lane that has lag and no live run: fetch, decide, return."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import dagster as dg

from truepixel_dagster.asset_keys import KAFKA_TOPIC, LANE_TAG, LANES_TAG, TRIGGER_TAG
from truepixel_dagster.jobs.process_events import process_events
from truepixel_dagster.resources import missing_servers
from truepixel_dagster.settings import Settings, SettingsError, load_settings
from truepixel_dagster.stream.errors import KafkaError
from truepixel_dagster.stream.lane import partitions_of
from truepixel_dagster.stream.topics import PartitionLag, lag

LIVE = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
FIRST_PAUSE, LONGEST_PAUSE = 10.0, 300.0
OBSERVE_EVERY = 60.0
HINT = "Start the local servers with `./run stack up` and `./run setup`, or point the setting to yours"


@dataclass(frozen=True)
class LaneState:
    """What is known of a lane: messages waiting, its live run, its latest failures in a row (epoch seconds)."""

    lane: int
    lag: int
    live_run: str | None = None
    failures: int = 0
    failed_at: float = 0.0


@dataclass(frozen=True)
class Decision:
    """The lanes to start, and why the others are not started."""

    start: tuple[int, ...]
    reasons: tuple[str, ...]


def decide(lanes: Sequence[LaneState], now: float) -> Decision:
    """Start a lane that has lag, no live run, and has paused long enough after its failures.

    The pause doubles with every failure in a row, from 10 seconds to 5 minutes.
    """
    start, reasons = [], []
    for lane in lanes:
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (lane.failures - 1)) if lane.failures else 0.0
        left = lane.failed_at + pause - now
        if lane.live_run:
            reasons.append(f"lane {lane.lane}: run {lane.live_run[:8]} is at work on {lane.lag} messages")
        elif lane.lag == 0:
            reasons.append(f"lane {lane.lane}: no lag")
        elif left > 0:
            reasons.append(
                f"lane {lane.lane}: {lane.lag} messages wait; failed {lane.failures} times in a row,"
                f" next try in {left:.0f} s"
            )
        else:
            start.append(lane.lane)
    return Decision(tuple(start), tuple(reasons))


def lane_states(instance: dg.DagsterInstance, partitions: Sequence[PartitionLag], lanes: int) -> list[LaneState]:
    """What Kafka and Dagster know of each lane."""
    by_partition = {entry.partition: entry.lag for entry in partitions}
    live = {run.tags.get(LANE_TAG, "0"): run for run in _runs(instance, {}, LIVE)}
    states = []
    for lane in range(lanes):
        waiting = sum(by_partition.get(p, 0) for p in partitions_of(lane, lanes, len(by_partition)))
        run = live.get(str(lane))
        failures, failed_at = _failures(instance, lane) if waiting and not run else (0, 0.0)
        states.append(LaneState(lane, waiting, run.run_id if run else None, failures, failed_at))
    return states


def _runs(
    instance: dg.DagsterInstance, tags: Mapping[str, str], statuses: list[dg.DagsterRunStatus], limit: int | None = None
) -> Sequence[dg.DagsterRun]:
    filters = dg.RunsFilter(job_name=process_events.name, tags=dict(tags), statuses=statuses)
    return instance.get_runs(filters, limit=limit)


def _failures(instance: dg.DagsterInstance, lane: int) -> tuple[int, float]:
    """How often the lane failed in a row, and when it last did."""
    filters = dg.RunsFilter(job_name=process_events.name, tags={LANE_TAG: str(lane)})
    records = instance.get_run_records(filters, limit=8)
    count, last = 0, 0.0
    for record in records:
        if record.dagster_run.status != dg.DagsterRunStatus.FAILURE:
            break
        count += 1
        last = max(last, record.end_time or 0.0)
    return count, last


def requests(start: Sequence[int], lanes: int) -> Iterator[dg.RunRequest]:
    """A run request for each lane; no run key, which would swallow the retry of a failed run."""
    for lane in start:
        yield dg.RunRequest(tags={LANE_TAG: str(lane), LANES_TAG: str(lanes), TRIGGER_TAG: "kafka_lag"})


@dg.sensor(
    job=process_events,
    minimum_interval_seconds=5,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Starts process_events for each lane that has messages waiting and no live run.",
)
def kafka_lag(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    """Look at the lag of the topic; never at its messages."""
    try:
        settings = load_settings()
        missing = missing_servers(settings)
        if missing:
            return dg.SkipReason(f"{'; '.join(missing)}. {HINT}")
        partitions = lag(settings)
    except SettingsError as error:
        return dg.SkipReason(str(error))
    except KafkaError as error:
        return dg.SkipReason(f"{error}. {HINT}")
    decision = decide(lane_states(context.instance, partitions, settings.lanes), time.time())
    observed, cursor = _observation(settings, partitions, context.cursor)
    return dg.SensorResult(
        run_requests=list(requests(decision.start, settings.lanes)),
        skip_reason=None if decision.start else "; ".join(decision.reasons),
        asset_events=observed,
        cursor=cursor,
    )


def _observation(
    settings: Settings, partitions: Sequence[PartitionLag], cursor: str | None
) -> tuple[list[dg.AssetObservation], str]:
    """The topic's lag as an observation of its asset, at most once a minute."""
    now = time.time()
    if cursor and now - float(cursor) < OBSERVE_EVERY:
        return [], cursor
    metadata: dict[str, int | str] = {
        "lag": sum(entry.lag for entry in partitions),
        "messages in topic": sum(entry.high - entry.low for entry in partitions),
        "topic": settings.topic,
    }
    metadata |= {f"lag of partition {entry.partition}": entry.lag for entry in partitions}
    return [dg.AssetObservation(asset_key=KAFKA_TOPIC, metadata=metadata)], str(now)
