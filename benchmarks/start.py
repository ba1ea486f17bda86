"""Measure the time before a worker's first fetch: imports, connections, and Dagster's own start of a run."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable

from benchmarks.outcome import Outcome, Plot, median
from benchmarks.runs import reported
from benchmarks.servers import servers
from truepixel_dagster.instance.process import ROOT, ended, execute
from truepixel_dagster.local.demo import produce
from truepixel_dagster.local.traffic import FIRST
from truepixel_dagster.provision import provision

IMPORTS = {
    "the interpreter": "",
    "and Dagster": "import dagster",
    "and its instance": "import dagster, dagster._core.storage.event_log, dagster._core.storage.runs",
    "and the four clients": "import dagster, dagster._core.storage.event_log, dagster._core.storage.runs, "
    "confluent_kafka, elasticsearch, pymongo, redis",
    "and our own": "import dagster._core.storage.event_log, dagster._core.storage.runs, truepixel_dagster.definitions",
}


def importing(code: str) -> float:
    """Return the seconds of an interpreter that runs this code and ends."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    return time.perf_counter() - began


def run(quick: bool, say: Callable[[str], None]) -> Outcome:
    """Measure each step, as the median of some rounds."""
    rounds = 3 if quick else 7
    # The very first import reads the files from the disk.
    importing(IMPORTS["and our own"])
    seconds = {name: median([importing(code) for _ in range(rounds)]) for name, code in IMPORTS.items()}
    with servers(say) as settings:
        provision(settings)
        produce(settings, 64 * (rounds + 1), seed=5, profile=FIRST)
        own = settings.model_copy(update={"slots_per_run": 1, "batch_messages": 64})
        leases, batches = [], []
        for number in range(rounds):
            say(f"run {number + 1} of {rounds}")
            began = time.time()
            # Not by `run_lanes`, which reads Dagster's history first.
            worker = execute(own, "process_events", {}, own.data_dir / "logs" / "start.log")
            with ended([worker]):
                if worker.wait() != 0:
                    raise RuntimeError("a run of process_events failed")
            last = reported(own)[-1]
            leases.append(last.taken - began)
            batches.append(last.given_back - began)
    seconds["until a run has its lane"] = median(leases)
    seconds["until its first micro-batch is committed"] = median(batches)
    return Outcome(
        title="start: seconds from the start of the process",
        columns=["", "seconds"],
        rows=[[name, f"{value:.2f}"] for name, value in seconds.items()],
        figures={name.replace(" ", "_"): value for name, value in seconds.items()},
        plot=Plot("step", "seconds", {"a run": [(float(n), value) for n, value in enumerate(seconds.values())]}),
    )
