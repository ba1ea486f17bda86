"""Map the tokens of carts and checkouts to clients in Redis: the pixel reports them, and webhooks look them up.

The map only keeps a user's events on one partition, so no answer waits long for it: concurrent lookups share one call,
which is given up after 20 ms, and after a failure the collector does not ask Redis for a second. It writes the pixel's
reports after it has answered the pixel. The process keeps no copy of the map, so that a redaction, which deletes its
entries from Redis, takes effect at once.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from truepixel_dagster.identity import mistaken
from truepixel_dagster.stores.redis import client_key

LOG = logging.getLogger(__name__)

ANSWER_SECONDS, WRITE_SECONDS, AWAY_SECONDS = 0.02, 2.0, 1.0
# A purchase takes minutes; when a visitor returns to an old cart, the next event reports its token again.
KEPT_SECONDS = 2 * 86_400
MOST_REPORTED, MOST_ASKED = 5_000, 1_000


class Client(Protocol):
    """Describe the part of Redis's asynchronous client that is used here."""

    async def ping(self) -> Any:
        """Connect."""

    async def info(self, section: str) -> dict[str, Any]:
        """Return a section of the server's description of itself."""

    async def mget(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return the values of keys."""

    def pipeline(self, transaction: bool = ...) -> Any:
        """Start a pipeline of several commands."""


class Tokens:
    """Look up and store clients by token.

    Arguments:
        client: Redis.
        prefix: The prefix of the keys.
        identity: The identity that Redis must show before it is used; None for any.
        clock: Returns seconds.
    """

    def __init__(
        self, client: Client, prefix: str, identity: str | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._client = client
        self._prefix = prefix
        self._identity = identity
        self._clock = clock
        #: Whether Redis may be used: it has shown its identity, or no identity is required.
        self.is_proven = identity is None
        self._logged: str | None = None
        self._asked: dict[str, asyncio.Future[str | None]] = {}
        self._reported: dict[str, str] = {}
        self._asking: asyncio.Task[None] | None = None
        self._writing: asyncio.Task[None] | None = None
        self._away_until = 0.0
        #: Calls that failed or timed out, and tokens that were not stored because of that.
        self.failures = self.not_stored = 0

    async def client_of(self, shop: str, tokens: Iterable[str]) -> str | None:
        """Return the client of the first known token; None if no token is known in time."""
        keys = [self._key(shop, token) for token in tokens]
        for key in keys:
            if (client := self._reported.get(key)) is not None:
                return client
        if not keys or self._is_away or len(self._asked) >= MOST_ASKED:
            return None
        answers = [self._ask(key) for key in keys]
        if self._asking is None or self._asking.done():
            self._asking = asyncio.get_running_loop().create_task(self._answer())
        for answer in answers:
            if found := await answer:
                return found
        return None

    def report(self, shop: str, tokens: Iterable[str], client: str) -> None:
        """Store the client of tokens in the background."""
        for token in tokens:
            if self._is_away or len(self._reported) >= MOST_REPORTED:
                self.not_stored += 1
            else:
                self._reported[self._key(shop, token)] = client
        if self._reported and (self._writing is None or self._writing.done()):
            self._writing = asyncio.get_running_loop().create_task(self._write())

    async def begin(self) -> None:
        """Connect in advance, because connecting takes longer than a lookup may, and check the server's identity."""
        try:
            await asyncio.wait_for(self._prove(), WRITE_SECONDS)
        except Exception:
            self._failed()

    @property
    def _is_away(self) -> bool:
        return not self.is_proven or self._clock() < self._away_until

    def _key(self, shop: str, token: str) -> str:
        return client_key(self._prefix, shop, token)

    def _ask(self, key: str) -> asyncio.Future[str | None]:
        answer = self._asked.get(key)
        if answer is None:
            answer = self._asked[key] = asyncio.get_running_loop().create_future()
        return answer

    async def _prove(self) -> None:
        await self._client.ping()
        if self._identity is None:
            return
        found = await self._client.info("server")
        shown = str(found.get("availability_zone") or "") or None
        reason = mistaken("Redis (TRUEPIXEL_REDIS_URL)", shown, self._identity)
        self.is_proven = reason is None
        if reason != self._logged:
            self._logged = reason
            LOG.warning("%s", reason)

    def _failed(self) -> None:
        self.failures += 1
        self._away_until = self._clock() + AWAY_SECONDS

    async def _answer(self) -> None:
        """Send the queued lookups until none is left."""
        while self._asked:
            asked, self._asked = self._asked, {}
            found: dict[str, str] = {}
            try:
                values = await asyncio.wait_for(self._client.mget(list(asked)), ANSWER_SECONDS)
                found = {key: value.decode() for key, value in zip(asked, values) if value}
            except Exception:
                # No caller may wait forever, whatever Redis answers.
                self._failed()
            for key, answer in asked.items():
                if not answer.done():
                    answer.set_result(found.get(key))

    async def _write(self) -> None:
        """Write the queued tokens until none is left."""
        while self._reported:
            reported, self._reported = self._reported, {}
            pipeline = self._client.pipeline(transaction=False)
            for key, client in reported.items():
                pipeline.set(key, client, ex=KEPT_SECONDS)
            try:
                await asyncio.wait_for(pipeline.execute(), WRITE_SECONDS)
            except Exception:
                self._failed()
                self.not_stored += len(reported)
