"""Work the topic off through Dagster, without a daemon: one run after the other for each lane, until no lag is left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.resources import files
from pathlib import Path

from pydantic import SecretStr

from truepixel_dagster.asset_keys import LANE_TAG, LANES_TAG, TRIGGER_TAG
from truepixel_dagster.instance.history import check_history
from truepixel_dagster.private_files import UMASK, open_private, private_folder, tighten
from truepixel_dagster.redis_state import check_applied
from truepixel_dagster.resources import missing_servers, open_stores
from truepixel_dagster.settings import SECRETS_DIR, Settings
from truepixel_dagster.source_log import checked
from truepixel_dagster.stores.epoch import StateLost
from truepixel_dagster.stores.errors import AccessDenied, Unavailable
from truepixel_dagster.stream.lane import partitions_of
from truepixel_dagster.stream.topics import PartitionLag, lag

# What holds the package: a checkout, or an environment's site-packages.
ROOT = Path(__file__).resolve().parents[2]
INSTANCE = files("truepixel_dagster.instance")
MAX_FAILURES = 3
# In Dagster's home on this machine, not in the package's dagster.yaml: the storage needs an absolute folder.
POOLED_EVENT_LOG = """
event_log_storage:
  module: truepixel_dagster.instance.event_log
  class: PooledSqliteEventLogStorage
  config:
    base_dir: {home}
"""
# The address may hold a password, and stays out of files.
POSTGRES = """
run_storage:
  module: dagster_postgres
  class: PostgresRunStorage
  config:
    postgres_url: {env: TRUEPIXEL_POSTGRES_URL}

schedule_storage:
  module: dagster_postgres
  class: PostgresScheduleStorage
  config:
    postgres_url: {env: TRUEPIXEL_POSTGRES_URL}

event_log_storage:
  module: truepixel_dagster.instance.postgres_event_log
  class: PooledPostgresEventLogStorage
  config:
    postgres_url: {env: TRUEPIXEL_POSTGRES_URL}
"""


class DrainFailed(Exception):
    """Runs failed; the message says where to look."""


class HomeUnusable(Exception):
    """Dagster's home cannot be written. The message says which folder it is, why, and what to do."""


def dagster_home(settings: Settings) -> Path:
    """Dagster's home on this machine: logs, dagster.yaml and, unless it is in PostgreSQL, the history of runs.

    Raises:
        HomeUnusable: It cannot be written.
    """
    home = settings.data_dir / "dagster"
    storage = POSTGRES if settings.postgres_url else POOLED_EVENT_LOG.format(home=json.dumps(str(home)))
    with _usable(home):
        private_folder(home)
        with open_private(home / "dagster.yaml", "w") as file:
            file.write((INSTANCE / "dagster.yaml").read_text() + storage)
    return home


@contextmanager
def _usable(home: Path) -> Iterator[None]:
    """Say in one line that Dagster's home cannot be written: it is read-only, or its disk is full."""
    from sqlalchemy.exc import DatabaseError  # Dagster's own

    try:
        yield
    except (OSError, DatabaseError) as error:
        reason = getattr(error, "strerror", None) or getattr(error, "orig", None) or error
        raise HomeUnusable(
            f"Dagster's home {home} cannot be written: {reason}. Free space on its disk, give this user the right to"
            " write there, or let TRUEPIXEL_DATA_DIR name another folder"
        ) from error


def make_history(settings: Settings) -> None:
    """Have Dagster make its files, if they are not there yet: processes that do so at once get in each other's way.

    Raises:
        HomeUnusable: Its home cannot be written.
    """
    import dagster as dg

    if settings.postgres_url is None:
        home = dagster_home(settings)
        with _usable(home):
            dg.DagsterInstance.from_config(str(home)).dispose()
        tighten(home)


def environment(settings: Settings) -> dict[str, str]:
    """The environment of a Dagster process that is to work with these settings.

    Such a process is to be started in its `DAGSTER_HOME`: Dagster would load the `.env` of a project's folder over it.
    """
    own = {"DAGSTER_HOME": str(dagster_home(settings))}
    for name, value in settings:
        # Empty is none, and keeps these settings from those of a `.env`.
        plain = value.get_secret_value() if isinstance(value, SecretStr) else str("" if value is None else value)
        own[f"TRUEPIXEL_{name.upper()}"] = plain
    # One arena for each core is enough: more only spread the same memory out.
    own["MALLOC_ARENA_MAX"] = "2"
    # A crash in native code says in the log where it was; else the process is only gone.
    own["PYTHONFAULTHANDLER"] = "1"
    # The code of this checkout, wherever the process works. An installed package is found without it.
    if (ROOT / "pyproject.toml").exists():
        own["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    if folder := os.environ.get(SECRETS_DIR):
        own[SECRETS_DIR] = str(Path(folder).absolute())
    # Variables are read in any case of letters.
    return {name: value for name, value in os.environ.items() if name.upper() not in own} | own


def drain(settings: Settings, on_lag: Callable[[int], None]) -> None:
    """Run lanes until the lag is 0.

    Arguments:
        settings: The pipeline's settings.
        on_lag: Told the lag, a few times a second.

    Raises:
        AccessDenied: A store does not let us in.
        DrainFailed: A lane failed three times in a row.
        HistoryUnavailable: Dagster's own storage does not answer.
        KafkaUnavailable: Kafka does not answer.
        LogChanged: The topic is not the log that was processed.
    """
    check_history(settings)
    make_history(settings)
    failures = 0
    while True:
        waiting = lag(settings)
        on_lag(sum(entry.lag for entry in waiting))
        _check_log(settings, waiting)
        # What retention has removed is a run's to count and to commit over.
        behind = {entry.partition for entry in waiting if entry.lag or entry.lost}
        shares = {lane: partitions_of(lane, settings.lanes, len(waiting)) for lane in range(settings.lanes)}
        lanes = [lane for lane, partitions in shares.items() if behind.intersection(partitions)]
        if not lanes:
            return
        # Runs would only be denied one after the other, and their logs say why.
        for error in missing_servers(settings):
            if isinstance(error, AccessDenied):
                raise error
        if _run_lanes(settings, lanes, on_lag):
            failures = 0
            continue
        failures += 1
        if failures == MAX_FAILURES:
            raise DrainFailed(
                f"runs failed {failures} times in a row; the last one says why: {_log(settings, lanes[0])}"
            )
        time.sleep(2**failures)


def _check_log(settings: Settings, partitions: Sequence[PartitionLag]) -> None:
    """Raise what a lane would say of the topic and of Redis; what else a store has to say its run says."""
    with open_stores(settings) as stores, suppress(Unavailable):
        try:
            log = checked(settings, stores, partitions)
            check_applied(settings, stores, log.committed(), log.base)
        except StateLost as lost:
            raise DrainFailed(str(lost)) from None


def execute(settings: Settings, job: str, tags: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    """Start one run of a job in a process of its own, its output at the end of a file: what a try before said stays."""
    command = [sys.executable, "-m", "dagster", "job", "execute", "-m", "truepixel_dagster.definitions", "-j", job]
    env = environment(settings)
    private_folder(log.parent)
    with open_private(log, "ab") as output:
        return subprocess.Popen(  # noqa: S603 (our own interpreter)
            [*command, "--tags", json.dumps(tags)],
            env=env,
            cwd=env["DAGSTER_HOME"],
            stdout=output,
            stderr=subprocess.STDOUT,
            umask=UMASK,
        )


@contextmanager
def ended(processes: Sequence[subprocess.Popen[bytes]]) -> Iterator[None]:
    """End the processes with the block, whatever ends it."""
    try:
        yield
    finally:
        for process in processes:
            if process.poll() is None:
                process.terminate()
        for process in processes:
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _run_lanes(settings: Settings, lanes: Sequence[int], on_lag: Callable[[int], None]) -> bool:
    tags = {LANES_TAG: str(settings.lanes), TRIGGER_TAG: "drain"}
    runs = [execute(settings, "process_events", {**tags, LANE_TAG: str(lane)}, _log(settings, lane)) for lane in lanes]
    with ended(runs):
        while any(run.poll() is None for run in runs):
            time.sleep(0.5)
            on_lag(sum(entry.lag for entry in lag(settings)))
    return all(run.returncode == 0 for run in runs)


def _log(settings: Settings, lane: int) -> Path:
    return settings.data_dir / "logs" / f"drain-lane-{lane}.log"
