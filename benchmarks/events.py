"""Measure the cost of an event in Dagster's history: its own storages and the pooled ones, with the same events."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import dagster as dg

from benchmarks.outcome import Outcome, Plot, median
from benchmarks.servers import postgres
from truepixel_dagster.instance.process import POOLED_EVENT_LOG

STEPS = 50
PLUG_IN = "event_log_storage: {module: %s, class: %s, config: {postgres_url: '%s'}}\n"


@dg.op
def step() -> None:
    """Do nothing: only the step's events matter."""


@dg.job(executor_def=dg.in_process_executor, config={"loggers": {"console": {"config": {"log_level": "WARNING"}}}})
def steps() -> None:
    """Run many steps."""
    for number in range(STEPS):
        step.alias(f"step{number}")()


def events() -> Sequence[dg.EventLogEntry]:
    """Return the events of a run of many steps."""
    with dg.DagsterInstance.ephemeral() as instance:
        return instance.all_logs(steps.execute_in_process(instance=instance).run_id)


def milliseconds(instance: dg.DagsterInstance, entries: Sequence[dg.EventLogEntry]) -> float:
    """Return the mean time to store an event, as an event of a new run."""
    run_id = str(uuid.uuid4())
    of_run = [entry._replace(run_id=run_id) for entry in entries]
    began = time.perf_counter()
    for entry in of_run:
        instance.event_log_storage.store_event(entry)
    return (time.perf_counter() - began) * 1000 / len(of_run)


def opened(home: Path, storage: str) -> dg.DagsterInstance:
    """Return an instance with a separate event log."""
    home.mkdir()
    (home / "dagster.yaml").write_text(storage.replace("{home}", json.dumps(str(home))))
    return dg.DagsterInstance.from_config(str(home))


def run(quick: bool, say: Callable[[str], None]) -> Outcome:
    """Measure the storages in turns."""
    rounds = 3 if quick else 10
    entries = events()
    with ExitStack() as stack:
        settings = stack.enter_context(postgres(say))
        url = settings.postgres_url.get_secret_value() if settings.postgres_url else ""
        storages = {
            "SQLite": "",
            "SQLite, pooled": POOLED_EVENT_LOG,
            "PostgreSQL": PLUG_IN % ("dagster_postgres", "PostgresEventLogStorage", url),
            "PostgreSQL, pooled": PLUG_IN
            % ("truepixel_dagster.instance.postgres_event_log", "PooledPostgresEventLogStorage", url),
        }
        ways = {
            way: stack.enter_context(opened(settings.data_dir / f"home{number}", storage))
            for number, (way, storage) in enumerate(storages.items())
        }
        found: dict[str, list[float]] = {way: [] for way in ways}
        # One round more than is counted: the first one creates tables and warms caches.
        for number in range(rounds + 1):
            for way, instance in ways.items():
                each = milliseconds(instance, entries)
                say(f"round {number} {way}: {each:.2f} ms an event")
                if number:
                    found[way].append(each)
    rows = [[number + 1, *(f"{found[way][number]:.2f}" for way in ways)] for number in range(rounds)]
    rows.append(["median", *(f"{median(found[way]):.2f}" for way in ways)])
    return Outcome(
        title=f"events: milliseconds to store one, of {len(entries)} of a run",
        columns=["round", *ways],
        rows=rows,
        figures={way: median(found[way]) for way in ways},
        plot=Plot(
            "round", "ms an event", {way: [(float(n + 1), each) for n, each in enumerate(found[way])] for way in ways}
        ),
    )
