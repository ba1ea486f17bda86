"""Charts drawn by another process: the same pictures, one line at a failure, and no process that remains."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import Any

import psutil
import pytest

from tests.unit.report.reports import report_of
from truepixel_dagster.report.charts import ON_WHITE, png, revenue_by_day, series_of, svg
from truepixel_dagster.report.drawing import NotDrawn, drawing

KILLED = """
import os, signal
from truepixel_dagster.report.drawing import drawing
with drawing() as draw:
    print(draw._process.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def spec() -> dict[str, Any]:
    data = report_of()
    return revenue_by_day(series_of(data.by_day, data.currency), data.currency, 640, ON_WHITE)


def children() -> list[psutil.Process]:
    """Return this process's drawing processes."""
    found = psutil.Process().children(recursive=True)
    return [each for each in found if "truepixel_dagster.report.drawing" in each.cmdline()]


def test_the_pictures_are_those_of_this_process(spec: dict[str, Any]) -> None:
    with drawing() as draw:
        assert draw.svg(spec) == svg(spec)
        assert draw.png(spec) == png(spec)
    assert children() == []


def test_an_invalid_chart_fails_alone(spec: dict[str, Any]) -> None:
    with drawing() as draw:
        with pytest.raises(NotDrawn, match=r"\Aa chart cannot be drawn: .*"):
            draw.svg({**spec, "mark": "nothing"})
        assert draw.svg(spec) == svg(spec)


def test_a_crash_of_the_process_is_one_clear_line(spec: dict[str, Any]) -> None:
    with drawing() as draw:
        (process,) = children()
        os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(NotDrawn, match=r"\Athe process that draws the charts has ended, with code -9\Z"):
            draw.svg(spec)


def test_an_interrupted_block_leaves_no_process() -> None:
    def interrupted() -> None:
        with drawing():
            (process,) = children()
            # A terminal sends it to both.
            os.kill(process.pid, signal.SIGINT)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert children() == []


def test_a_killed_run_leaves_no_process() -> None:
    run = subprocess.run([sys.executable, "-c", KILLED], stdout=subprocess.PIPE, text=True, check=False)
    assert run.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 30
    while psutil.pid_exists(int(run.stdout)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not psutil.pid_exists(int(run.stdout))
