"""The errors of servers, and calls with retries.

A transient error is retried with jittered, growing pauses and then becomes `Unavailable`; it never makes a dead letter.
A document that a store rejects becomes a `Rejected`; the rest of the batch continues. A server that denies access
becomes `AccessDenied` without a retry: retries with a wrong password lock accounts.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

import msgspec

from truepixel_dagster.retrying import named, retrying

T = TypeVar("T")

_UNTRUSTED = re.compile(r"(certificate verify failed[^(]*)")


class Unavailable(Exception):
    """A server is unreachable or cannot answer now. Nothing of the batch is lost, and no offset is committed."""


class AccessDenied(Unavailable):
    """A server denies access: its certificate is not trusted, authentication failed, or permission is denied."""


class ServerRefuses(Unavailable):
    """A server answers but rejects the call until an operator corrects the cause, which the message names."""


class NotSetUp(ServerRefuses):
    """Templates, mappings or indexes do not match this version: nothing is written, and no search result is used."""


class WrongServer(AccessDenied):
    """A server is not the one that the settings name."""


class Rejected(msgspec.Struct, frozen=True):
    """One document that a store rejected, with the reason."""

    document_id: str
    reason: str


#: Turns an error into one line that says why a server denies access and which setting to check; None for others.
Denial = Callable[[Exception], "str | None"]
#: Turns an error into the server's message in one line, with the next step; None for an error without a message.
Words = Callable[[Exception], "str | None"]
Guard = Callable[[], None]


def no_guard() -> None:
    """Allow every call."""


def no_words(_: Exception) -> str | None:
    """Return None, so that the error's own text is shown."""
    return None


def untrusted(error: Exception) -> str | None:
    """Return why a server's certificate is not trusted, in OpenSSL's words; None for any other error."""
    found = _UNTRUSTED.search(f"{error} {error!r}")  # Elasticsearch's client has the words in one of the two
    return f"its certificate is not trusted: {found[1].strip()}" if found else None


def plain(
    server: str, error: Exception, *, transient: Callable[[Exception], bool], denial: Denial, words: Words = no_words
) -> Unavailable | None:
    """Return an error of a client library in one line; None for one that no server caused."""
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
    """Make one call to a server, and repeat it after a transient error.

    Arguments:
        server: What to name in the error: `Elasticsearch at http://127.0.0.1:9200`.
        call: The call; it must be safe to make twice.
        transient: Whether an error may pass by itself.
        denial: Why the server denies access, if it does; such a call is not made again.
        attempts: Tries in all.
        guard: Called before each try; it raises if the caller may no longer call, such as after losing its lease.
        words: The server's message for an error; an error with a message that is not transient is not retried.

    Raises:
        AccessDenied: The server denies access.
        ServerRefuses: An operator must correct something first.
        Unavailable: Every try met a transient error. Any other error is raised as it is.
    """

    def attempt() -> T:
        guard()
        return call()

    def in_one_line(error: Exception) -> Unavailable | None:
        return plain(server, error, transient=transient, denial=denial, words=words)

    try:
        return retrying(
            attempt,
            transient=lambda error: transient(error) and not denial(error),
            attempts=attempts,
            words=lambda error: str(in_one_line(error) or named(error)),
        )
    except Exception as error:
        if said := in_one_line(error):
            raise said from error
        raise
