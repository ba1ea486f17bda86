"""What can go wrong with a server, and what to do about it.

Transient errors are tried again with jittered, growing pauses and then become `Unavailable`; they never make a dead
letter. A store that refuses one document makes a `Rejected` for that document; the rest of the batch goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import msgspec

from truepixel_dagster.retrying import retrying

T = TypeVar("T")


class Unavailable(Exception):
    """A server cannot be reached or cannot answer now: nothing of the batch is lost, offsets stay where they are."""


class Rejected(msgspec.Struct, frozen=True):
    """A store's refusal of one document."""

    document_id: str
    reason: str


Guard = Callable[[], None]


def no_guard() -> None:
    """Whoever calls may."""


def calling(
    server: str,
    call: Callable[[], T],
    *,
    transient: Callable[[Exception], bool],
    attempts: int,
    guard: Guard = no_guard,
) -> T:
    """Make one call to a server, again after a transient error.

    Arguments:
        server: What to name in the error: `Elasticsearch at http://127.0.0.1:9200`.
        call: The call; it must be safe to make twice.
        transient: Whether an error may pass by itself.
        attempts: Tries in all.
        guard: Called before each try; it raises where the caller may not call any more, such as after a lost lease.

    Raises:
        Unavailable: Every try met a transient error. Any other error is raised as it is.
    """

    def attempt() -> T:
        guard()
        return call()

    try:
        return retrying(attempt, transient=transient, attempts=attempts)
    except Exception as error:
        if transient(error):
            raise Unavailable(f"{server}: {type(error).__name__}: {str(error)[:300]}") from error
        raise
