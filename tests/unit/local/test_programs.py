"""A program of the demo ends with everything that it started, even if the user does not wait for it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from truepixel_dagster.local.programs import Program, end_tree

# It starts a child, and both ignore Ctrl-C.
STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
time.sleep(600)
"""


def test_a_second_ctrl_c_while_a_program_ends_leaves_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = Program("it", [sys.executable, "-c", STUBBORN], os.environ, tmp_path, tmp_path / "log")
    while not (text := program.log.read_text()):
        time.sleep(0.01)
    child, wait = psutil.Process(int(text)), subprocess.Popen.wait

    def interrupted(process: subprocess.Popen[bytes], timeout: float | None = None) -> int:
        if timeout is not None:
            raise KeyboardInterrupt
        return wait(process)

    monkeypatch.setattr(subprocess.Popen, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        end_tree(program.process)
    assert program.process.poll() is not None
    child.wait(10)
