"""Starts a run for each lane that has lag and no live run, and has one wait behind each that is at work.

Starting a run takes seconds, in which nothing would come through: the run that waits takes the lane from its
predecessor the moment that it is given back. It is asked for while the lane has lag, and not behind failures, whose
pauses it would pass by. What is decided is in `supervisor/`; here Kafka, Redis and Dagster are read.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import NamedTuple

import dagster as dg
from sqlalchemy.exc import OperationalError

from truepixel_dagster.asset_keys import AFTER_TAG, KAFKA_TOPIC, LANE_TAG, LANES_TAG, TRIGGER_TAG
from truepixel_dagster.jobs.process_events import process_events
from truepixel_dagster.jobs.unreported import are_unreported
from truepixel_dagster.resources import missing_servers, open_stores
from truepixel_dagster.sensors.outage import held_up
from truepixel_dagster.settings import Settings, SettingsError, load_settings
from truepixel_dagster.source_log import verified
from truepixel_dagster.stores.errors import AccessDenied, ServerRefuses, Unavailable
from truepixel_dagster.stores.leases import holders, lapsed
from truepixel_dagster.stream.errors import KafkaDenied, KafkaError, LogChanged
from truepixel_dagster.stream.topics import PartitionLag, lag
from truepixel_dagster.supervisor.lanes import EndedRun, LiveRun, Runs, Start, decide, lane_states
from truepixel_dagster.supervisor.memory import Memory
from truepixel_dagster.text import printable

LIVE = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
OBSERVE_EVERY = 60.0
REPORT_SECONDS = 2.0
# Ended runs of a lane that are looked at: after so many failures the pause grows no more.
_ENDED = 8
HINT = "Start the local servers with `./run stack up` and `./run setup`, or point the setting to yours"


def read_runs(
    instance: dg.DagsterInstance,
    holding: Mapping[int, str],
    following: Mapping[int, str],
    lapsed: frozenset[str] = frozenset(),
) -> Runs:
    """What Dagster and Redis know of the runs."""
    records = instance.get_run_records(dg.RunsFilter(job_name=process_events.name, statuses=LIVE))
    live = {each.dagster_run.run_id: LiveRun(_share(each.dagster_run), each.start_time or 0.0) for each in records}
    return Runs(live, holding, following, lapsed)


def _share(run: dg.DagsterRun) -> tuple[int, int] | None:
    """The lane that a run was started for, of how many; None where it does not say."""
    with suppress(KeyError, ValueError):
        return int(run.tags[LANE_TAG]), int(run.tags[LANES_TAG])
    return None


def ended_runs(instance: dg.DagsterInstance, lane: int) -> Iterator[EndedRun]:
    """Yield the last runs of a lane that have ended, the newest first."""
    filters = dg.RunsFilter(job_name=process_events.name, tags={LANE_TAG: str(lane)})
    for record in instance.get_run_records(filters, limit=_ENDED):
        run = record.dagster_run
        if run.status not in LIVE:
            yield EndedRun(run.run_id, run.status == dg.DagsterRunStatus.FAILURE, record.end_time or 0.0)


def give_up(instance: dg.DagsterInstance, runs: Runs, dead: frozenset[str]) -> Runs:
    """Report to Dagster that the workers of some runs are gone; the lanes are free even where that fails."""
    for run_id in dead & runs.live.keys():
        reopened = partial(dg.DagsterInstance.from_ref, instance.get_ref())
        reporting = threading.Thread(target=_report_failed, args=(reopened, run_id), daemon=True)
        reporting.start()
        # A frozen worker may have frozen with the lock of its run's event log: the tick does not wait for that.
        reporting.join(REPORT_SECONDS)
    return runs.without(dead)


def _report_failed(reopened: Callable[[], dg.DagsterInstance], run_id: str) -> None:
    """Report with an instance of its own: it may outlive the tick. What fails is done again at the next tick."""
    with suppress(OperationalError), reopened() as instance:
        run = instance.get_run_by_id(run_id)
        if run and not run.is_finished:
            instance.report_run_failed(run, "The worker stopped renewing its lease; the lane is taken over")


def requests(start: Sequence[Start], lanes: int) -> Iterator[dg.RunRequest]:
    """A run request for each lane; no run key, which would swallow the retry of a failed run."""
    for lane, after in start:
        tags = {LANE_TAG: str(lane), LANES_TAG: str(lanes), TRIGGER_TAG: "kafka_lag"}
        yield dg.RunRequest(tags=tags | ({AFTER_TAG: after} if after else {}))


class Missing(Exception):
    """Servers that do not answer, do not let us in, or are not set up; the message names each."""

    def __init__(self, errors: Sequence[Exception]) -> None:
        super().__init__("; ".join(map(str, errors)))
        self.denied = any(isinstance(error, (AccessDenied, KafkaDenied)) for error in errors)
        self.away = not self.denied and not any(isinstance(error, ServerRefuses) for error in errors)


class Seen(NamedTuple):
    """The lag of every partition, which run holds which, which is next, and which let theirs run out."""

    partitions: list[PartitionLag]
    holders: dict[int, str]
    following: dict[int, str]
    lapsed: frozenset[str]


def look(settings: Settings) -> Seen:
    """Look at Kafka and the leases.

    Raises:
        LogChanged: The topic is not the log that was processed.
        Missing: One of the four servers is unreachable, denies access, or has lost its data.
    """
    missing: list[Exception] = [*missing_servers(settings)]
    try:
        partitions = lag(settings)
        if not missing:
            with open_stores(settings) as stores:
                verified(settings, stores, partitions)
                numbers = [entry.partition for entry in partitions]
                redis, name = stores.redis.client, settings.namespace
                holding, following = holders(redis, name, numbers), holders(redis, name, numbers, "next")
                return Seen(partitions, holding, following, lapsed(redis, name, numbers))
    except LogChanged:
        raise
    except (KafkaError, Unavailable) as error:
        missing.append(error)
    raise Missing(missing)


@dg.sensor(
    job=process_events,
    # The daemon looks every 5 seconds, and leaves a sensor out that it looked at a millisecond too late before.
    minimum_interval_seconds=1,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Starts process_events for each lane that has messages waiting and no live run.",
)
def kafka_lag(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    """Look at the lag of the topic; never at its messages."""
    memory, now = Memory.recalled(context.cursor, lambda line: context.log.warning(printable(line))), time.time()
    if (left := memory.denied_for(now)) > 0:
        return held_up(f"{memory.denial}. Next try in {left:.0f} s", memory.held_up_since, now)
    try:
        settings = load_settings()
        seen = look(settings)
    except (SettingsError, LogChanged, Missing) as error:
        return skipped(context, memory, error, now)
    now = time.time()
    memory = memory.let_in().seen({entry.partition: entry.committed or 0 for entry in seen.partitions}, now)
    runs = read_runs(context.instance, seen.holders, seen.following, seen.lapsed)
    memory = memory.heard(runs, now)
    runs = give_up(context.instance, runs, memory.gone(now) | runs.lapsed)
    observe = abs(now - memory.observed_at) >= OBSERVE_EVERY
    unreported = are_unreported(context.instance, seen.partitions) if observe else frozenset()
    # What retention has removed is nothing to wait for, and yet a run's to count and to commit over.
    waiting = {entry.partition: entry.lag + entry.lost for entry in seen.partitions}
    ended = partial(ended_runs, context.instance)
    states = lane_states(runs, waiting, settings.lanes, memory.advanced_at, ended, unreported)
    decision = decide(states, now)
    return dg.SensorResult(
        run_requests=list(requests(decision.start, settings.lanes)),
        skip_reason=None if decision.start else "; ".join(decision.reasons),
        asset_events=[observation(settings, seen.partitions)] if observe else [],
        cursor=memory._replace(observed_at=now if observe else memory.observed_at).to_cursor(),
    )


def skipped(
    context: dg.SensorEvaluationContext, memory: Memory, error: SettingsError | LogChanged | Missing, now: float
) -> dg.SkipReason:
    """Return why a tick could not look, and remember servers that deny access.

    Raises:
        SensorHeldUp: The sensor has not been able to look for a minute.
    """
    memory = memory.held_up(now)
    if isinstance(error, Missing) and error.denied:
        # Skipped however long it lasts: a tick that fails keeps no cursor, and the pause would be forgotten.
        context.update_cursor(memory.denied(str(error), now).to_cursor())
        return dg.SkipReason(printable(str(error)))
    context.update_cursor(memory.to_cursor())
    hint = f". {HINT}" if isinstance(error, Missing) and error.away else ""
    return held_up(f"{error}{hint}", memory.held_up_since, now)


def observation(settings: Settings, partitions: Sequence[PartitionLag]) -> dg.AssetObservation:
    """The topic's lag as an observation of its asset."""
    metadata: dict[str, int | str] = {
        "lag": sum(entry.lag for entry in partitions),
        "messages in topic": sum(entry.high - entry.low for entry in partitions),
        "topic": settings.topic,
    }
    metadata |= {f"lag of partition {entry.partition}": entry.lag for entry in partitions}
    return dg.AssetObservation(asset_key=KAFKA_TOPIC, metadata=metadata)
