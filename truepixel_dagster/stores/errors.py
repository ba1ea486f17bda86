"""What can go wrong with a server, and what to do about it.

Transient errors are tried again with jittered, growing pauses and then become `Unavailable`; they never make a dead
letter. A store that refuses one document makes a `Rejected` for that document; the rest of the batch goes on.
A server that does not let us in becomes `AccessDenied` at once: trying again with the same password locks accounts.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

import msgspec

from truepixel_dagster.retrying import retrying

T = TypeVar("T")

_UNTRUSTED = re.compile(r"(certificate verify failed[^(]*)")


class Unavailable(Exception):
    """A server cannot be reached or cannot answer now: nothing of the batch is lost, offsets stay where they are."""


class AccessDenied(Unavailable):
    """A server does not let us in: its certificate is not trusted, or it refuses our credentials or what we ask for."""


class ServerRefuses(Unavailable):
    """A server answers and does not do what it is asked until somebody puts something right: its message says what."""


class NotSetUp(ServerRefuses):
    """Templates, mappings or indexes are not as this version needs them: nothing is written, no search is believed."""


class WrongServer(AccessDenied):
    """A server is not the one that the settings are for."""


class Rejected(msgspec.Struct, frozen=True):
    """A store's refusal of one document."""

    document_id: str
    reason: str


#: From an error to one line that says why a server does not let us in and which setting to look at; None for others.
Denial = Callable[[Exception], "str | None"]
#: From an error to the server's words in one line, and what to do about it; None for an error that has none.
Words = Callable[[Exception], "str | None"]
Guard = Callable[[], None]


def no_guard() -> None:
    """Whoever calls may."""


def no_words(_: Exception) -> str | None:
    """The error's own text has to do."""
    return None


def untrusted(error: Exception) -> str | None:
    """Why a server's certificate is not trusted, in OpenSSL's words; None if that is not what went wrong."""
    found = _UNTRUSTED.search(f"{error} {error!r}")  # Elasticsearch's client has the words in one of the two
    return f"its certificate is not trusted: {found[1].strip()}" if found else None


def plain(
    server: str, error: Exception, *, transient: Callable[[Exception], bool], denial: Denial, words: Words = no_words
) -> Unavailable | None:
    """An error of a client library in one line; None for one that is nothing that a server did."""
    if reason := denial(error):
        return AccessDenied(f"{server}: {reason}")
    if said := words(error):
        return (Unavailable if transient(error) else ServerRefuses)(f"{server}: {said}")
    if transient(error):
        return Unavailable(f"{server}: {type(error).__name__}: {' '.join(str(error).split())[:300]}")
    return None


def calling(
    server: str,
    call: Callable[[], T],
    *,
    transient: Callable[[Exception], bool],
    denial: Denial,
    attempts: int,
    guard: Guard = no_guard,
    words: Words = no_words,
) -> T:
    """Make one call to a server, again after a transient error.

    Arguments:
        server: What to name in the error: `Elasticsearch at http://127.0.0.1:9200`.
        call: The call; it must be safe to make twice.
        transient: Whether an error may pass by itself.
        denial: Why an error is the server's refusal to let us in; such a call is not made again.
        attempts: Tries in all.
        guard: Called before each try; it raises where the caller may not call any more, such as after a lost lease.
        words: What the server says of an error; one with words and not transient is not tried again.

    Raises:
        AccessDenied: The server does not let us in.
        ServerRefuses: Somebody must put something right first.
        Unavailable: Every try met a transient error. Any other error is raised as it is.
    """

    def attempt() -> T:
        guard()
        return call()

    try:
        return retrying(attempt, transient=lambda error: transient(error) and not denial(error), attempts=attempts)
    except Exception as error:
        if said := plain(server, error, transient=transient, denial=denial, words=words):
            raise said from error
        raise
