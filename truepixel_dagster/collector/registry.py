"""Find the shop for a webhook's domain or a pixel's token, and the secrets that its signatures may use.

The registry caches MongoDB's answers for five seconds, so a rotation or a removal takes effect without a restart. While
MongoDB is unreachable, cached shops remain valid for an hour. For a shop that is not cached the registry cannot say
whether it is connected, and its sender has to retry later.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import msgspec

from truepixel_dagster.settings import Settings
from truepixel_dagster.shop_secrets import SecretsError, all_secrets, mounted, read_file, sealer_of
from truepixel_dagster.stores.connections import DOMAIN, OLDER_TOKEN, PIXEL_TOKEN, Connection, Secret, change, find
from truepixel_dagster.stores.mongodb import MongoStore

LOG = logging.getLogger(__name__)
# How long a cached answer is valid, and how long while MongoDB is unreachable.
KNOWN_SECONDS, STALE_SECONDS = 5.0, 3600.0
# How long the registry does not query MongoDB after a failure.
AWAY_SECONDS = 1.0
# The longest that a caller waits for a question, which may be queued behind others, and the longest for a shop that is
# cached: an answer is due within seconds.
WAIT_SECONDS, CACHED_WAIT_SECONDS = 2.0, 0.5
MOST_SHOPS = 10_000
# Threads that ask MongoDB, and the most queued questions: this limits a flood of invented names.
THREADS, MOST_QUESTIONS = 2, 64


class RegistryAway(Exception):
    """MongoDB does not answer or is overloaded, so it is unknown whether the shop is connected."""


class Known(NamedTuple):
    """Hold a connected shop: its id, its domain, and its own valid secrets."""

    shop: str
    connection: Connection
    secrets: tuple[tuple[Secret, bytes], ...]

    def keys(self, now: int) -> tuple[bytes, ...]:
        """Return the secrets that are valid at a time, in milliseconds since the epoch."""
        return tuple(key for secret, key in self.secrets if secret.counts(now))


class _Cached(NamedTuple):
    at: float
    known: Known | None


Look = Callable[[str, str], "Known | None"]


class Registry:
    """Cache what MongoDB says about shops, up to a size limit.

    Arguments:
        look: Asks MongoDB for a shop by `domain` or `pixel_token` and its value. It may block and raise.
        clock: Returns seconds.
    """

    def __init__(self, look: Look, clock: Callable[[], float] = time.monotonic) -> None:
        self._look = look
        self._clock = clock
        self._cached: OrderedDict[tuple[str, str], _Cached] = OrderedDict()
        self._asked: dict[tuple[str, str], asyncio.Future[Known | None]] = {}
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="registry")
        self._away_until = 0.0
        #: Why the last question to MongoDB failed; None if it succeeded.
        self.trouble: str | None = None
        #: Whether MongoDB has answered since the start.
        self.has_answered = False

    async def by_domain(self, domain: str) -> Known | None:
        """Return the shop of a `….myshopify.com`; None if it is not connected.

        Raises:
            RegistryAway: MongoDB cannot say.
        """
        return await self._known((DOMAIN, domain))

    async def by_pixel_token(self, token: str) -> Known | None:
        """Return the shop of a pixel token, an older one included; None if no shop has it.

        Raises:
            RegistryAway: MongoDB cannot say.
        """
        return await self._known((PIXEL_TOKEN, token))

    def forget(self, known: Known) -> None:
        """Drop a shop from the cache, so that the next lookup asks MongoDB."""
        connection = known.connection
        self._cached.pop((DOMAIN, connection.domain), None)
        for token in (connection.pixel_token, *(older.token for older in connection.older_tokens)):
            self._cached.pop((PIXEL_TOKEN, token), None)

    async def ask_once(self) -> None:
        """Check whether MongoDB answers."""
        try:
            await self._asks((DOMAIN, "-"))
        except RegistryAway:
            return

    def close(self) -> None:
        """Stop the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    @property
    def size(self) -> int:
        """Return the number of cached names."""
        return len(self._cached)

    async def _known(self, name: tuple[str, str]) -> Known | None:
        cached = self._cached.get(name)
        age = self._clock() - cached.at if cached is not None else STALE_SECONDS
        if cached is not None and age < KNOWN_SECONDS:
            return cached.known
        # An earlier "not connected" may be out of date.
        usable = cached.known if cached is not None and age < STALE_SECONDS else None
        try:
            return await self._asks(name, WAIT_SECONDS if usable is None else CACHED_WAIT_SECONDS)
        except RegistryAway:
            if usable is None:
                raise
            return usable

    async def _asks(self, name: tuple[str, str], seconds: float = WAIT_SECONDS) -> Known | None:
        """Ask MongoDB once on behalf of all callers with the same question; each of them waits at most some seconds."""
        asked = self._asked.get(name)
        if asked is None:
            if self._clock() < self._away_until:
                raise RegistryAway(self.trouble)
            if len(self._asked) >= MOST_QUESTIONS:
                raise RegistryAway("too many queries of MongoDB are queued")
            asked = asyncio.get_running_loop().run_in_executor(self._threads, self._look, *name)
            self._asked[name] = asked
            asked.add_done_callback(lambda answer: self._answered(name, answer))
        try:
            return await asyncio.wait_for(asyncio.shield(asked), seconds)
        except asyncio.CancelledError:
            raise
        except asyncio.TimeoutError as error:
            raise RegistryAway(f"MongoDB did not answer within {seconds} s") from error
        except Exception as error:
            raise RegistryAway(str(error)) from error

    def _answered(self, name: tuple[str, str], answer: asyncio.Future[Known | None]) -> None:
        del self._asked[name]
        if answer.cancelled():
            return
        error = answer.exception()
        if error is not None:
            words = (str(error).splitlines() or [""])[0][:300]
            if self.trouble is None:
                LOG.warning("the registry of shops cannot be read from MongoDB: %s", words)
            self.trouble, self._away_until = words, self._clock() + AWAY_SECONDS
            return
        self.trouble, self.has_answered = None, True
        self._cached.pop(name, None)
        self._cached[name] = _Cached(self._clock(), answer.result())
        while len(self._cached) > MOST_SHOPS:
            self._cached.popitem(last=False)


class Looker:
    """Ask MongoDB and decrypt secrets; the registry's threads call this."""

    def __init__(self, settings: Settings, store: MongoStore) -> None:
        self._settings = settings
        self._store = store

    def __call__(self, field: str, value: str) -> Known | None:
        """Return the shop that has this domain or pixel token, an older token included.

        Raises:
            Unavailable: MongoDB does not answer.
            WrongServer: It is not the server that the settings name.
        """
        self._prove()
        found = find(self._store, field, value)
        if found is None and field == PIXEL_TOKEN:
            found = find(self._store, OLDER_TOKEN, value)
        if found is None:
            return None
        shop, connection = found
        opened = ((secret, self._opened(shop, secret)) for secret in connection.secrets)
        return Known(shop, connection, tuple((secret, key) for secret, key in opened if key))

    def uninstalled(self, shop: str, at: int) -> None:
        """Record that a shop has uninstalled the app, unless it was connected again after that.

        Arguments:
            shop: The shop's id.
            at: The time of the uninstallation in milliseconds since the epoch.

        Raises:
            Unavailable: MongoDB does not answer.
            WrongServer: It is not the server that the settings name.
        """
        self._prove()

        def decide(before: Connection | None) -> Connection | None:
            if before is None or before.connected_at > at or before.uninstalled_at is not None:
                return None
            return msgspec.structs.replace(before, uninstalled_at=at)

        change(self._store, shop, decide)

    def _prove(self) -> None:
        if self._settings.servers_identity:
            self._store.prove(self._settings.servers_identity)

    def _opened(self, shop: str, secret: Secret) -> bytes | None:
        """Return a secret; None, with a log line, if it cannot be read: the other secrets remain valid."""
        try:
            if secret.file is not None:
                return mounted(self._settings, secret.file)
            return sealer_of(self._settings).open(shop, secret.sealed or "")
        except SecretsError as error:
            LOG.warning("ignored the secret %s of shop %r: %s", secret.id, shop, error)
            return None


class AppSecrets:
    """Reload the app's client secrets when their file changes; while it is unreadable, the last ones stay valid.

    Arguments:
        file: One secret per line; None for no file.
        clock: Returns seconds.
    """

    def __init__(self, file: Path | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._file = file
        self._clock = clock
        self._secrets: tuple[bytes, ...] = ()
        self._looked_at = float("-inf")

    def now(self) -> tuple[bytes, ...]:
        """Return the valid secrets."""
        if self._file is not None and self._clock() - self._looked_at >= 1.0:
            self._looked_at = self._clock()
            try:
                self._secrets = all_secrets(read_file(self._file)) or self._secrets
            except SecretsError as error:
                LOG.warning("the app's secrets were not reloaded, and the last ones stay valid: %s", error)
        return self._secrets
