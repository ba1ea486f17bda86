"""Wait for processes, delay Ctrl-C, and make child processes end with their parent."""

from __future__ import annotations

import ctypes
import os
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

import psutil

POLL_SECONDS = 0.1


def is_alive(process: psutil.Process) -> bool:
    """Return whether a process runs; a zombie does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_for_end(processes: Collection[psutil.Process], seconds: float) -> None:
    """Wait at most `seconds` until all processes have ended."""
    deadline = time.monotonic() + seconds
    while any(map(is_alive, processes)) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)


@contextmanager
def interrupts_delayed() -> Iterator[None]:
    """Delay Ctrl-C until the block has ended: an interruption would leave a process behind that is not recorded."""
    if threading.current_thread() is not threading.main_thread():  # Ctrl-C interrupts the main thread only
        yield
        return
    held: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: held.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if held:
            signal.raise_signal(signal.SIGINT)


def dying_with_parent() -> Callable[[], None]:
    """Return the function for a child to run before its program: Linux then kills it when its parent thread ends."""
    set_parent_death_signal, prctl, parent = 1, ctypes.CDLL(None).prctl, os.getpid()

    def ask() -> None:
        prctl(set_parent_death_signal, signal.SIGKILL)
        if os.getppid() != parent:  # the parent has ended already
            os._exit(1)

    return ask
