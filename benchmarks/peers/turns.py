"""Process the same events in other ways, in turns with ours, and check the results by the same oracle.

The peers are one store call per event and stage on 24 keyed threads; Quix Streams; Bytewax, as in its documentation and
with our stages in bulk. Each runs in a process of the peers' own virtual environment, with its own topic and stores,
and gets the same records.

Each is measured from the first message that it receives to its last commit.
Bytewax has a worker for each partition; ours is measured in one lane, and with a lane for each partition.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path

from benchmarks.outcome import Outcome, Plot, median
from benchmarks.peers.venv import interpreter
from benchmarks.runs import run_lanes
from benchmarks.servers import servers
from truepixel_dagster.audit.audit import audit
from truepixel_dagster.instance.process import ROOT, environment
from truepixel_dagster.local.traffic import FIRST, Record, traffic
from truepixel_dagster.provision import provision
from truepixel_dagster.settings import Settings
from truepixel_dagster.stream.producer import EventProducer
from truepixel_dagster.stream.topics import lag

BATCH = 512
OURS, OURS_IN_LANES = "ours", "ours_in_lanes"
LABELS = {
    OURS: "ours, one lane",
    OURS_IN_LANES: "ours, a lane a partition",
    "one_by_one": "one call per event",
    "quix": "Quix Streams",
    "quix_bulk": "Quix Streams, our stages in bulk",
    "bytewax": "Bytewax",
    "bytewax_bulk": "Bytewax, our stages in bulk",
}
# Each is a module of this package.
PEERS = [name for name in LABELS if name not in (OURS, OURS_IN_LANES)]
# The slow peer gets a part of the messages, which is enough to measure its rate.
PART_ONE_BY_ONE = 16
MOST_SECONDS = 900

Drain = Callable[[Settings], tuple[float, float]]


@dataclass
class Contender:
    """Hold a way of processing events: its topic and stores, the part of the records that it gets, and its results."""

    settings: Settings
    drain: Drain
    part: int
    rates: list[float] = field(default_factory=list)
    peaks: list[float] = field(default_factory=list)

    def round(self, records: Sequence[Record]) -> None:
        """Send records to its topic, and drain them."""
        with EventProducer(self.settings.kafka()) as producer:
            for record in records[: len(records) // self.part]:
                producer.send(record.key, record.value, record.headers)
        rate, peak = self.drain(self.settings)
        self.rates.append(rate)
        self.peaks.append(peak)


def through_peer(python: Path, name: str, settings: Settings) -> tuple[float, float]:
    """Drain a topic by a peer; return messages a minute and peak memory (MiB).

    Raises:
        RuntimeError: The peer failed, or left messages.
        TimeoutExpired: The peer did not end in time.
    """
    own = {**environment(settings), "PYTHONPATH": str(ROOT)}
    command = [str(python), "-m", f"benchmarks.peers.{name}"]
    done = subprocess.run(command, cwd=ROOT, env=own, capture_output=True, text=True, timeout=MOST_SECONDS)
    if done.returncode:
        raise RuntimeError(f"{name} failed: {done.stderr[-3000:]}")
    if left := sum(entry.lag for entry in lag(settings.kafka())):
        raise RuntimeError(f"{name} left {left} messages: {done.stderr[-3000:]}")
    figures = json.loads(done.stdout.splitlines()[-1])
    return figures["per_minute"], figures["peak_mib"]


def contenders(base: Settings, python: Path, batches: int) -> dict[str, Contender]:
    """Set up and return ours and the peers, each with its own namespace."""
    found: dict[str, Contender] = {}
    for name in (OURS, OURS_IN_LANES, *PEERS):
        namespace = name.replace("_", "-")
        update = {"namespace": namespace, "data_dir": base.data_dir / namespace, "slots_per_run": 2 * batches}
        # A lane that has processed its share ends at once.
        lanes = {"lanes": base.kafka_partitions if name == OURS_IN_LANES else 1, "idle": 0.2}
        settings = base.model_copy(update={**update, **lanes})
        provision(settings)
        drain = partial(through_peer, python, name) if name in PEERS else run_lanes
        found[name] = Contender(settings, drain, PART_ONE_BY_ONE if name == "one_by_one" else 1)
    return found


def judge(name: str, settings: Settings) -> int:
    """Return the number of differences that the audit finds.

    Raises:
        RuntimeError: There are differences; the rate of wrong results would be meaningless.
    """
    found = audit(settings).differences
    if found:
        raise RuntimeError(f"{name}: the audit finds {len(found)} differences, such as: {found[0]}")
    return len(found)


def run(quick: bool, say: Callable[[str], None]) -> Outcome:
    """Measure all ways in turns, and check the results."""
    rounds, batches = (2, 24) if quick else (5, 256)
    python = interpreter(say)
    with servers(say) as base:
        own = contenders(base, python, batches)
        records = traffic((rounds + 1) * batches * BATCH, seed=5, profile=FIRST)
        for number in range(rounds + 1):
            turn = list(islice(records, batches * BATCH))
            # Alternate the direction, so that work left over for the servers does not always slow the same way.
            for name in list(own)[:: -1 if number % 2 else 1]:
                own[name].round(turn)
                say(f"round {number} {name}: {own[name].rates[-1]:,.0f} messages/min")
        differences = 0
        for name, contender in own.items():
            differences += judge(name, contender.settings)
            say(f"{name}: the audit finds no difference")
    # The first round is not counted: Elasticsearch is still compiling its code, whoever has the turn.
    return outcome({name: contender.rates[1:] for name, contender in own.items()}, own, differences)


def outcome(rates: dict[str, list[float]], own: dict[str, Contender], differences: int) -> Outcome:
    """Return the table, the figures and the plot."""
    rounds = len(rates[OURS])
    medians = {name: median(found) for name, found in rates.items()}
    ratios = {
        (mine, name): median([a / b for a, b in zip(rates[mine], rates[name])])
        for mine in (OURS, OURS_IN_LANES)
        for name in PEERS
    }
    rows: list[list[object]] = []
    for name, found in rates.items():
        against = [f"{ratios[mine, name]:.2f}" if name in PEERS else "" for mine in (OURS, OURS_IN_LANES)]
        rows.append([LABELS[name], *(round(rate) for rate in (*found, medians[name])), *against, max(own[name].peaks)])
    figures: dict[str, float] = {f"{name}_per_minute": rate for name, rate in medians.items()}
    figures |= {f"{mine}_ratio_to_{name}": ratio for (mine, name), ratio in ratios.items()}
    return Outcome(
        title="peers: messages a minute, the same stages and stores driven in other ways",
        columns=["", *(f"round {n + 1}" for n in range(rounds)), "median", "one lane ÷ it", "lanes ÷ it", "peak, MiB"],
        rows=rows,
        figures={**figures, "differences": differences},
        plot=Plot(
            "round",
            "messages a minute",
            {LABELS[name]: [(float(n + 1), rate) for n, rate in enumerate(found)] for name, found in rates.items()},
        ),
    )
