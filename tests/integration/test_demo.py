"""The demo as a process: README's example, a killed server, and its end."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.integration.test_own_servers import bare
from truepixel_dagster.instance.process import ROOT
from truepixel_dagster.local.programs import end_tree

SECONDS = 240.0


class Demo:
    """A running demo, and the lines that it has printed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "truepixel_dagster.cli", "demo", "--rate", "40"],
            cwd=folder,
            env=bare(COLUMNS="200", PYTHONUNBUFFERED="1", PYTHONPATH=str(ROOT)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def until(self, words: str, after: int = 0) -> str:
        """Wait for a line with these words, beyond the first `after` lines."""
        end = time.monotonic() + SECONDS
        while not (found := [line for line in self.lines[after:] if words in line]):
            assert self.process.poll() is None, "".join(self.lines)
            assert time.monotonic() < end, f"no line with {words!r}:\n{''.join(self.lines)}"
            time.sleep(0.2)
        return found[0]

    def end_of_lines(self) -> None:
        """Wait until all lines of a demo that has ended are read."""
        self._reader.join(30)

    def _read(self) -> None:
        assert self.process.stdout
        self.lines.extend(self.process.stdout)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """A demo in a folder of its own, which has the script that README names."""
    folder = tmp_path_factory.mktemp("demo")
    script = folder / "run"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m truepixel_dagster.cli "$@"\n')
    script.chmod(0o755)
    found = Demo(folder)
    found.until("Ctrl-C ends everything")
    yield found
    end_tree(found.process)


def test_set_up_reports_each_step_while_it_runs(demo: Demo) -> None:
    for words in (
        "starting Kafka",
        "creating topics",
        "starting the collector",
        "starting Dagster's UI",
        "the report:",
    ):
        assert demo.until(words)


@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("openssl")), reason="needs curl and openssl")
def test_readmes_signed_webhook_is_in_the_report(demo: Demo) -> None:
    found = re.search(r"```sh\n(\. \.truepixel/demo/env\n.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert found, "README has no example that begins with the demo's environment"
    command, _, report = found[1].rpartition("\n./run report")
    sent = shell(demo, command)
    assert "HTTP/1.1 200" in sent
    end = time.monotonic() + SECONDS
    while "direct" not in (printed := shell(demo, f". .truepixel/demo/env\n./run report{report}")):
        assert time.monotonic() < end, printed
        time.sleep(1)
    assert "20.00" in printed


def test_a_killed_server_is_named_started_again_and_the_demo_continues(demo: Demo) -> None:
    for server, title in (("mongodb", "MongoDB"), ("redis", "Redis (Valkey)")):
        so_far = len(demo.lines)
        pid_file = demo.folder / ".truepixel" / "demo" / "stack" / server / "server.pid"
        psutil.Process(int(pid_file.read_text())).kill()
        assert "the end of" in demo.until(f"{title} on 127.0.0.1", so_far)
        demo.until(f"starting {title}: done", so_far)


def test_a_killed_collector_is_started_again(demo: Demo) -> None:
    so_far = len(demo.lines)
    family = psutil.Process(demo.process.pid).children(recursive=True)
    (collector,) = [child for child in family if " collector " in command_of(child.pid)]
    collector.kill()
    demo.until("the collector has died", so_far)
    demo.until("the collector acknowledges again", so_far)


def test_the_end_says_where_the_report_is(demo: Demo) -> None:
    assert demo.process.poll() is None
    demo.process.terminate()
    demo.process.wait(SECONDS)
    demo.end_of_lines()
    (line,) = [line for line in demo.lines if "the report of this demo: " in line]
    report = Path(line.partition("the report of this demo: ")[2].strip()).read_text()
    assert "orders by last_click" in report
    assert not [pid for pid in psutil.pids() if str(demo.folder) in command_of(pid)]


def command_of(pid: int) -> str:
    try:
        return " ".join(psutil.Process(pid).cmdline())
    except psutil.Error:
        return ""


def shell(demo: Demo, command: str) -> str:
    """Return the output of a command in another terminal, in the same folder."""
    done = subprocess.run(
        ["sh", "-c", command],
        cwd=demo.folder,
        env=bare(PYTHONPATH=str(ROOT), COLUMNS="120"),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    return done.stdout + done.stderr
