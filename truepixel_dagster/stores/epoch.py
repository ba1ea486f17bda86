"""Detect that Redis has lost data: its counters, applied offsets and marks are valid only if none of them is lost.

Redis keeps an **epoch**, a random name that is set once, and the number of its important **writes**: claims of a flush
and reprocessed dead letters. MongoDB keeps both, too (`epoch_keeper.py`). An emptied Redis has no epoch, another server
has another one, and an older copy has a lower number of writes. The stream's own writes are compared with the committed
offsets (`redis_state.py`).
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import NamedTuple, Protocol

from truepixel_dagster.stores.errors import ServerRefuses

RESTORING = "restoring-"
OLDER_COPY = "it is an older copy (its applied offsets have fallen)"
_LOST = "STATELOST "
_APPLIED = "applied"
ADVICE = "Nothing more was written or committed. `truepixel restore-redis` rebuilds what is lost from the event history"


class StateLost(ServerRefuses):
    """Redis answers but has lost data: it was emptied, replaced, or is an older copy."""


class Epoch(NamedTuple):
    """The epoch that Redis must hold, and the least number of its writes; an empty epoch is not checked."""

    value: str = ""
    writes: int = 0


class Epochs(Protocol):
    """Store the epoch outside of Redis."""

    def expected(self) -> Epoch:
        """Return the epoch that Redis must hold."""

    def wrote(self, writes: int) -> None:
        """Store the number of writes that Redis has counted, before anything depends on them."""


def not_checked() -> Epoch:
    """Return the empty epoch, which is not checked."""
    return Epoch()


def script(text: str) -> str:
    """Return a script that stops before its first write if Redis has lost its epoch.

    The key of the identity follows its keys; the epoch and the least number of writes follow its arguments.
    """
    return _check() + text


@cache
def _check() -> str:
    return resources.files("truepixel_dagster.stores").joinpath("lua/epoch.lua").read_text()


def identity_key(namespace: str) -> str:
    """Return the key under which Redis keeps its epoch and counts its writes."""
    return f"{namespace}:identity"


def lost(server: str, error: Exception, expected: Epoch) -> StateLost | None:
    """Return the error for a lost epoch that a script has reported; None for any other error."""
    _, found, words = str(error).partition(_LOST)
    if not found:
        return None
    held, _, writes = words.partition(" ")
    if held == _APPLIED:
        return StateLost(f"{server}: {OLDER_COPY}. {ADVICE}")
    return differs(server, expected, None if held == "-" else held, writes)


def differs(server: str, expected: Epoch, held: str | None, writes: str | None) -> StateLost | None:
    """Compare the epoch and writes of Redis with the expected ones; return None if they suffice."""
    if held == expected.value and int(writes or 0) >= expected.writes:
        return None
    if held and held.startswith(RESTORING):
        return StateLost(
            f"{server} is being rebuilt by `truepixel restore-redis`: wait until it is done, or run it again if it was"
            " interrupted"
        )
    if held is None:
        why = "it has lost its data (it was emptied, or is another server)"
    elif held != expected.value:
        why = "it holds the data of another server (its epoch is not the one kept in MongoDB)"
    else:
        why = f"it is an older copy (it has counted {writes or 0} of {expected.writes} writes)"
    return StateLost(f"{server}: {why}. {ADVICE}")
