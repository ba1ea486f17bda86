"""Read up to which offset the counters of each partition are applied."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from truepixel_dagster.access import RedisAccess
from truepixel_dagster.stores.epoch import Epoch, identity_key, script
from truepixel_dagster.stores.errors import Unavailable
from truepixel_dagster.stores.redis.guarded import Guarded

NEVER_APPLIED = -1
# KEYS: applied offsets. ARGV: partitions.
_APPLIED = script("return redis.call('HMGET', KEYS[1], unpack(ARGV))")
# KEYS: applied offsets.
_ALL_APPLIED = script("return {redis.call('HKEYS', KEYS[1]), redis.call('HVALS', KEYS[1])}")


class AppliedOffsets(Guarded):
    """Read the last applied offset of each partition: Redis has counted all records up to it."""

    def __init__(self, access: RedisAccess) -> None:
        super().__init__(access)
        self._applied: dict[int, int] = {}

    def trust(self, epoch: Epoch) -> None:
        """Require this epoch of Redis from now on; forget the offsets that were read before."""
        super().trust(epoch)
        self._applied.clear()

    def applied(self, partitions: Sequence[int]) -> dict[int, int]:
        """Return the last applied offset of each partition, as this process knows it; read once for each partition.

        Raises:
            StateLost: Redis does not hold what was written to it.
            Unavailable: No answer after all tries.
        """
        unknown = [partition for partition in partitions if partition not in self._applied]
        self._applied.update(self.last_applied(unknown))
        return {partition: self._applied[partition] for partition in partitions}

    def known_applied(self) -> dict[int, int]:
        """Return the last applied offset of each partition that this process has read or moved. They never fall."""
        return dict(self._applied)

    def last_applied(self, partitions: Sequence[int]) -> dict[int, int]:
        """Return the last applied offset of each partition, read from Redis and not stored.

        Raises:
            StateLost: Redis does not hold what was written to it.
            Unavailable: No answer after all tries.
        """
        if not partitions:
            return {}
        keys, expected = (self._key("applied"), identity_key(self._prefix)), self.expected_epoch()
        values: Any = self._call(lambda: self.client.eval(_APPLIED, 2, *keys, *map(str, partitions), *expected))
        return {partition: self._offset(str(partition), value) for partition, value in zip(partitions, values)}

    def applied_now(self) -> dict[int, int]:
        """Return the last applied offset of every partition, read from Redis.

        Raises:
            Unavailable: No answer after all tries.
        """
        keys, expected = (self._key("applied"), identity_key(self._prefix)), self.expected_epoch()
        partitions, offsets = self._call(lambda: cast("Any", self.client.eval(_ALL_APPLIED, 2, *keys, *expected)))
        return {
            int(partition): self._offset(partition, offset)
            for partition, offset in zip(partitions, offsets)
            if str(partition).isdecimal()
        }

    def _offset(self, partition: str, value: str | None) -> int:
        try:
            return int(value or NEVER_APPLIED)
        except ValueError:
            key = self._key("applied")
            raise Unavailable(
                f"{self._server}: field {partition} of {key} is {str(value)[:40]!r} instead of an offset. Set it to the"
                " last offset whose counters are applied"
            ) from None
