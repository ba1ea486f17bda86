"""Adapt Redis: buffered counters and their claims, weekly visitors, applied offsets, marks of dead letters.

>>> from truepixel_dagster.stores.redis import Increments
>>> views = {("shop", "product", "2026-01-05"): {"views": 1}}
>>> new = Increments(views, visitors={}, upto={0: 7})
>>> stores.redis.apply(new, expected=stores.redis.applied([0]))
True
>>> stores.redis.applied([0])  # a redelivery of offset 7 changes nothing
{0: 7}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from truepixel_dagster.chunks import chunks
from truepixel_dagster.events.origin import Origin
from truepixel_dagster.stores import client_libraries  # noqa: F401
from truepixel_dagster.stores.redis.applied import NEVER_APPLIED
from truepixel_dagster.stores.redis.connection import denial, no_writes, server_of
from truepixel_dagster.stores.redis.counters import Claim, Counters, Increments
from truepixel_dagster.stores.redis.keys import OWNERS, CounterKey, Place, WeekKey, at, client_key, joined
from truepixel_dagster.stores.redis.marks import DeadLetterMarks
from truepixel_dagster.stores.redis.visitors import Visitors

__all__ = [
    "NEVER_APPLIED",
    "Claim",
    "CounterKey",
    "Increments",
    "Place",
    "RedisStore",
    "WeekKey",
    "client_key",
    "denial",
    "no_writes",
    "server_of",
]


class RedisStore(Counters, Visitors, DeadLetterMarks):
    """Hold everything that the pipeline keeps in Redis, except the leases (`stores/redis/leases.py`)."""

    def start_over(self, applied: Mapping[int, int], replayed: AbstractSet[Place], buried: Mapping[Place, str]) -> None:
        """Replace everything that Redis holds of the stream; leases stay.

        Arguments:
            applied: The last applied offset of each partition.
            replayed: The records whose dead letters were reprocessed, and count.
            buried: The texts that `bury` would have stored, by record.

        Raises:
            StateLost: Another restore has begun.
            Unavailable: No answer after all tries; call it again.
        """
        self.verify()
        for kind in ("buffer", "claim", "visitors", "visitors-aside", "buried"):
            for names in self._scan(self.client.scan, f"{self._key(kind)}:*", 1000):
                if names:
                    self._call(lambda: self.client.delete(*names))  # noqa: B023 (called at once)
        gone = [self._key(kind) for kind in ("visitors-dirty", "recounted", "replayed", "applied")]
        self._call(lambda: self.client.delete(*gone))
        self.bury({Origin("", *place): text for place, text in buried.items()})
        for places in chunks(sorted(replayed), 1000):
            marks = {at(Origin("", *place)): 0 for place in places}
            self._call(lambda: self.client.hset(self._key("recounted"), mapping=marks))  # type: ignore[arg-type]  # noqa: B023
            self._call(lambda: self.client.sadd(self._key("replayed"), *marks))  # noqa: B023 (called at once)
        if applied:
            offsets: Any = {str(partition): offset for partition, offset in applied.items()}
            self._call(lambda: self.client.hset(self._key("applied"), mapping=offsets))
        self._applied.clear()

    def forget_shop(self, shop: str) -> int:
        """Delete a shop's counters, claims, visitors and clients of tokens; return their number.

        Raises:
            Unavailable: No answer after all tries.
        """
        count = 0
        for kind in ("buffer", "claim", "visitors", "visitors-aside", OWNERS):
            for names in self._scan(self.client.scan, self._key(kind, shop) + ":*", 1000):
                count += int(self._call(lambda: self.client.delete(*names)) if names else 0)  # noqa: B023 (at once)
        dirty = self._key("visitors-dirty")
        weeks = [joined(week) for page in self.dirty_weeks(1000) for week in page if week[0] == shop]
        if weeks:
            self._call(lambda: self.client.srem(dirty, *weeks))
        return count

    def forget_tokens(self, shop: str, tokens: Sequence[str]) -> int:
        """Delete the clients of tokens of carts and checkouts; return how many were known.

        Raises:
            Unavailable: No answer after all tries.
        """
        names = [client_key(self._prefix, shop, token) for token in tokens]
        count = 0
        for page in chunks(names, 1000):
            count += int(self._call(lambda: self.client.delete(*page)))  # noqa: B023 (called at once)
        return count

    def texts(self) -> Iterator[tuple[str, str]]:
        """Yield every key with all text that it holds; none for visitors, because HyperLogLogs hold only counts.

        Raises:
            Unavailable: No answer after all tries.
        """
        for names in self._scan(self.client.scan, f"{self._prefix}:*", 1000):
            for name in names:
                yield name, self._call(lambda: self._text(name))  # noqa: B023 (called at once)

    def _text(self, name: str) -> str:
        if name.startswith((self._key("visitors") + ":", self._key("visitors-aside") + ":")):
            return ""
        kind: Any = self.client.type(name)
        if kind == "hash":
            fields: Any = self.client.hgetall(name)
            return " ".join(f"{field} {value}" for field, value in fields.items())
        members: Any = self.client.smembers(name) if kind == "set" else [self.client.get(name) or ""]
        return " ".join(members)
