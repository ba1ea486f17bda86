"""Prepare Dagster's home on this machine and the environment of its processes, and start runs as processes."""

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

# The folder of the package: a checkout, or an environment's site-packages.
ROOT = Path(__file__).resolve().parents[2]
INSTANCE = files("truepixel_dagster.instance")
# Added to dagster.yaml in Dagster's home, not to the package's dagster.yaml: the storage needs an absolute folder.
POOLED_EVENT_LOG = """
event_log_storage:
  module: truepixel_dagster.instance.event_log
  class: PooledSqliteEventLogStorage
  config:
    base_dir: {home}
"""
# The address may contain a password, so it is not written to files.
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
    """Dagster's home cannot be written. The message names the folder, the reason and the next step."""


def dagster_home(settings: Settings) -> Path:
    """Return Dagster's home on this machine: logs, dagster.yaml and, unless PostgreSQL has it, the history of runs.

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
    """Report in one line that Dagster's home cannot be written: it is read-only, or its disk is full."""
    from sqlalchemy.exc import DatabaseError  # Dagster's own

    try:
        yield
    except (OSError, DatabaseError) as error:
        reason = getattr(error, "strerror", None) or getattr(error, "orig", None) or error
        raise HomeUnusable(
            f"Dagster's home {home} cannot be written: {reason}. Free space on its disk, give this user write"
            " permission, or set TRUEPIXEL_DATA_DIR to another folder"
        ) from error


def make_history(settings: Settings) -> None:
    """Create Dagster's files if they do not exist: processes that create them at the same time disturb each other.

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

    Start such a process in its `DAGSTER_HOME`: in another folder, Dagster would let a `.env` override the environment.
    """
    own = {"DAGSTER_HOME": str(dagster_home(settings))}
    for name, value in settings:
        # An empty variable means unset, and keeps a `.env` from setting it.
        plain = value.get_secret_value() if isinstance(value, SecretStr) else str("" if value is None else value)
        own[f"TRUEPIXEL_{name.upper()}"] = plain
    # One arena for each core is enough: more arenas only fragment the memory.
    own["MALLOC_ARENA_MAX"] = "2"
    # With this, a crash in native code logs its position; otherwise nothing is logged.
    own["PYTHONFAULTHANDLER"] = "1"
    # Processes in any folder use the code of this checkout; an installed package needs no path.
    if (ROOT / "pyproject.toml").exists():
        own["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    if folder := os.environ.get(SECRETS_DIR):
        own[SECRETS_DIR] = str(Path(folder).absolute())
    # Variable names are case-insensitive.
    return {name: value for name, value in os.environ.items() if name.upper() not in own} | own


def execute(settings: Settings, job: str, tags: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    """Start a run of a job as a process; append its output to a file, after the output of earlier tries."""
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
    """End the processes when the block ends, even by an error."""
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
