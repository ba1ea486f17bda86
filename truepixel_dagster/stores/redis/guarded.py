"""Run reads and Lua scripts, and check in the same call that Redis still holds what was written to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import resources
from typing import Any, TypeVar

import redis
from redis.exceptions import NoScriptError

from truepixel_dagster.access import RedisAccess
from truepixel_dagster.stores.epoch import Epoch, Epochs, differs, identity_key, lost, script
from truepixel_dagster.stores.redis.connection import Connection

T = TypeVar("T")

Call = tuple[Sequence[str], Sequence[str | int]]  # keys and arguments of a script

# A script that only removes a written week from a set; after Redis lost its data, that set is empty.
_UNCHECKED = frozenset({"counted"})


class Guarded(Connection):
    """Raise `StateLost` from calls once Redis no longer holds the expected epoch and writes (`stores/epoch.py`)."""

    def __init__(self, access: RedisAccess) -> None:
        super().__init__(access)
        self._shas: dict[str, str] = {}
        self._epoch: Epoch | None = None
        #: Stores the expected epoch; without it, nothing is compared.
        self.epochs: Epochs | None = None

    def expected_epoch(self) -> Epoch:
        """Return the epoch and writes that Redis must hold; read once by this process.

        Raises:
            Unavailable: MongoDB, which keeps it, does not answer.
        """
        if self._epoch is None:
            self._epoch = self.epochs.expected() if self.epochs else Epoch()
        return self._epoch

    def trust(self, epoch: Epoch) -> None:
        """Require this epoch of Redis from now on."""
        self._epoch = epoch

    def verify(self) -> None:
        """Check that Redis has not lost data.

        Raises:
            StateLost: It does not.
            Unavailable: No answer after all tries.
        """
        self._read(lambda _: None)

    def begin_epoch(self, value: str) -> str:
        """Give Redis an epoch unless it has one; return the one that it has.

        Raises:
            Unavailable: No answer after all tries.
        """
        identity = identity_key(self._prefix)
        self._call(lambda: self.client.hsetnx(identity, "epoch", value))
        return str(self._call(lambda: self.client.hget(identity, "epoch")))

    def replace_epoch(self, epoch: Epoch) -> None:
        """Give Redis another epoch, and count its writes from there.

        Raises:
            Unavailable: No answer after all tries.
        """
        fields: Any = {"epoch": epoch.value, "writes": epoch.writes}
        self._call(lambda: self.client.hset(identity_key(self._prefix), mapping=fields))

    def held_epoch(self) -> str | None:
        """Return the epoch that Redis holds, expected or not; None if it has none.

        Raises:
            Unavailable: No answer after all tries.
        """
        held: Any = self._call(lambda: self.client.hget(identity_key(self._prefix), "epoch"))
        return None if held is None else str(held)

    def _call(self, call: Callable[[], T]) -> T:
        try:
            return super()._call(call)
        except redis.ResponseError as error:
            if gone := lost(self._server, error, self._epoch or Epoch()):
                raise gone from None
            raise

    def _read(self, queue: Callable[[Any], object]) -> list[Any]:
        """Make some reads in one round trip, and check after them that Redis still holds what was written to it."""
        expected = self.expected_epoch()

        def read() -> list[Any]:
            pipeline = self.client.pipeline(transaction=False)
            queue(pipeline)
            pipeline.hmget(identity_key(self._prefix), "epoch", "writes")
            found: list[Any] = pipeline.execute()
            return found

        *found, (held, writes) = self._call(read)
        if expected.value and (gone := differs(self._server, expected, held, writes)):
            raise gone
        return found

    def _wrote(self, writes: int) -> None:
        """Store outside of Redis how many writes it has counted: an older copy has counted fewer."""
        if self.epochs:
            self.epochs.wrote(writes)
            self._epoch = self.expected_epoch()._replace(writes=writes)

    def _script(self, name: str, keys: Sequence[str], arguments: Sequence[str | int]) -> Any:
        return self._scripts(name, [(keys, arguments)])[0]

    def _scripts(self, name: str, calls: Sequence[Call], *, counted: bool = False) -> list[Any]:
        """Run a script several times in one round trip. It is loaded once, and again only if a server lost it.

        Arguments:
            name: Of the script.
            calls: Keys and arguments of each run.
            counted: Whether Redis counts a write after them.
        """
        identity = identity_key(self._prefix)
        expected = Epoch() if name in _UNCHECKED else self.expected_epoch()

        def run() -> list[Any]:
            sha = self._shas.get(name) or self._load(name)
            pipeline = self.client.pipeline(transaction=False)
            for keys, arguments in calls:
                pipeline.evalsha(sha, len(keys) + 1, *keys, identity, *arguments, *expected)
            if counted:
                pipeline.hincrby(identity, "writes", 1)
            try:
                found: list[Any] = pipeline.execute()
            except NoScriptError:
                self._load(name)
                return run()
            return found

        if not calls:
            return []
        found = self._call(run)
        if counted:
            self._wrote(found.pop())
        return found

    def _load(self, name: str) -> str:
        text = resources.files("truepixel_dagster.stores").joinpath(f"lua/{name}.lua").read_text()
        self._shas[name] = str(self.client.script_load(script(text)))
        return self._shas[name]
