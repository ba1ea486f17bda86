"""Connect to Redis, and explain its errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import redis
from redis.exceptions import BusyLoadingError, ClusterDownError, ReadOnlyError, TryAgainError

from truepixel_dagster.access import RedisAccess
from truepixel_dagster.stores.errors import AccessDenied, untrusted
from truepixel_dagster.stores.store import Store, given
from truepixel_dagster.text import with_advice

_TRANSIENT = (
    redis.ConnectionError,
    redis.TimeoutError,
    BusyLoadingError,
    ReadOnlyError,
    ClusterDownError,
    TryAgainError,
)
# The second is the reply to a client that first negotiates a protocol.
_ASKS = ("Authentication required", "HELLO must be called with the client already authenticated")
# docs/security.md has the same ACL, and why.
_RIGHTS = "~<namespace>:* +@all -@admin -@dangerous +config|get"
_TRANSIENT_WORDS = ("BUSY", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "READONLY")
#: Redis' messages when it rejects writes, their meaning, and the next step.
_NO_WRITES = {
    "command not allowed when used memory": (
        "its maxmemory is reached, so it rejects writes",
        "Raise it with `CONFIG SET maxmemory` and in its configuration",
    ),
    "MISCONF": (
        "it cannot write to its disk, so it rejects writes",
        "Free space on the disk of its data, and read its log",
    ),
    "NOREPLICAS": (
        "it has fewer replicas than its min-replicas-to-write, so it rejects writes",
        "Start its replicas",
    ),
}


class Connection(Store):
    """Connect to Redis, or to a server with its protocol, at the first call."""

    def __init__(self, access: RedisAccess) -> None:
        super().__init__(access.retries, transient=is_transient, denial=denial, words=no_writes)
        self._prefix = access.namespace
        self.client: redis.Redis = redis.Redis.from_url(
            access.url.get_secret_value(),
            socket_timeout=access.timeout,
            socket_connect_timeout=access.timeout,
            decode_responses=True,
            retry=None,
            # These take precedence over the URL.
            **given(
                username=access.username,
                password=access.password,
                ssl_ca_certs=access.ca_certs,
            ),
        )

    def ping(self) -> None:
        """Ask for an answer once.

        Raises:
            AccessDenied: Redis denies access.
            Unavailable: No answer.
        """
        try:
            self.client.ping()
        except redis.RedisError as error:
            raise self._no_answer(error, "TRUEPIXEL_REDIS_URL") from error

    def identity(self) -> str | None:
        """Return its availability zone, which only its command line sets.

        Raises:
            Unavailable: No answer after all tries.
        """
        found: Any = self._call(lambda: self.client.info("server"))
        return str(found.get("availability_zone") or "") or None

    def persistence(self) -> dict[str, str] | None:
        """Return `appendonly` and `maxmemory-policy`, on which durability depends; None without permission.

        Raises:
            Unavailable: No answer after all tries.
        """
        try:
            found: Any = self._call(lambda: self.client.config_get("appendonly", "maxmemory-policy"))
        except (redis.ResponseError, AccessDenied):
            return None
        return dict(found)

    def close(self) -> None:
        """Close the connections."""
        self.client.close()

    def _key(self, kind: str, *parts: str) -> str:
        return ":".join([self._prefix, kind, *(quote(part, safe="") for part in parts)])

    def _scan(self, scan: Callable[..., Any], match: str, batch: int) -> Iterator[list[str]]:
        cursor = 0
        while True:
            cursor, names = self._call(lambda: scan(cursor, match=match, count=batch))  # noqa: B023 (called at once)
            for start in range(0, len(names), batch):
                yield names[start : start + batch]
            if cursor == 0:
                return

    def _members(self, key: str, batch: int) -> Iterator[list[str]]:
        """Yield the members of a set, at most `batch` at a time; one may come twice."""

        def scan(cursor: int, match: str, count: int) -> Any:
            return self.client.sscan(key, cursor, match=match, count=count)

        return self._scan(scan, "*", batch)

    @property
    def _server(self) -> str:
        return server_of(self.client)


def server_of(client: redis.Redis) -> str:
    """Return the server's name in messages: its address, without credentials of the URL."""
    where = client.connection_pool.connection_kwargs
    return f"Redis at {where.get('host', where.get('path'))}:{where.get('port', '')}"


def denial(error: Exception) -> str | None:
    """Return why Redis denies access, and the setting to check; None for any other error."""
    if not isinstance(error, redis.RedisError):
        return None
    if reason := untrusted(error):
        return f"{reason}. Check TRUEPIXEL_REDIS_CA_CERTS, and that TRUEPIXEL_REDIS_URL names the right server"
    words = _words(error)
    if isinstance(error, redis.exceptions.NoPermissionError) or "ACL failure in script" in words:
        step = f"Check the ACL of TRUEPIXEL_REDIS_USERNAME: it needs {_RIGHTS}"
        return with_advice("permission denied", words[:300], step)
    if words.startswith(_ASKS):
        return with_advice("it requires credentials", words[:300], "Set TRUEPIXEL_REDIS_USERNAME and _PASSWORD")
    if isinstance(error, redis.AuthenticationError) or words.startswith("WRONGPASS"):
        step = "Check TRUEPIXEL_REDIS_USERNAME and _PASSWORD, or those in TRUEPIXEL_REDIS_URL"
        return with_advice("authentication failed", words[:300], step)
    return None


def _words(error: Exception) -> str:
    """Return the server's message, without the command that a pipeline puts in front of it."""
    return str(error).rpartition("caused error: ")[2]


def no_writes(error: Exception) -> str | None:
    """Return why Redis rejects writes, and the next step, in one line; None for any other error."""
    if not isinstance(error, redis.RedisError):
        return None
    said = _words(error)
    for sign, (why, advice) in _NO_WRITES.items():
        if sign in said:
            return f"{why}. {advice}; nothing is lost, and the pipeline continues automatically"
    return None


def is_transient(error: Exception) -> bool:
    return (
        isinstance(error, _TRANSIENT)
        or bool(no_writes(error))
        or (isinstance(error, redis.ResponseError) and _words(error).startswith(_TRANSIENT_WORDS))
    )
