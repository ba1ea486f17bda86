"""What the stores have in common: how they are called, and how it is told what went wrong."""

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

T = TypeVar("T")
#: Servers and the identities that they have shown to this process.
_PROVEN: set[tuple[str, str]] = set()


class Store:
    """A server that is called.

    Arguments:
        attempts: Tries of each call.
        transient: Whether an error of its client may pass by itself.
        denial: Why an error is the server's refusal to let us in.
        words: What the server says of an error, where its client does not say it well.
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
        """An error of the client in one line that names the server; None if it is nothing that the server did."""
        return plain(self._server, error, transient=self._transient, denial=self._denial, words=self._words)

    def prove(self, expected: str) -> None:
        """Make sure that this is the server which is meant; asks it once in a process.

        Arguments:
            expected: The identity that it has to show.

        Raises:
            Unavailable: It does not answer.
            WrongServer: It shows another identity, or none.
        """
        if (self._server, expected) in _PROVEN:
            return
        if reason := mistaken(self._server, self.identity(), expected):
            raise WrongServer(reason)
        _PROVEN.add((self._server, expected))

    def identity(self) -> str | None:
        """The identity that the local stack gave the server; None, or something else, for servers of others.

        Raises:
            Unavailable: It does not answer.
        """
        raise NotImplementedError

    @property
    def _server(self) -> str:
        """What to name in messages: the address, without what the URL may hold beside it."""
        raise NotImplementedError

    def _no_answer(self, error: Exception, setting: str) -> Unavailable:
        """What to raise where the server was asked only whether it is there."""
        if reason := self._denial(error):
            return AccessDenied(f"{self._server}: {reason}")
        return Unavailable(f"{self._server}: {type(error).__name__} ({setting})")

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
    """The options of a client that are set, secrets in plain text; what is not set is left to the client or its URL."""
    plain_ = {name: each.get_secret_value() if isinstance(each, SecretStr) else each for name, each in options.items()}
    return {name: value for name, value in plain_.items() if value is not None}
