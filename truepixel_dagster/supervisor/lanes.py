"""Decide for which lanes a run is started, from the lag, the leases and the runs.

>>> from truepixel_dagster.supervisor.lanes import LaneState, decide
>>> decide([LaneState(0, lag=5), LaneState(1, lag=0)], now=0.0)
Decision(start=(Start(lane=0, after=None),), reasons=('lane 1: no lag',))
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import NamedTuple

from truepixel_dagster.stream.lane import partitions_of

FIRST_PAUSE, LONGEST_PAUSE = 2.5, 300.0
# A run connects to four servers between its start and its lease.
START_GRACE = 15.0


@dataclass(frozen=True)
class LaneState:
    """Hold the state of a lane: its lag, its live run, and its failures since its last progress (epoch seconds).

    `followed` is true if the live run has a standby run, if one is being started, or if none can be started yet;
    `unreported` is true if an ended run committed records of the lane and did not report them.
    """

    lane: int
    lag: int
    live_run: str | None = None
    followed: bool = True
    failures: int = 0
    failed_at: float = 0.0
    unreported: bool = False


class Start(NamedTuple):
    """Hold a lane to start a run for, and the run from which it takes over the lane."""

    lane: int
    after: str | None = None


@dataclass(frozen=True)
class Decision:
    """Hold the lanes to start, and the reasons why the others are not started."""

    start: tuple[Start, ...]
    reasons: tuple[str, ...]


def pause(failures: int) -> float:
    """Return the seconds to wait after a number of failures in a row."""
    return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** (failures - 1)) if failures else 0.0


def decide(lanes: Sequence[LaneState], now: float) -> Decision:
    """Start runs for lanes with lag that have no live run or no standby run, and whose pause after failures is over.

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
            reasons.append(f"lane {lane.lane}: run {lane.live_run[:8]} is processing; lag {lane.lag}")
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


class LiveRun(NamedTuple):
    """Hold a run that Dagster reports as alive: its lane, the number of lanes, and its start in epoch seconds.

    The lane is None if the run has no lane tag; the start is 0 if the run has not started.
    """

    share: tuple[int, int] | None
    started_at: float

    def partitions(self, count: int) -> Sequence[int]:
        """Return the partitions that the run was started for, of `count`; none if its lane is unknown."""
        if self.share is not None:
            with suppress(ValueError):
                return partitions_of(*self.share, count)
        return ()


class EndedRun(NamedTuple):
    """Hold an ended run of a lane: whether it failed, and its end in epoch seconds."""

    run_id: str
    failed: bool
    ended_at: float


@dataclass(frozen=True)
class Runs:
    """Hold the job's runs that Dagster reports as alive, and each partition's lease holder and standby run."""

    live: Mapping[str, LiveRun]
    holders: Mapping[int, str]
    following: Mapping[int, str]
    #: Runs whose lease expired without being released, and those that were given up at this tick.
    lapsed: frozenset[str] = frozenset()
    given_up: frozenset[str] = frozenset()

    def at_work_on(self, partitions: Sequence[int], count: int) -> str | None:
        """Return a run that has one of the partitions, or was started for one; the topic has `count` partitions."""
        holding = (self.holders[partition] for partition in partitions if partition in self.holders)
        return next(holding, None) or next(iter(self._started_for(partitions, count)), None)

    def is_followed(self, partitions: Sequence[int], count: int) -> bool:
        """Return whether a lane needs no further standby run.

        That is the case if it has one, if the lane's run has not begun yet or has just ended, and if several runs with
        another number of lanes share the lane's partitions.
        """
        mine = self._started_for(partitions, count)
        return len(mine) != 1 or any(
            self.holders.get(partition) != mine[0] or partition in self.following for partition in partitions
        )

    @property
    def at_work(self) -> frozenset[str]:
        """Return the runs that hold a lease, or wait for one."""
        return frozenset([*self.holders.values(), *self.following.values()])

    def _started_for(self, partitions: Sequence[int], count: int) -> list[str]:
        """Return the live runs whose lane has one of the partitions, with any number of lanes."""
        own = set(partitions)
        return [id_ for id_, run in self.live.items() if own.intersection(run.partitions(count))]

    def silent(self, now: float, held: AbstractSet[str]) -> frozenset[str]:
        """Return the runs without a lease that held one before or had the time to get one: dead, or just ending."""
        in_time = {id_ for id_, run in self.live.items() if run.started_at and now - run.started_at > START_GRACE}
        return frozenset(self.live.keys() & (in_time | held) - self.at_work)

    def without(self, dead: frozenset[str]) -> Runs:
        """Return the runs without those of dead workers, which were given up."""
        live = {id_: run for id_, run in self.live.items() if id_ not in dead}
        return replace(self, live=live, given_up=dead)


def lane_states(
    runs: Runs,
    waiting: Mapping[int, int],
    lanes: int,
    advanced_at: Callable[[Sequence[int]], float],
    ended: Callable[[int], Iterable[EndedRun]],
    unreported: AbstractSet[int] = frozenset(),
) -> list[LaneState]:
    """Return the state of each lane according to Kafka, Redis and Dagster.

    Arguments:
        runs: The runs that are alive.
        waiting: The number of waiting records by partition.
        lanes: The number of lanes.
        advanced_at: Returns when any of some partitions last advanced (epoch seconds).
        ended: Returns the ended runs of a lane, the newest first; called only where a run may be started.
        unreported: Partitions whose last run did not report its commits.
    """
    states = []
    for lane in range(lanes):
        own = partitions_of(lane, lanes, len(waiting))
        lag = sum(waiting.get(partition, 0) for partition in own)
        run = runs.at_work_on(own, len(waiting))
        followed = runs.is_followed(own, len(waiting))
        owes = not unreported.isdisjoint(own)
        due = (lag or owes) and not (run and followed)
        failures, failed_at = failures_since(advanced_at(own), ended(lane), runs.given_up) if due else (0, 0.0)
        states.append(LaneState(lane, lag, run, followed, failures, failed_at, owes))
    return states


def failures_since(advanced_at: float, ended: Iterable[EndedRun], given_up: AbstractSet[str]) -> tuple[int, float]:
    """Return how often a lane failed since it last succeeded or committed anything, and when it last failed.

    A run that is given up now failed when it fell silent, which is longer ago than the first pause.
    """
    count, last = 0, 0.0
    for run in ended:
        if not run.failed or run.ended_at <= advanced_at:
            break
        count += 1
        if run.run_id not in given_up:
            last = max(last, run.ended_at)
    return count, last
