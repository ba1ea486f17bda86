"""Long steps are reported, and ended programs are named and restarted. No server is started here."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import pytest

from truepixel_dagster.local.programs import LINE_CHARACTERS, LOG_END_LINES, Program, log_end
from truepixel_dagster.local.steps import step


def test_a_step_is_reported_when_it_begins_while_it_runs_and_when_it_ends() -> None:
    lines: list[str] = []
    reported = threading.Event()

    def say(line: str) -> None:
        lines.append(line)
        if "3 of 9" in line:
            reported.set()

    with step(say, "fetching", lambda: "3 of 9", every=0.01):
        assert reported.wait(10)
    assert lines[0] == "fetching …"
    assert lines[1].startswith("3 of 9 (0 s)")
    assert lines[-1].startswith("fetching: done in ")


def test_a_step_that_fails_is_not_reported_as_done() -> None:
    lines: list[str] = []
    with pytest.raises(OSError, match="full"), step(lines.append, "fetching"):
        raise OSError("the disk is full")
    assert lines == ["fetching …"]


def test_a_program_that_died_is_named_with_the_end_of_its_log_and_started_again(tmp_path: Path) -> None:
    marker, lines = tmp_path / "ran", list[str]()
    code = "import pathlib, sys, time; p = pathlib.Path(sys.argv[1]); n = p.exists(); p.touch();"
    code += "time.sleep(600) if n else sys.exit('no space left')"
    command = [sys.executable, "-c", code, str(marker)]
    program = Program("the program", command, dict(os.environ), tmp_path, tmp_path / "logs" / "program.log")
    try:
        first = program.process
        first.wait(20)
        assert program.restart_if_dead(lines.append)
        assert lines[0].startswith("the program has died (exit code 1); the end of ")
        assert lines[1:] == ["  no space left", "starting the program again"]
        assert program.process.pid != first.pid
        assert not program.restart_if_dead(lines.append)
    finally:
        program.end()
    assert program.process.poll() is not None


def test_the_end_of_a_log_is_short(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("".join(f"{number} {'x' * 1000}\n" for number in range(100)))
    found = log_end(log).splitlines()
    assert len(found) == LOG_END_LINES
    assert found[-1].startswith("99 ")
    assert all(len(line) == LINE_CHARACTERS + 1 for line in found)
