"""Starts a run for each lane that has lag and no live run, and has one wait behind each that is at work.

Starting a run takes seconds, in which nothing would come through: the run that waits takes the lane from its
predecessor the moment that it is given back. It is asked for while the lane has lag, and not behind failures, whose
pauses it would pass by.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Annotated, Any, NamedTuple

import dagster as dg
import msgspec
from dagster._core.instance.ref import InstanceRef
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
from truepixel_dagster.stream.lane import partitions_of
from truepixel_dagster.stream.topics import PartitionLag, lag
from truepixel_dagster.text import printable

LIVE = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
FIRST_PAUSE, LONGEST_PAUSE = 2.5, 300.0
OBSERVE_EVERY = 60.0
# Between a run's start and its lease it connects to four servers.
START_GRACE = 15.0
# A run that is just ending has given its lease back, too. One whose lease ran out needs no grace.
END_GRACE = 8.0
REPORT_SECONDS = 2.0
HINT = "Start the local servers with `./run stack up` and `./run setup`, or point the setting to yours"


@dataclass(frozen=True)
class LaneState:
    """What is known of a lane: messages waiting, its live run, its failures since it last got on (epoch seconds).

    `followed` is whether a run waits behind the live one, is being started for that, or cannot yet be; `unreported`
    whether a run that has ended committed records of it and did not report them.
    """

    lane: int
    lag: int
    live_run: str | None = None
    followed: bool = True
    failures: int = 0
    failed_at: float = 0.0
    unreported: bool = False


class Start(NamedTuple):
    """A lane to start a run of, and the run behind which it waits."""

    lane: int
    after: str | None = None


@dataclass(frozen=True)
class Decision:
    """The lanes to start, and why the others are not started."""

    start: tuple[Start, ...]
    reasons: tuple[str, ...]


def pause(failures: int) -> float:
    """Seconds to wait after so many failures in a row."""
    return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** (failures - 1)) if failures else 0.0


def decide(lanes: Sequence[LaneState], now: float) -> Decision:
    """Start a lane that has lag, and no live run or one that nobody follows, and that has paused after its failures.

    The pause doubles with every failure without progress between, from 2.5 seconds to 5 minutes.
    """
    start, reasons = [], []
    for lane in lanes:
        left = lane.failed_at + pause(lane.failures) - now
        if left > pause(lane.failures):  # the clock has been set back since
            left = 0.0
        if lane.live_run and lane.lag and not lane.followed and not lane.failures:
            start.append(Start(lane.lane, lane.live_run))
        elif lane.live_run:
            reasons.append(f"lane {lane.lane}: run {lane.live_run[:8]} is at work on {lane.lag} messages")
        elif lane.lag == 0 and not lane.unreported:
            reasons.append(f"lane {lane.lane}: no lag")
        elif left > 0:
            reasons.append(
                f"lane {lane.lane}: {lane.lag} messages wait; failed {lane.failures} times without progress,"
                f" next try in {left:.0f} s"
            )
        else:
            start.append(Start(lane.lane))
    return Decision(tuple(start), tuple(reasons))


@dataclass(frozen=True)
class Runs:
    """The runs of the job that Dagster believes to be alive, who holds which partition's lease, and who is next."""

    live: Mapping[str, dg.DagsterRun]
    started_at: Mapping[str, float]
    holders: Mapping[int, str]
    following: Mapping[int, str]
    #: Runs whose lease ran out without being given back, and those that were given up at this tick.
    lapsed: frozenset[str] = frozenset()
    given_up: frozenset[str] = frozenset()

    def at_work_on(self, partitions: Sequence[int], count: int) -> str | None:
        """The run that has one of the partitions, or one that was started for it; the topic has `count` of them."""
        holding = (self.holders[partition] for partition in partitions if partition in self.holders)
        return next(holding, None) or next(iter(self._started_for(partitions, count)), None)

    def is_followed(self, partitions: Sequence[int], count: int) -> bool:
        """Whether a lane needs no run behind its own.

        That is so where one is there already, where its run has not begun yet or has just ended, and where several runs
        of another number of lanes have a part of it each.
        """
        mine = self._started_for(partitions, count)
        return len(mine) != 1 or any(
            self.holders.get(partition) != mine[0] or partition in self.following for partition in partitions
        )

    @property
    def at_work(self) -> frozenset[str]:
        """The runs that hold a lease, or wait for one."""
        return frozenset([*self.holders.values(), *self.following.values()])

    def _started_for(self, partitions: Sequence[int], count: int) -> list[str]:
        """Live runs whose lane has one of the partitions, by whatever number of lanes they were started."""
        own = set(partitions)
        return [id_ for id_, run in self.live.items() if own.intersection(_share(run, count))]

    def silent(self, now: float, held: AbstractSet[str]) -> frozenset[str]:
        """Runs that neither hold a lease nor wait for one, but did before or had the time to: dead, or just ending."""
        in_time = {id_ for id_, at in self.started_at.items() if at and now - at > START_GRACE}
        return frozenset(self.live.keys() & (in_time | held) - self.at_work)


def _share(run: dg.DagsterRun, count: int) -> Sequence[int]:
    """The partitions that a run was started for; none where it does not say."""
    with suppress(KeyError, ValueError):
        return partitions_of(int(run.tags[LANE_TAG]), int(run.tags[LANES_TAG]), count)
    return ()


def read_runs(
    instance: dg.DagsterInstance,
    holding: Mapping[int, str],
    following: Mapping[int, str],
    lapsed: frozenset[str] = frozenset(),
) -> Runs:
    """What Dagster and Redis know of the runs."""
    records = instance.get_run_records(dg.RunsFilter(job_name=process_events.name, statuses=LIVE))
    live = {record.dagster_run.run_id: record.dagster_run for record in records}
    started_at = {record.dagster_run.run_id: record.start_time or 0.0 for record in records}
    return Runs(live, started_at, holding, following, lapsed)


def lane_states(
    instance: dg.DagsterInstance,
    runs: Runs,
    partitions: Sequence[PartitionLag],
    lanes: int,
    memory: Memory,
    unreported: AbstractSet[int] = frozenset(),
) -> list[LaneState]:
    """What Kafka, Redis and Dagster know of each lane."""
    # What retention has removed is nothing to wait for, and yet a run's to count and to commit over.
    by_partition = {entry.partition: entry.lag + entry.lost for entry in partitions}
    states = []
    for lane in range(lanes):
        own = partitions_of(lane, lanes, len(by_partition))
        waiting = sum(by_partition.get(partition, 0) for partition in own)
        run = runs.at_work_on(own, len(by_partition))
        followed = runs.is_followed(own, len(by_partition))
        owes = not unreported.isdisjoint(own)
        due = (waiting or owes) and not (run and followed)
        failures, failed_at = _failures(instance, lane, memory.advanced_at(own), runs.given_up) if due else (0, 0.0)
        states.append(LaneState(lane, waiting, run, followed, failures, failed_at, owes))
    return states


def give_up(instance: dg.DagsterInstance, runs: Runs, dead: frozenset[str]) -> Runs:
    """Tell Dagster that the workers of some runs are gone; the lanes are free, whether or not Dagster can be told."""
    for run_id in dead & runs.live.keys():
        reporting = threading.Thread(target=_report_failed, args=(instance.get_ref(), run_id), daemon=True)
        reporting.start()
        # A frozen worker may have frozen with the lock of its run's event log: the tick does not wait for that.
        reporting.join(REPORT_SECONDS)
    return replace(runs, live={id_: run for id_, run in runs.live.items() if id_ not in dead}, given_up=dead)


def _report_failed(ref: InstanceRef, run_id: str) -> None:
    """With an instance of its own: it may outlive the tick. What fails is done again at the next tick."""
    with suppress(OperationalError), dg.DagsterInstance.from_ref(ref) as instance:
        run = instance.get_run_by_id(run_id)
        if run and not run.is_finished:
            instance.report_run_failed(run, "The worker stopped renewing its lease; the lane is taken over")


def _failures(
    instance: dg.DagsterInstance, lane: int, advanced_at: float, given_up: AbstractSet[str]
) -> tuple[int, float]:
    """How often the lane failed since it last succeeded or committed anything, and when it last did.

    A run that is given up now failed when it fell silent, which is longer ago than a first pause.
    """
    filters = dg.RunsFilter(job_name=process_events.name, tags={LANE_TAG: str(lane)})
    records = instance.get_run_records(filters, limit=8)
    count, last = 0, 0.0
    for record in records:
        if record.dagster_run.status in LIVE:
            continue
        if record.dagster_run.status != dg.DagsterRunStatus.FAILURE or (record.end_time or 0.0) <= advanced_at:
            break
        count += 1
        if record.dagster_run.run_id not in given_up:
            last = max(last, record.end_time or 0.0)
    return count, last


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
        memory = memory.held_up(now)
        if isinstance(error, Missing) and error.denied:
            # Skipped however long it lasts: a tick that fails keeps no cursor, and the pause would be forgotten.
            context.update_cursor(memory.denied(str(error), now).to_cursor())
            return dg.SkipReason(printable(str(error)))
        context.update_cursor(memory.to_cursor())
        hint = f". {HINT}" if isinstance(error, Missing) and error.away else ""
        return held_up(f"{error}{hint}", memory.held_up_since, now)
    now = time.time()
    memory = memory.let_in().seen(seen.partitions, now)
    runs = read_runs(context.instance, seen.holders, seen.following, seen.lapsed)
    memory = memory.heard(runs, now)
    runs = give_up(context.instance, runs, memory.gone(now) | runs.lapsed)
    observe = abs(now - memory.observed_at) >= OBSERVE_EVERY
    unreported = are_unreported(context.instance, seen.partitions) if observe else frozenset()
    states = lane_states(context.instance, runs, seen.partitions, settings.lanes, memory, unreported)
    decision = decide(states, now)
    return dg.SensorResult(
        run_requests=list(requests(decision.start, settings.lanes)),
        skip_reason=None if decision.start else "; ".join(decision.reasons),
        asset_events=[observation(settings, seen.partitions)] if observe else [],
        cursor=memory._replace(observed_at=now if observe else memory.observed_at).to_cursor(),
    )


class Memory(NamedTuple):
    """What a tick tells the next one.

    When the lag was last observed; which live runs have been seen to hold a lease, and since when some are silent; of
    each partition the committed offset, and when a tick first saw it (0 for the offset that the first tick saw).
    """

    observed_at: float = 0.0
    held: frozenset[str] = frozenset()
    silent_since: Mapping[str, float] = {}
    committed: Mapping[int, tuple[int, float]] = {}
    #: How often in a row a server did not let us in, why, and when it last did not.
    denials: int = 0
    denial: str = ""
    denied_at: float = 0.0
    #: Since when the sensor has not been able to look; 0 while it can.
    held_up_since: float = 0.0

    @classmethod
    def from_cursor(cls, cursor: str | None) -> Memory:
        """Read it back; nothing is remembered at the first tick.

        Of a cursor that another version has written, what is understood is remembered, and the rest begins afresh.
        """
        return cls._of(cursor)[0]

    @classmethod
    def recalled(cls, cursor: str | None, say: Callable[[str], None]) -> Memory:
        """The same, with a line about what was not understood."""
        memory, lost = cls._of(cursor)
        if lost:
            say(f"the cursor is of another version; these begin afresh: {', '.join(lost)}")
        return memory

    @classmethod
    def _of(cls, cursor: str | None) -> tuple[Memory, list[str]]:
        if not cursor:
            return cls(), []
        try:
            found = msgspec.json.decode(cursor, type=dict[str, msgspec.Raw])
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return cls(), list(cls._fields)
        known: dict[str, Any] = {}
        lost = [name for name in found if name not in cls._fields]
        for name, kind in _FIELDS.items():
            try:
                if name in found:
                    known[name] = msgspec.json.decode(found[name], type=kind)
            except (msgspec.MsgspecError, ValueError, RecursionError):
                lost.append(name)
        return cls(**known), lost

    def to_cursor(self) -> str:
        """As Dagster keeps it."""
        return json.dumps(self._asdict() | {"held": sorted(self.held)})

    def denied(self, why: str, now: float) -> Memory:
        """What is remembered when a server did not let us in."""
        return self._replace(denials=self.denials + 1, denial=why, denied_at=now)

    def held_up(self, now: float) -> Memory:
        """What is remembered when the sensor cannot look."""
        return self._replace(held_up_since=min(self.held_up_since or now, now))

    def let_in(self) -> Memory:
        """What is remembered when all of them do."""
        return self._replace(denials=0, denial="", denied_at=0.0, held_up_since=0.0)

    def denied_for(self, now: float) -> float:
        """The seconds for which no server is asked: each wrong password brings an account nearer to being locked."""
        # A clock that was ahead has been set back: that is no reason to wait for it.
        return 0.0 if self.denied_at > now else self.denied_at + pause(self.denials) - now

    def seen(self, partitions: Sequence[PartitionLag], now: float) -> Memory:
        """What is remembered after a look at the committed offsets."""

        def when(partition: int, offset: int) -> float:
            before, at = self.committed.get(partition, (offset, 0.0))
            return min(at, now) if before == offset else now

        offsets = {entry.partition: entry.committed or 0 for entry in partitions}
        return self._replace(committed={p: (offset, when(p, offset)) for p, offset in offsets.items()})

    def heard(self, runs: Runs, now: float) -> Memory:
        """What is remembered after a look at the leases."""
        silent = {run: min(self.silent_since.get(run, now), now) for run in runs.silent(now, self.held)}
        return self._replace(held=(self.held | runs.at_work) & runs.live.keys(), silent_since=silent)

    def gone(self, now: float) -> frozenset[str]:
        """The runs whose worker has been silent for longer than an ending one is."""
        return frozenset(run for run, since in self.silent_since.items() if now - since > END_GRACE)

    def advanced_at(self, partitions: Sequence[int]) -> float:
        """When one of these partitions was last seen to have got on; 0 if none was."""
        return max((self.committed[partition][1] for partition in partitions if partition in self.committed), default=0)


#: What a cursor holds, and of which type. A time is in seconds and finite.
_SECONDS = Annotated[float, msgspec.Meta(ge=0, le=1e12)]
_FIELDS: Mapping[str, Any] = {
    "observed_at": _SECONDS,
    "held": frozenset[str],
    "silent_since": dict[str, _SECONDS],
    "committed": dict[int, tuple[int, _SECONDS]],
    "denials": Annotated[int, msgspec.Meta(ge=0, le=1000)],
    "denial": str,
    "denied_at": _SECONDS,
    "held_up_since": _SECONDS,
}


def observation(settings: Settings, partitions: Sequence[PartitionLag]) -> dg.AssetObservation:
    """The topic's lag as an observation of its asset."""
    metadata: dict[str, int | str] = {
        "lag": sum(entry.lag for entry in partitions),
        "messages in topic": sum(entry.high - entry.low for entry in partitions),
        "topic": settings.topic,
    }
    metadata |= {f"lag of partition {entry.partition}": entry.lag for entry in partitions}
    return dg.AssetObservation(asset_key=KAFKA_TOPIC, metadata=metadata)
