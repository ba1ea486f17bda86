"""Measure the gain from more lanes: one, two and three on this machine, and the bound for thirty pods.

The model is the asymptotic bound of operational analysis (Denning and Buzen, 1978): N lanes are N times as fast as one,
until a resource is exhausted. Its limit is the number of its cores divided by the processor seconds of a message. On
one machine all processes share its cores. Pods have their own cores, so the servers' cores are the bound.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import psutil

from benchmarks.outcome import Outcome, Plot
from benchmarks.runs import run_lanes
from benchmarks.servers import servers
from truepixel_dagster.local.demo import produce
from truepixel_dagster.local.stack import Stack
from truepixel_dagster.local.traffic import FIRST
from truepixel_dagster.provision import provision
from truepixel_dagster.settings import Settings

LANES = (1, 2, 3)
PODS = 30
# The cores that a cluster might give the server that limits thirty pods.
CORES_OF_A_CLUSTER = (8, 16, 32, 64)
WORKERS = "workers"


@dataclass(frozen=True)
class Measured:
    """Hold the results of parallel lanes: messages a minute from the first lane's start to the last one's end, and the
    processor seconds of a message in each server and the workers."""

    per_minute: float
    cost: Mapping[str, float]


def bound(lanes: int, one: float, cost: float, cores: float) -> float:
    """Return the largest possible messages a minute of a number of lanes.

    Arguments:
        lanes: The number of lanes.
        one: Messages a minute of a single lane.
        cost: Processor seconds of a message in the shared resource.
        cores: The number of cores of that resource.
    """
    return min(lanes * one, 60 * cores / cost)


def measure(stack: Stack, settings: Settings, messages: int) -> Measured:
    """Drain a topic of this many messages by simultaneous runs through Dagster, one for each lane."""
    provision(settings)
    produce(settings, messages, seed=5, profile=FIRST)
    processes = {each.name: psutil.Process(each.pid) for each in stack.status() if each.pid}
    before = {name: _processor_seconds(process) for name, process in processes.items()}
    children = os.times()
    per_minute, _ = run_lanes(settings)
    spent = {name: _processor_seconds(process) - before[name] for name, process in processes.items()}
    now = os.times()
    spent[WORKERS] = now.children_user + now.children_system - children.children_user - children.children_system
    return Measured(per_minute, {name: value / messages for name, value in spent.items()})


def _processor_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def run(quick: bool, say: Callable[[str], None]) -> Outcome:
    """Measure each number of lanes on the same servers, after a round that is not counted."""
    messages = 60_000 if quick else 240_000
    found: dict[int, Measured] = {}
    with servers(say) as base:
        for number, lanes in enumerate((1, *LANES)):
            name = f"lanes{number}"
            # A lane that has processed its share ends at once.
            update = {"namespace": name, "data_dir": base.data_dir / name, "lanes": lanes, "idle": 0.2}
            own = base.model_copy(update={**update, "slots_per_run": 1000})
            say(f"{lanes} of {LANES[-1]} lanes, {messages:,} messages" + ("" if number else ", not counted"))
            measured = measure(Stack(base), own, messages)
            if number:
                found[lanes] = measured
            time.sleep(2)
    one = found[1]
    cores = psutil.cpu_count() or 1
    bounds = {lanes: bound(lanes, one.per_minute, sum(one.cost.values()), cores) for lanes in LANES}
    rows: list[list[object]] = [
        [f"{lanes} lanes", found[lanes].per_minute, bounds[lanes], f"{found[lanes].per_minute / bounds[lanes]:.0%}"]
        for lanes in LANES
    ]
    efficiency = found[LANES[-1]].per_minute / bounds[LANES[-1]]
    rows += [[f"processor time of {name}, µs a message", 1e6 * cost, "", ""] for name, cost in sorted(one.cost.items())]
    costs = {name: cost for name, cost in one.cost.items() if name != WORKERS}
    narrow = max(costs, key=costs.__getitem__)
    pods = {each: efficiency * bound(PODS, one.per_minute, costs[narrow], each) for each in CORES_OF_A_CLUSTER}
    rows += [[f"{PODS} pods, {narrow} with {each} cores: an hour", "", 60 * rate, ""] for each, rate in pods.items()]
    figures = {f"per_minute_{lanes}": each.per_minute for lanes, each in found.items()}
    figures |= {f"bound_{lanes}": each for lanes, each in bounds.items()}
    figures |= {f"pods_{PODS}_per_hour_{each}_cores": 60 * rate for each, rate in pods.items()}
    return Outcome(
        title=f"lanes: messages a minute on {cores} cores with all servers, and the bound",
        columns=["", "messages a minute", "bound", "of the bound"],
        rows=rows,
        figures=figures,
        plot=Plot(
            "lanes",
            "messages a minute",
            {
                "measured": [(float(n), each.per_minute) for n, each in found.items()],
                "bound": [(float(n), each) for n, each in bounds.items()],
            },
        ),
    )
