"""Does Redis hold what was written to it? Counters, applied offsets and marks are worth nothing where it does not.

Redis keeps an **epoch**, a random name that is given once, and counts its **writes** of consequence: claims of a flush
and dead letters that came back. MongoDB keeps both, too (`epoch_keeper.py`). An emptied Redis has no epoch, another
server has another one, and an older copy has counted fewer writes. What the stream itself writes is compared with the
committed offsets (`redis_state.py`).
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
    """Redis answers, and does not hold what was written to it: it was emptied, replaced, or is an older copy."""


class Epoch(NamedTuple):
    """The epoch that Redis must hold, and the least number of its writes; an empty epoch is not checked."""

    value: str = ""
    writes: int = 0


class Epochs(Protocol):
    """Whoever keeps the epoch outside of Redis."""

    def expected(self) -> Epoch:
        """Return what Redis must hold."""

    def wrote(self, writes: int) -> None:
        """Keep that Redis has counted so many writes, before anything is done that rests on them."""


def not_checked() -> Epoch:
    """Return an epoch that nothing is compared with."""
    return Epoch()


def script(text: str) -> str:
    """Return a script that stops before its first write where Redis has lost its epoch.

    It takes the key of the identity behind its keys, and the epoch and the least number of writes behind its arguments.
    """
    return _check() + text


@cache
def _check() -> str:
    return resources.files("truepixel_dagster.stores").joinpath("lua/epoch.lua").read_text()


def identity_key(namespace: str) -> str:
    """Return the key under which Redis keeps its epoch and counts its writes."""
    return f"{namespace}:identity"


def lost(server: str, error: Exception, expected: Epoch) -> StateLost | None:
    """Return what a script's error says of a lost epoch; None for any other error."""
    _, found, words = str(error).partition(_LOST)
    if not found:
        return None
    held, _, writes = words.partition(" ")
    if held == _APPLIED:
        return StateLost(f"{server}: {OLDER_COPY}. {ADVICE}")
    return differs(server, expected, None if held == "-" else held, writes)


def differs(server: str, expected: Epoch, held: str | None, writes: str | None) -> StateLost | None:
    """Compare what Redis holds with what it must hold; None where it does hold that."""
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
