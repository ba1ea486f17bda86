"""Measure Dagster's share: the same micro-batches through the same stages, in a bare loop and through Dagster in turns.

Each way has a topic and stores of its own with the same records, and a process of its own for each round. Start-up is
not counted on either side.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable

from benchmarks.outcome import Outcome, Plot, median
from benchmarks.runs import run_lanes
from benchmarks.servers import servers
from truepixel_dagster.instance.process import ROOT, environment
from truepixel_dagster.local.demo import produce
from truepixel_dagster.local.traffic import FIRST
from truepixel_dagster.provision import provision
from truepixel_dagster.settings import Settings

BATCHES, BATCH = 64, 512


def bare(settings: Settings) -> float:
    """Run one round in a bare loop; return messages a minute."""
    command = [sys.executable, "-m", "benchmarks.bare_lane"]
    done = subprocess.run(command, cwd=ROOT, env=environment(settings), check=True, capture_output=True, text=True)
    return float(json.loads(done.stdout)["per_minute"])


def through_dagster(settings: Settings) -> float:
    """Run one round through Dagster; return messages a minute inside the run."""
    return run_lanes(settings)[0]


def run(quick: bool, say: Callable[[str], None]) -> Outcome:
    """Measure both ways in turns."""
    rounds = 3 if quick else 5
    with servers(say) as base:
        ways = {"bare loop": bare, "through Dagster": through_dagster}
        own: dict[str, Settings] = {}
        for number, way in enumerate(ways):
            own[way] = base.model_copy(
                update={
                    "namespace": f"tax{number}",
                    "data_dir": base.data_dir / f"tax{number}",
                    "slots_per_run": BATCHES,
                }
            )
            provision(own[way])
            # One round more than is counted: the first one creates indices and warms caches.
            produce(own[way], (rounds + 1) * BATCHES * BATCH, seed=5, profile=FIRST)
        rates: dict[str, list[float]] = {way: [] for way in ways}
        for number in range(rounds + 1):
            for way, measure in ways.items():
                rate = measure(own[way])
                say(f"round {number} {way}: {rate:,.0f} messages/min")
                if number:
                    rates[way].append(rate)
    ratios = [a / b for a, b in zip(*rates.values())]
    rows = [[number + 1, *(rates[way][number] for way in ways), f"{ratios[number]:.2f}"] for number in range(rounds)]
    rows.append(["median", *(median(rates[way]) for way in ways), f"{median(ratios):.2f}"])
    return Outcome(
        title="tax: messages a minute, bare and through Dagster",
        columns=["round", *ways, "ratio"],
        rows=rows,
        figures={
            "bare_per_minute": median(rates["bare loop"]),
            "dagster_per_minute": median(rates["through Dagster"]),
            "ratio": median(ratios),
        },
        plot=Plot(
            "round",
            "messages a minute",
            {way: [(float(n + 1), rate) for n, rate in enumerate(rates[way])] for way in ways},
        ),
    )
