"""The collector as a process of its own, with one connected shop."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from truepixel_dagster.instance.process import environment
from truepixel_dagster.local.chaos.waiting import ChaosFailed, until
from truepixel_dagster.local.processes import dying_with_parent
from truepixel_dagster.settings import Settings
from truepixel_dagster.stores.connections import Connection, Secret, change
from truepixel_dagster.stores.mongodb import MongoStore

SHOP, DOMAIN, TOKEN = "548380009", "toys.myshopify.com", "tp_toys"
APP_SECRET = b"shpss_app-secret"
START_SECONDS = 60.0


class Answered(NamedTuple):
    """Hold a response and the seconds that it took."""

    status: int
    headers: dict[str, str]
    body: bytes
    seconds: float

    @property
    def json(self) -> Any:
        """Return the parsed body."""
        return json.loads(self.body)


class CollectorProcess:
    """Control a running collector.

    Attributes:
        process: The process.
        port: Where it listens on loopback.
        lines: The lines that it has printed.
    """

    def __init__(self, process: subprocess.Popen[str], port: int, lines: list[str]) -> None:
        self.process = process
        self.port = port
        self.lines = lines

    def ask(self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> Answered:
        """Send one request on a connection of its own."""
        began = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, body or None, headers or {})
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Answered(answer.status, found, answer.read(), time.monotonic() - began)
        finally:
            connection.close()

    def metrics(self) -> dict[str, float]:
        """Return the metrics by name and labels, without their common prefix."""
        text = self.ask("GET", "/metrics").body.decode()
        lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
        return {name.removeprefix("truepixel_collector_"): float(value) for name, _, value in lines}

    def is_drained(self) -> bool:
        """Return whether the journal is empty."""
        return self.metrics()["journal_records"] == 0

    def kill(self) -> None:
        """Send SIGKILL and wait for the end."""
        self.process.kill()
        self.process.wait()

    def end(self, seconds: float = 30) -> int:
        """Send SIGTERM and return the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)


def connect(settings: Settings, shop: str = SHOP, domain: str = DOMAIN, token: str = TOKEN, *own: Secret) -> None:
    """Connect a shop, so that collectors accept its webhooks and pixel events."""
    with closing(MongoStore(settings.mongodb())) as store:
        change(store, shop, lambda _: Connection(domain, token, 1, own))


def with_app_secret(settings: Settings, folder: Path, **update: Any) -> Settings:
    """Return the settings of a collector that accepts `APP_SECRET`, which is written to a file in `folder`."""
    file = folder / "app-secrets"
    file.write_bytes(APP_SECRET + b"\n")
    return settings.model_copy(update={"collector_app_secrets_file": str(file), **update})


@contextmanager
def running(settings: Settings, *arguments: str, port: int = 0, ready: bool = True) -> Iterator[CollectorProcess]:
    """Run a collector; kill it at the end of the block if it still runs.

    Arguments:
        settings: The collector's settings.
        *arguments: More arguments of its command.
        port: The port to listen on; 0 for any free one.
        ready: Whether to wait until it is ready.

    Raises:
        ChaosFailed: It does not start.
    """
    command = [sys.executable, "-m", "truepixel_dagster.cli", "collector", "--port", str(port), *arguments]
    process = subprocess.Popen(
        command, env=variables(settings), stderr=subprocess.PIPE, text=True, preexec_fn=dying_with_parent()
    )
    lines: list[str] = []
    reader = threading.Thread(target=_read, args=(process, lines), daemon=True)
    reader.start()
    try:
        until(lambda: _is_listening(lines) or process.poll() is not None, START_SECONDS, "the collector's start")
        line = next((line for line in lines if "listening at" in line), None)
        if line is None:
            raise ChaosFailed("the collector did not start: " + "".join(lines))
        collector = CollectorProcess(process, int(line.split(";")[0].rpartition(":")[2]), lines)
        if ready and "https" not in line:
            until(lambda: collector.ask("GET", "/readyz").status == 200, START_SECONDS, "the collector to be ready")
        yield collector
    finally:
        process.kill()
        process.wait()
        reader.join(5)


def variables(settings: Settings) -> dict[str, str]:
    """Return the environment of a process with these settings."""
    return {**environment(settings), "PYTHONUNBUFFERED": "1", "COLUMNS": "300"}


def _is_listening(lines: list[str]) -> bool:
    return any("listening at" in line for line in lines)


def _read(process: subprocess.Popen[str], lines: list[str]) -> None:
    if process.stderr:
        lines.extend(process.stderr)
