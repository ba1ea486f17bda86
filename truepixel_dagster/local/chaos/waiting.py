"""Wait for expected effects in a pipeline under chaos."""

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
    """An expected effect did not occur in time; the message names it, and where to look."""


def until(condition: Callable[[], T | None], seconds: float, what: str) -> T:
    """Wait until a condition returns a true value, and return the value.

    Raises:
        ChaosFailed: The time is over.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(POLL_SECONDS)
    raise ChaosFailed(f"timed out after {seconds:.0f} s waiting for {what}")
