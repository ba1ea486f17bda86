"""One call to a server, made again after a transient error, with jittered and growing pauses."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import stamina
from stamina.instrumentation import LoggingOnRetryHook, set_on_retry_hooks

T = TypeVar("T")

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0

# Through the standard library's logging: by default a retry is printed, which would spoil a command's JSON.
set_on_retry_hooks([LoggingOnRetryHook])


def retrying(call: Callable[[], T], *, transient: Callable[[Exception], bool], attempts: int) -> T:
    """Make a call until it gets through.

    Arguments:
        call: The call; it must be safe to make twice.
        transient: Whether an error may pass by itself.
        attempts: Tries in all.

    Raises:
        Exception: What the last try raised, or the first error that is not transient.
    """
    retries = stamina.retry_context(
        on=transient, attempts=attempts, timeout=None, wait_initial=FIRST_PAUSE, wait_max=LONGEST_PAUSE
    )
    for attempt in retries:
        with attempt:
            return call()
    raise AssertionError("unreachable: a retry context returns or raises")
