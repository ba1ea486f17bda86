"""Remember which records were rejected, and which dead letters were reprocessed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from truepixel_dagster.events.origin import Origin
from truepixel_dagster.stores.epoch import identity_key
from truepixel_dagster.stores.redis.guarded import Guarded
from truepixel_dagster.stores.redis.keys import PLACE, at


class DeadLetterMarks(Guarded):
    """Store a text for each record that is about to become a dead letter, and the places of reprocessed ones."""

    def buried(self, partitions: Sequence[int]) -> dict[int, dict[int, str]]:
        """Return the texts that `bury` stored and `forget` has not removed, by partition and offset.

        Raises:
            Unavailable: No answer after all tries.
        """

        def queue(pipeline: Any) -> None:
            for partition in partitions:
                pipeline.hgetall(self._key("buried", str(partition)))

        found: list[dict[str, str]] = self._read(queue)
        return {
            p: {int(offset): text for offset, text in marks.items() if offset.isdecimal()}
            for p, marks in zip(partitions, found)
        }

    def bury(self, marks: Mapping[Origin, str]) -> None:
        """Store a text for each record that is about to become a dead letter.

        Raises:
            Unavailable: No answer after all tries.
        """

        def write() -> None:
            pipeline = self.client.pipeline(transaction=False)
            for origin, text in marks.items():
                pipeline.hset(self._key("buried", str(origin.partition)), str(origin.offset), text)
            pipeline.execute()

        self._call(write)

    def forget(self, origins: Sequence[Origin]) -> None:
        """Remove the texts that `bury` stored of records.

        Raises:
            Unavailable: No answer after all tries.
        """

        def remove() -> None:
            pipeline = self.client.pipeline(transaction=False)
            for origin in origins:
                pipeline.hdel(self._key("buried", str(origin.partition)), str(origin.offset))
            pipeline.execute()

        self._call(remove)

    def forget_reasons(self, personal: Callable[[str], bool]) -> None:
        """Replace the reason in personal texts that `bury` stored; the marks stay.

        Raises:
            Unavailable: No answer after all tries.
        """
        for names in self._scan(self.client.scan, self._key("buried") + ":*", 1000):
            for name in names:
                marks: Any = self._call(lambda: self.client.hgetall(name))  # noqa: B023 (called at once)
                for offset, text in marks.items():
                    if personal(text):
                        mark = msgspec.json.encode({**msgspec.json.decode(text), "reason": "redacted"}).decode()
                        self._call(lambda: self.client.hset(name, offset, mark))  # noqa: B023 (called at once)

    def mark_replayed(self, origins: Sequence[Origin]) -> None:
        """Mark records whose dead letters were reprocessed, so that they are not reprocessed again.

        Raises:
            Unavailable: No answer after all tries.
        """
        if not origins:
            return
        identity = identity_key(self._prefix)

        def write() -> int:
            pipeline = self.client.pipeline(transaction=False)
            pipeline.sadd(self._key("replayed"), *(at(origin) for origin in origins))
            pipeline.hincrby(identity, "writes", 1)
            return int(pipeline.execute()[-1])

        self._wrote(self._call(write))

    def replayed(self) -> set[tuple[int, int]]:
        """Return partition and offset of every record whose dead letter was reprocessed.

        Raises:
            Unavailable: No answer after all tries.
        """
        self.verify()
        members = (member for page in self._members(self._key("replayed"), 1000) for member in page)
        return {(int(found[1]), int(found[2])) for member in members if (found := PLACE.fullmatch(member))}
