"""Report long steps while they run, so that nobody waits in front of a silent terminal."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Say = Callable[[str], None]
#: Seconds between two lines about the same step.
EVERY = 5.0


@contextmanager
def step(say: Say, what: str, state: Callable[[], str] = str, *, every: float = EVERY) -> Iterator[None]:
    """Report a step at its start, every few seconds with the time that it has taken, and its duration at the end.

    Arguments:
        say: Prints a line.
        what: The step, such as `fetching kafka-4.4.0`.
        state: Returns how far the step is, such as `kafka-4.4.0: 21 of 43 MiB`; called from another thread.
        every: Seconds between two lines.
    """
    began = time.monotonic()
    ended = threading.Event()

    def report() -> None:
        while not ended.wait(every):
            say(f"{state() or what} ({time.monotonic() - began:.0f} s) …")

    say(f"{what} …")
    reporter = threading.Thread(target=report, name="step", daemon=True)
    reporter.start()
    try:
        yield
    finally:
        ended.set()
        reporter.join()
    say(f"{what}: done in {time.monotonic() - began:.1f} s")
