"""A server that was killed a moment ago: its main thread is gone, and others still hold its port and its files."""

from __future__ import annotations

import subprocess
import sys

import psutil
import pytest

from truepixel_dagster.local.stack import has_ended

MAIN_THREAD_ENDS = """
import ctypes, threading, time, sys
threading.Thread(target=time.sleep, args=(float(sys.argv[1]),)).start()
print("ready", flush=True)
ctypes.CDLL(None).pthread_exit(None)
"""


def ending(seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", MAIN_THREAD_ENDS, str(seconds)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert child.stdout
    assert child.stdout.readline() == "ready\n"
    while psutil.Process(child.pid).status() != psutil.STATUS_ZOMBIE:
        pass
    return child


@pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux shows the threads of a process whose main thread is gone"
)
def test_it_is_waited_for_until_its_last_thread_ends() -> None:
    with ending(1.0) as child:
        assert child.poll() is None
        assert has_ended(psutil.Process(child.pid), 20)
        assert child.wait(5) is not None


def test_a_process_that_runs_has_not_ended() -> None:
    assert not has_ended(psutil.Process(), 0)


def test_one_that_is_gone_has_ended() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    process = psutil.Process(child.pid)
    child.wait()
    assert has_ended(process, 0)
