"""Repeat a call to a server after a transient error, with jittered and growing pauses."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import TypeVar

import stamina
from stamina.instrumentation import RetryDetails, set_on_retry_hooks

from truepixel_dagster.text import printable

T = TypeVar("T")

# The longest pause before a document is read again that other writers keep changing.
_LONGEST_REREAD_PAUSE = 0.5

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0

log = logging.getLogger(__name__)


def pause(attempt: int) -> None:
    """Wait before reading a document again that another writer has changed: longer each time, with jitter."""
    time.sleep(random.uniform(0, min(_LONGEST_REREAD_PAUSE, 0.005 * 2**attempt)))  # noqa: S311 (a pause, no secret)


def named(error: Exception) -> str:
    """Return an error's type and the first line of its text."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:160]}"


# stamina calls the hook for every call of the process, and does not tell which call it is.
_words: ContextVar[Callable[[Exception], str]] = ContextVar("_words", default=named)


def _say(details: RetryDetails) -> None:
    log.warning("%s; trying again in %.1f s", printable(_words.get()(details.caused_by)), details.wait_for)


# Log retries through the standard library: by default they are printed, which would break a command's JSON.
set_on_retry_hooks([_say])


def retrying(
    call: Callable[[], T],
    *,
    transient: Callable[[Exception], bool],
    attempts: int,
    words: Callable[[Exception], str] = named,
) -> T:
    """Make a call, and repeat it after transient errors.

    Arguments:
        call: The call; it must be safe to make twice.
        transient: Whether an error may pass by itself.
        attempts: Tries in all.
        words: Returns an error in one line, which the log shows before each further try.

    Raises:
        Exception: The error of the last try, or the first error that is not transient.
    """
    retries = stamina.retry_context(
        on=transient, attempts=attempts, timeout=None, wait_initial=FIRST_PAUSE, wait_max=LONGEST_PAUSE
    )
    before = _words.set(words)
    try:
        for attempt in retries:
            with attempt:
                return call()
    finally:
        _words.reset(before)
    raise AssertionError("unreachable: a retry context returns or raises")
