"""Waits for what other processes and servers do."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
_LONGEST_PAUSE = 0.5


def until(condition: Callable[[], T], seconds: float = 60, state: Callable[[], object] = str) -> T:
    """Return the result of a condition once it is true.

    Arguments:
        condition: Called again and again.
        seconds: The time after which the test fails.
        state: Returns what a failure shows.
    """
    end, pause = time.monotonic() + seconds, 0.02
    while not (found := condition()):
        assert time.monotonic() < end, f"nothing for {seconds} s: {state()}"
        time.sleep(pause)
        pause = min(1.5 * pause, _LONGEST_PAUSE)
    return found
