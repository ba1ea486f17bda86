"""A `.env` in the project's folder that names other servers: programs with other settings do not touch those servers.

The others are sockets that listen on loopback and note connections. The project is a copy, because its `.env` is also
used by the developer who works in the folder while the tests run.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.driving import send
from truepixel_dagster.instance.process import ROOT
from truepixel_dagster.local.programs import end_tree
from truepixel_dagster.local.traffic import FIRST, traffic
from truepixel_dagster.settings import Settings
from truepixel_dagster.stream.topics import lag

CODE = ("truepixel_dagster", "assets", "sensors", "benchmarks", "tests", "deploy", "docs")
FILES = ("dagster.yaml", "workspace.yaml", "pyproject.toml", "README.md", "CHANGELOG.md")
SECONDS = 400


class Others:
    """Servers that no setting names: sockets that accept connections, and note which server each was meant for."""

    NAMES = ("kafka", "elasticsearch", "mongodb", "redis", "postgres", "webhook")

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.sockets = {name: socket.create_server(("127.0.0.1", 0)) for name in self.NAMES}
        for name, server in self.sockets.items():
            threading.Thread(target=self._take, args=(name, server), daemon=True).start()

    def _take(self, name: str, server: socket.socket) -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            self.seen.append(name)
            connection.close()

    def close(self) -> None:
        for server in self.sockets.values():
            server.shutdown(socket.SHUT_RDWR)
            server.close()

    def settings(self) -> dict[str, str]:
        """Settings that name them."""
        at = {name: f"127.0.0.1:{server.getsockname()[1]}" for name, server in self.sockets.items()}
        return {
            "TRUEPIXEL_NAMESPACE": "production",
            "TRUEPIXEL_KAFKA_BOOTSTRAP": at["kafka"],
            "TRUEPIXEL_ELASTICSEARCH_URL": f"http://{at['elasticsearch']}",
            "TRUEPIXEL_MONGODB_URL": f"mongodb://{at['mongodb']}",
            "TRUEPIXEL_REDIS_URL": f"redis://{at['redis']}/0",
            "TRUEPIXEL_POSTGRES_URL": f"postgresql+psycopg2://truepixel@{at['postgres']}/truepixel",
            "TRUEPIXEL_ALERT_WEBHOOK_URL": f"http://{at['webhook']}/",
        }


@pytest.fixture
def others() -> Iterator[Others]:
    found = Others()
    yield found
    assert found.seen == []
    with socket.create_connection(found.sockets["kafka"].getsockname()):  # the sockets do accept connections
        while not found.seen:
            time.sleep(0.01)
    found.close()


@pytest.fixture
def project(tmp_path: Path, others: Others) -> Path:
    """A copy of the project whose `.env` names the others, another lake, and another home of Dagster."""
    folder = tmp_path / "project"
    for name in CODE:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy(ROOT / name, folder)
    production = folder / "production"
    named = {**others.settings(), "DAGSTER_HOME": str(production), "TRUEPIXEL_LAKE_URL": str(production / "lake")}
    (folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in named.items()))
    return folder


@pytest.fixture
def folder_of_somebody(project: Path) -> Path:
    """The copy for Dagster's own commands, which take their home from `.env` before our code runs."""
    file = project / ".env"
    file.write_text("".join(line for line in file.read_text().splitlines(keepends=True) if "DAGSTER_HOME" not in line))
    return project


def bare(**variables: str) -> dict[str, str]:
    """The environment with these settings and no others."""
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith(("TRUEPIXEL_", "DAGSTER"))}
    return {**kept, **variables}


def run(folder: Path, *command: str, **variables: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        env=bare(**variables),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    assert not (folder / "production").exists()
    return done.stdout


def given(settings: Settings, folder: Path) -> dict[str, str]:
    """The variables in a shell that name servers and namespace."""
    return {
        "TRUEPIXEL_NAMESPACE": settings.namespace,
        "TRUEPIXEL_KAFKA_BOOTSTRAP": settings.kafka_bootstrap,
        "TRUEPIXEL_ELASTICSEARCH_URL": settings.elasticsearch_url,
        "TRUEPIXEL_MONGODB_URL": settings.mongodb_url.get_secret_value(),
        "TRUEPIXEL_REDIS_URL": settings.redis_url.get_secret_value(),
        "TRUEPIXEL_POSTGRES_URL": "",
        "TRUEPIXEL_ALERT_WEBHOOK_URL": "",
        "TRUEPIXEL_DATA_DIR": str(folder / "data"),
        "TRUEPIXEL_IDLE": "0.5",
    }


def test_the_demo_works_on_its_own_servers_alone(project: Path) -> None:
    report = project / "report.json"
    run(project, "truepixel_dagster.cli", "demo", "--no-ui", "--events", "300", "--json", str(report))
    found = json.loads(report.read_text())
    assert (found["produced"], found["lag"]) == (300, 0)


def test_chaos_works_on_its_own_servers_alone(project: Path) -> None:
    report = project / "report.json"
    run(project, "truepixel_dagster.cli", "chaos", "--rounds", "1", "--seed", "2", "--json", str(report))
    found = json.loads(report.read_text())
    assert (found["lost"], found["doubled"], found["differences"], found["not_recovered"]) == (0, 0, 0, 0)
    assert found["indexed"] > 0


def test_benchmarks_work_on_their_own_servers_alone(project: Path) -> None:
    run(project, "benchmarks", "flush", "--quick")


def test_the_tests_work_on_their_own_servers_alone(project: Path) -> None:
    run(project, "pytest", "--collect-only", "-q", "tests/crash", "tests/browser", "tests/integration")
    output = run(project, "pytest", "-q", "tests/integration/test_searches.py", "tests/unit/test_settings.py")
    assert " passed" in output


def test_drain_works_on_the_namespace_and_servers_of_its_environment(project: Path, settings: Settings) -> None:
    send(settings, [(r.key, r.value, r.headers) for r in traffic(200, seed=3, shops=2, profile=FIRST)])
    output = run(project, "truepixel_dagster.cli", "drain", "--json", **given(settings, project))
    assert json.loads(output)["messages"] == 200
    assert sum(entry.committed or 0 for entry in lag(settings.kafka())) == 200


def test_a_job_started_by_hand_uses_the_shells_variables(folder_of_somebody: Path, settings: Settings) -> None:
    send(settings, [(r.key, r.value, r.headers) for r in traffic(200, seed=3, shops=2, profile=FIRST)])
    job = ("dagster", "job", "execute", "-m", "truepixel_dagster.definitions", "-j", "process_events")
    run(folder_of_somebody, *job, **given(settings, folder_of_somebody), DAGSTER_HOME=str(home(folder_of_somebody)))
    assert sum(entry.committed or 0 for entry in lag(settings.kafka())) == 200


@pytest.mark.parametrize("with_home", [pytest.param(True, marks=pytest.mark.slow), False])
def test_dagster_dev_started_by_hand_uses_the_shells_variables(
    folder_of_somebody: Path, settings: Settings, with_home: bool
) -> None:
    """UI, daemon, sensor, code server and workers: all of them."""
    send(settings, [(r.key, r.value, r.headers) for r in traffic(200, seed=3, shops=2, profile=FIRST)])
    at_home = {"DAGSTER_HOME": str(home(folder_of_somebody))} if with_home else {}
    log = folder_of_somebody / "dev.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "dagster", "dev", "-h", "127.0.0.1", "-p", "0"],
            cwd=folder_of_somebody,
            env=bare(**given(settings, folder_of_somebody), **at_home),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        end = time.monotonic() + SECONDS
        while sum(entry.committed or 0 for entry in lag(settings.kafka())) < 200:
            assert process.poll() is None, log.read_text()[-6000:]
            assert time.monotonic() < end, log.read_text()[-6000:]
            time.sleep(1)
    finally:
        end_tree(process)


def home(project: Path) -> Path:
    """A home of Dagster's with the project's own file."""
    folder = project / "home"
    folder.mkdir()
    shutil.copy(ROOT / "dagster.yaml", folder)
    return folder
