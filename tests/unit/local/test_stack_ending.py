"""A server that was just killed: its main thread has ended, and other threads still hold its port and files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from truepixel_dagster.local.server_processes import ServerProcesses
from truepixel_dagster.local.stack import Stack
from truepixel_dagster.settings import Settings

MAIN_THREAD_ENDS = """
import ctypes, threading, time, sys
threading.Thread(target=time.sleep, args=(float(sys.argv[1]),)).start()
print("ready", flush=True)
ctypes.CDLL(None).pthread_exit(None)
"""


def ending(seconds: float) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", MAIN_THREAD_ENDS, str(seconds)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert child.stdout
    assert child.stdout.readline() == b"ready\n"
    while psutil.Process(child.pid).status() != psutil.STATUS_ZOMBIE:
        pass
    return child


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows a process whose main thread is gone")
def test_an_ending_server_is_missing_although_it_still_has_a_process(tmp_path: Path) -> None:
    stack, processes = Stack(Settings(data_dir=tmp_path)), ServerProcesses(tied_to_parent=False)
    server = next(each for each in stack.servers if each.name == "mongodb")
    with ending(1.0) as child:
        server.folder.mkdir(parents=True)
        server.pid_file.write_text(str(child.pid))
        processes._children[server] = child
        assert child.poll() is None
        assert not processes.is_there(server)


def test_a_running_server_is_there(tmp_path: Path) -> None:
    stack, processes = Stack(Settings(data_dir=tmp_path)), ServerProcesses(tied_to_parent=False)
    server = next(each for each in stack.servers if each.name == "mongodb")
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1)"]) as child:
        server.folder.mkdir(parents=True)
        server.pid_file.write_text(str(child.pid))
        processes._children[server] = child
        assert processes.is_there(server)
