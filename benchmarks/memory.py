"""Measure the memory of workers over a million messages: resident memory over time, and its slope within a run."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
import psutil

from benchmarks.outcome import Outcome, Plot, median
from benchmarks.runs import RunFigures, all_reported
from benchmarks.servers import servers
from truepixel_dagster.local.demo import dagster_dev, free_port, produce
from truepixel_dagster.local.traffic import FIRST
from truepixel_dagster.provision import provision
from truepixel_dagster.settings import Settings
from truepixel_dagster.stream.producer import EventProducer
from truepixel_dagster.stream.topics import lag

MIB = 2**20
# Messages of a run: the warm-up, in which connections are made and caches fill, and the least number for a slope.
WARM_UP, ENOUGH = 26_000, 50_000


# A repeated letter would compress to almost nothing, and a small client buffer would hold hundreds of such messages.
FILLER = random.Random(1).randbytes(64 * 1024).hex().encode()


def usual(settings: Settings, messages: int) -> None:
    """Send realistic traffic."""
    produce(settings, messages, seed=5, profile=FIRST)


def half_duplicates(settings: Settings, messages: int) -> None:
    """Repeat an event id in every second record."""
    produce(settings, messages, seed=5, duplicates=0.5, profile=FIRST)


def hot_user(settings: Settings, messages: int) -> None:
    """Send all events as one user."""
    with EventProducer(settings.kafka()) as producer:
        for number in range(messages):
            producer.send(b"shop:hot", _view(number, 300), ())


def large(settings: Settings, messages: int) -> None:
    """Send messages of 64 KiB, so that micro-batches reach their limit of bytes."""
    with EventProducer(settings.kafka()) as producer:
        for number in range(messages):
            producer.send(f"shop:c{number % 1000}".encode(), _view(number, 64 * 1024), ())


def _view(number: int, size: int) -> bytes:
    head = b'{"id":"e%d","name":"page_viewed","clientId":"c","timestamp":"2026-01-05T12:00:00.000Z","filler":"' % number
    at = number % 1000
    return head + FILLER[at : at + max(0, size - len(head) - 2)] + b'"}'


class Reading(NamedTuple):
    """Hold a time (epoch seconds), the committed messages, and the memory of each process (MiB by its id)."""

    at: float
    committed: float
    resident: dict[int, float]


VARIANTS: dict[str, tuple[Callable[[Settings, int], None], float]] = {
    "usual": (usual, 1.0),
    "half duplicates": (half_duplicates, 1.0),
    "one hot user": (hot_user, 0.3),
    "64 KiB messages": (large, 0.02),
}


def watch(settings: Settings, total: int, say: Callable[[str], None]) -> tuple[list[Reading], list[RunFigures]]:
    """Drain a topic through the real sensor, daemon and launcher; return its processes' readings and the runs."""
    readings: list[Reading] = []
    with dagster_dev(settings, free_port(0)) as dagster:
        family = psutil.Process(dagster.pid)
        while (committed := sum(entry.committed or 0 for entry in lag(settings.kafka()))) < total:
            readings.append(Reading(time.time(), float(committed), _resident(family)))
            say(f"{committed:,} of {total:,} messages")
            time.sleep(1)
        return readings, all_reported(settings, total)


def _resident(family: psutil.Process) -> dict[int, float]:
    """Return the resident memory (MiB) of each process under Dagster's."""
    found = {}
    for process in family.children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            found[process.pid] = process.memory_info().rss / MIB
    return found


def of_run(run: RunFigures, readings: list[Reading]) -> list[tuple[float, float]]:
    """Return a worker's memory by committed messages, while it held the lane."""
    return [
        (reading.committed, reading.resident[run.pid])
        for reading in readings
        if run.taken <= reading.at <= run.given_back and run.pid in reading.resident
    ]


def slope(runs: list[list[tuple[float, float]]]) -> float:
    """Return the median of the runs' MiB per 100,000 messages after the warm-up, by least squares; NaN without runs."""
    found = []
    for points in runs:
        begins, ends = points[0][0] + WARM_UP, points[-1][0]
        if ends - begins >= ENOUGH:
            x, y = np.array([point for point in points if point[0] > begins]).T
            found.append(float(np.polyfit(x, y, 1)[0] * 100_000))
    return median(found) if found else math.nan


def run(quick: bool, say: Callable[[str], None]) -> Outcome:
    """Measure each variant on separate servers."""
    total = 100_000 if quick else 1_000_000
    rows: list[list[Any]] = []
    lines: dict[str, list[tuple[float, float]]] = {}
    figures: dict[str, float] = {}
    for name, (send, share) in VARIANTS.items():
        messages = int(total * share)
        with servers(say) as settings:
            provision(settings)
            say(f"{name}: {messages:,} messages")
            send(settings, messages)
            readings, done = watch(settings, messages, say)
        runs = [points for run in done if (points := of_run(run, readings))]
        lines[name] = [point for points in runs for point in points]
        # The kernel's own peak: readings miss memory that is used only between them.
        peak, grows = max(run.peak_mib for run in done), slope(runs)
        rows.append([name, f"{messages:,}", peak, "too short" if math.isnan(grows) else f"{grows:.2f}"])
        key = name.replace(" ", "_")
        figures[f"peak_mib_{key}"] = peak
        if not math.isnan(grows):
            figures[f"slope_{key}"] = grows
    return Outcome(
        title="memory: a worker's resident memory",
        columns=["variant", "messages", "peak, MiB", "MiB per 100,000 messages of a run"],
        rows=rows,
        figures=figures,
        plot=Plot("messages", "MiB", lines, {"200 MiB": 200}),
    )
