"""Start a run for each lane that has lag and no live run, and a standby run behind each active run.

Starting a run takes seconds, in which nothing would be processed: the standby run takes the lane as soon as its
predecessor releases it. It is started while the lane has lag, but not behind failures, whose pauses it would bypass.
`supervisor/` decides; this module reads Kafka, Redis and Dagster.
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
from truepixel_dagster.stores.redis.leases import holders, lapsed
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
# The most ended runs of a lane to read: after so many failures the pause no longer grows.
_ENDED = 8
HINT = "`truepixel stack up` and `truepixel setup` start local servers; for servers of your own, correct the setting"


def read_runs(
    instance: dg.DagsterInstance,
    holding: Mapping[int, str],
    following: Mapping[int, str],
    lapsed: frozenset[str] = frozenset(),
) -> Runs:
    """Return the runs according to Dagster and Redis."""
    records = instance.get_run_records(dg.RunsFilter(job_name=process_events.name, statuses=LIVE))
    live = {each.dagster_run.run_id: LiveRun(_share(each.dagster_run), each.start_time or 0.0) for each in records}
    return Runs(live, holding, following, lapsed)


def _share(run: dg.DagsterRun) -> tuple[int, int] | None:
    """Return the lane that a run was started for, and the number of lanes; None if its tags lack them."""
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
    """Report to Dagster that the workers of some runs are gone; the lanes are free even if the report fails."""
    for run_id in dead & runs.live.keys():
        reopened = partial(dg.DagsterInstance.from_ref, instance.get_ref())
        reporting = threading.Thread(target=_report_failed, args=(reopened, run_id), daemon=True)
        reporting.start()
        # A frozen worker may hold the lock of its run's event log: the tick does not wait for it.
        reporting.join(REPORT_SECONDS)
    return runs.without(dead)


def _report_failed(reopened: Callable[[], dg.DagsterInstance], run_id: str) -> None:
    """Report with a separate instance, which may outlive the tick. The next tick repeats a failed report."""
    with suppress(OperationalError), reopened() as instance:
        run = instance.get_run_by_id(run_id)
        if run and not run.is_finished:
            instance.report_run_failed(run, "The worker stopped renewing its lease; the lane is taken over")


def requests(start: Sequence[Start], lanes: int) -> Iterator[dg.RunRequest]:
    """Yield a run request for each lane, without a run key, which would prevent the retry of a failed run."""
    for lane, after in start:
        tags = {LANE_TAG: str(lane), LANES_TAG: str(lanes), TRIGGER_TAG: "kafka_lag"}
        yield dg.RunRequest(tags=tags | ({AFTER_TAG: after} if after else {}))


class Missing(Exception):
    """Servers do not answer, deny access, or are not set up; the message names each."""

    def __init__(self, errors: Sequence[Exception]) -> None:
        super().__init__("; ".join(map(str, errors)))
        self.denied = any(isinstance(error, (AccessDenied, KafkaDenied)) for error in errors)
        self.away = not self.denied and not any(isinstance(error, ServerRefuses) for error in errors)


class Seen(NamedTuple):
    """Hold the lag of each partition, the holder of its lease, the next holder, and the runs whose lease expired."""

    partitions: list[PartitionLag]
    holders: dict[int, str]
    following: dict[int, str]
    lapsed: frozenset[str]


def look(settings: Settings) -> Seen:
    """Read the lag from Kafka, and the leases.

    Raises:
        LogChanged: The topic is not the one that was processed.
        Missing: One of the four servers is unreachable, denies access, or has lost its data.
    """
    missing: list[Exception] = [*missing_servers(settings)]
    try:
        partitions = lag(settings.kafka())
        if not missing:
            with open_stores(settings) as stores:
                verified(settings.kafka(), stores, partitions)
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
    # The daemon looks every 5 seconds, and skips a sensor that its last look reached a millisecond too late.
    minimum_interval_seconds=1,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Starts a run of process_events for each lane that has lag and no live run, and standby runs.",
)
def kafka_lag(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    """Read the lag of the topic and the leases, and start runs; never read messages."""
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
    # Records that retention has removed are no lag, but a run must count them and commit past them.
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
    """Return why a tick could not read the lag, and remember servers that deny access.

    Raises:
        SensorHeldUp: The sensor has not been able to read the lag for a minute.
    """
    memory = memory.held_up(now)
    if isinstance(error, Missing) and error.denied:
        # Always skip, never fail: a failed tick stores no cursor, and the pause would be lost.
        context.update_cursor(memory.denied(str(error), now).to_cursor())
        return dg.SkipReason(printable(str(error)))
    context.update_cursor(memory.to_cursor())
    hint = f". {HINT}" if isinstance(error, Missing) and error.away else ""
    return held_up(f"{error}{hint}", memory.held_up_since, now)


def observation(settings: Settings, partitions: Sequence[PartitionLag]) -> dg.AssetObservation:
    """Return the topic's lag as an observation of its asset."""
    metadata: dict[str, int | str] = {
        "lag": sum(entry.lag for entry in partitions),
        "messages in topic": sum(entry.high - entry.low for entry in partitions),
        "topic": settings.topic,
    }
    metadata |= {f"lag of partition {entry.partition}": entry.lag for entry in partitions}
    return dg.AssetObservation(asset_key=KAFKA_TOPIC, metadata=metadata)
