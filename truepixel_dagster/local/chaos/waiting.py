"""Wait for what a pipeline under chaos is expected to do."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

POLL_SECONDS = 0.2
FIRST_WORK_SECONDS = 120.0
# Another run takes a lane over within a minute; a pause after failures may be added.
RECOVERY_SECONDS = 180.0

T = TypeVar("T")


class ChaosFailed(Exception):
    """The pipeline under chaos did not do in time what was expected; the message says what, and where to look."""


def until(condition: Callable[[], T | None], seconds: float, what: str) -> T:
    """Wait until a condition returns a true value, and return the value.

    Raises:
        ChaosFailed: It did not in time.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(POLL_SECONDS)
    raise ChaosFailed(f"timed out after {seconds:.0f} s waiting for {what}")
