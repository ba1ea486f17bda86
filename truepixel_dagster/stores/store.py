"""The base class of the stores: calls with retries and a guard, and errors in one line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import SecretStr

from truepixel_dagster.identity import mistaken
from truepixel_dagster.stores.errors import (
    AccessDenied,
    Denial,
    Guard,
    Unavailable,
    Words,
    WrongServer,
    calling,
    no_guard,
    no_words,
    plain,
)
from truepixel_dagster.text import with_advice

T = TypeVar("T")
#: Servers and the identities that they have shown to this process.
_PROVEN: set[tuple[str, str]] = set()


class Store:
    """Call a server with retries.

    Arguments:
        attempts: Tries of each call.
        transient: Whether an error of its client may pass by itself.
        denial: Why the server denies access, if it does.
        words: The server's message for an error, where its client's text is unclear.
    """

    def __init__(
        self, attempts: int, *, transient: Callable[[Exception], bool], denial: Denial, words: Words = no_words
    ) -> None:
        self._attempts = attempts
        self._transient = transient
        self._denial = denial
        self._words = words
        #: Called before each try of each call: a lane's lease, where one has to be held.
        self.guard: Guard = no_guard

    def plain(self, error: Exception) -> Unavailable | None:
        """Return an error of the client in one line that names the server; None for one that no server caused."""
        return plain(self._server, error, transient=self._transient, denial=self._denial, words=self._words)

    def prove(self, expected: str) -> None:
        """Check that this is the intended server, once per process.

        Arguments:
            expected: The identity that it must show.

        Raises:
            Unavailable: No answer.
            WrongServer: It shows another identity, or none.
        """
        if (self._server, expected) in _PROVEN:
            return
        if reason := mistaken(self._server, self.identity(), expected):
            raise WrongServer(reason)
        _PROVEN.add((self._server, expected))

    def identity(self) -> str | None:
        """Return the identity that the local stack gave the server; None or another text for any other server.

        Raises:
            Unavailable: It does not answer.
        """
        raise NotImplementedError

    @property
    def _server(self) -> str:
        """Return the server's name in messages: its address, without the URL's credentials."""
        raise NotImplementedError

    def _no_answer(self, error: Exception, setting: str) -> Unavailable:
        """Return the error for a failed ping."""
        if reason := self._denial(error):
            return AccessDenied(f"{self._server}: {reason}")
        step = f"Start it, or correct {setting}"
        return Unavailable(f"{self._server}: {with_advice('unreachable', type(error).__name__, step)}")

    def _call(self, call: Callable[[], T]) -> T:
        return calling(
            self._server,
            call,
            transient=self._transient,
            denial=self._denial,
            attempts=self._attempts,
            guard=self.guard,
            words=self._words,
        )


def given(**options: str | SecretStr | None) -> dict[str, Any]:
    """Return the options of a client that are set, secrets in plain text; the client or its URL decides the others."""
    plain_ = {name: each.get_secret_value() if isinstance(each, SecretStr) else each for name, each in options.items()}
    return {name: value for name, value in plain_.items() if value is not None}
