"""Dagster's home on this machine, the environment of Dagster's processes, and a run in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

from pydantic import SecretStr

from truepixel_dagster.private_files import UMASK, open_private, private_folder, tighten
from truepixel_dagster.settings import SECRETS_DIR, Settings

# What holds the package: a checkout, or an environment's site-packages.
ROOT = Path(__file__).resolve().parents[2]
INSTANCE = files("truepixel_dagster.instance")
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
    """Return the environment of a Dagster process with these settings.

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
