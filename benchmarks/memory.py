"""What workers hold over a million messages: their resident memory over time, and the slope of it within a run."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import psutil

from benchmarks.outcome import Outcome, Plot, median
from benchmarks.servers import servers
from truepixel_dagster.jobs.drain import ended, execute
from truepixel_dagster.local.demo import produce
from truepixel_dagster.provision import provision
from truepixel_dagster.settings import Settings
from truepixel_dagster.stream.producer import EventProducer
from truepixel_dagster.stream.topics import lag

MIB = 2**20
# The first part of a run is connections, and buffers and caches that fill.
WARM_UP = 0.2


# A letter repeated would be compressed to nothing, and a small buffer of the client hold hundreds of such messages.
FILLER = random.Random(1).randbytes(64 * 1024).hex().encode()


def usual(settings: Settings, messages: int) -> None:
    """Believable traffic."""
    produce(settings, messages, seed=5)


def half_duplicates(settings: Settings, messages: int) -> None:
    """Every second record repeats an event id."""
    produce(settings, messages, seed=5, duplicates=0.5)


def hot_user(settings: Settings, messages: int) -> None:
    """One user sends everything."""
    with EventProducer(settings) as producer:
        for number in range(messages):
            producer.send(b"shop:hot", _view(number, 300), ())


def large(settings: Settings, messages: int) -> None:
    """64 KiB a message, so that micro-batches meet their bound of bytes."""
    with EventProducer(settings) as producer:
        for number in range(messages):
            producer.send(f"shop:c{number % 1000}".encode(), _view(number, 64 * 1024), ())


def _view(number: int, size: int) -> bytes:
    head = b'{"id":"e%d","name":"page_viewed","clientId":"c","timestamp":"2026-01-05T12:00:00.000Z","filler":"' % number
    at = number % 1000
    return head + FILLER[at : at + max(0, size - len(head) - 2)] + b'"}'


VARIANTS: dict[str, tuple[Callable[[Settings, int], None], float]] = {
    "usual": (usual, 1.0),
    "half duplicates": (half_duplicates, 0.2),
    "one hot user": (hot_user, 0.1),
    "64 KiB messages": (large, 0.02),
}


def watch(settings: Settings) -> list[tuple[float, float]]:
    """One run through Dagster: its memory (MiB) by the number of messages that it has committed."""
    log = settings.data_dir / "logs" / "memory.log"
    before = _committed(settings)
    run = execute(settings, "process_events", {}, log)
    worker = psutil.Process(run.pid)
    points = []
    with ended([run]):
        while run.poll() is None:
            try:
                points.append((_committed(settings) - before, worker.memory_info().rss / MIB))
            except psutil.NoSuchProcess:
                break
            time.sleep(1)
    if run.wait() != 0:
        raise RuntimeError(f"the run failed: {log.read_text()[-3000:]}")
    return points


def _committed(settings: Settings) -> float:
    return float(sum(entry.committed or 0 for entry in lag(settings)))


def slope(runs: list[list[tuple[float, float]]]) -> float:
    """MiB per 100,000 messages of a run after its warm-up, by least squares; the median of the runs."""
    found = []
    for points in runs:
        warm = [(x, y) for x, y in points if x > WARM_UP * points[-1][0]]
        if len({x for x, _ in warm}) >= 3:
            x, y = np.array(warm).T
            found.append(float(np.polyfit(x, y, 1)[0] * 100_000))
    return median(found)


def run(quick: bool, say: Callable[[str], None]) -> Outcome:
    """Each variant on servers of its own."""
    total = 100_000 if quick else 1_000_000
    rows: list[list[Any]] = []
    lines: dict[str, list[tuple[float, float]]] = {}
    figures: dict[str, float] = {}
    for name, (send, share) in VARIANTS.items():
        messages = int(total * share)
        runs: list[list[tuple[float, float]]] = []
        points: list[tuple[float, float]] = []
        with servers(say) as settings:
            provision(settings)
            say(f"{name}: {messages:,} messages")
            send(settings, messages)
            while sum(entry.lag for entry in lag(settings)):
                seen = points[-1][0] if points else 0.0
                runs.append(watch(settings))
                points += [(seen + x, y) for x, y in runs[-1]]
        lines[name] = points
        peak, grows = max(y for _, y in points), slope(runs)
        rows.append([name, f"{messages:,}", peak, f"{grows:.2f}"])
        key = name.replace(" ", "_")
        figures |= {f"peak_mib_{key}": peak, f"slope_{key}": grows}
    return Outcome(
        title="memory: a worker's resident memory",
        columns=["variant", "messages", "peak, MiB", "MiB per 100,000 messages of a run"],
        rows=rows,
        figures=figures,
        plot=Plot("messages", "MiB", lines, {"200 MiB": 200}),
    )
