"""Store the epoch of Redis in MongoDB, and create it for an installation that has none yet."""

from __future__ import annotations

import secrets

from truepixel_dagster.stores import identities
from truepixel_dagster.stores.epoch import Epoch
from truepixel_dagster.stores.mongodb import MongoStore
from truepixel_dagster.stores.redis import RedisStore

REDIS = "redis"


class EpochKeeper:
    """Store the epoch of one Redis in MongoDB."""

    def __init__(self, mongodb: MongoStore, redis: RedisStore) -> None:
        self._mongodb = mongodb
        self._redis = redis

    def expected(self) -> Epoch:
        """Return the epoch that Redis must hold.

        Raises:
            Unavailable: A server does not answer.
        """
        kept = identities.read(self._mongodb, REDIS)
        if kept is None or "epoch" not in kept:
            # Redis first: if this stops in between, only Redis has the epoch, and no data is lost.
            epoch = self._redis.begin_epoch(secrets.token_hex(8))
            kept = identities.begin(self._mongodb, REDIS, {"epoch": epoch})
        return Epoch(kept["epoch"], kept.get("writes", 0))

    def wrote(self, writes: int) -> None:
        """Store the number of writes that Redis has counted.

        Raises:
            Unavailable: MongoDB does not answer.
        """
        identities.raise_to(self._mongodb, REDIS, {"writes": writes})

    def replace(self, epoch: Epoch) -> None:
        """Replace the stored epoch.

        Raises:
            Unavailable: MongoDB does not answer.
        """
        identities.change(self._mongodb, REDIS, {"epoch": epoch.value, "writes": epoch.writes})
