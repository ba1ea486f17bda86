"""The offsets that may be committed: per partition the contiguous prefix of what was fetched and has landed.

    >>> from truepixel_dagster.pipeline.ledger import Ledger
    >>> from truepixel_dagster.stream.micro_batch import OffsetRange
    >>> first, second = ({0: OffsetRange("events", 0, start, start + 9)} for start in (0, 10))
    >>> ledger = Ledger()
    >>> ledger.opened(first)
    >>> ledger.opened(second)
    >>> ledger.landed(second)
    >>> ledger.committable()  # the first ones are still under way
    {}
    >>> ledger.landed(first)
    >>> ledger.committable()
    {0: 20}

Kafka's offsets have gaps (compaction, transactions), so contiguity follows the order in which ranges were fetched.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from truepixel_dagster.stream.micro_batch import OffsetRange


class LedgerError(Exception):
    """A caller broke the protocol: a range was never opened, or goes backward."""


class Ledger:
    """Track the open ranges of each partition in the order fetched. Not thread-safe."""

    def __init__(self) -> None:
        self._open: dict[int, deque[OffsetRange]] = {}
        self._landed: set[OffsetRange] = set()
        self._last: dict[int, int] = {}
        self._committable: dict[int, int] = {}

    def opened(self, ranges: Mapping[int, OffsetRange]) -> None:
        """Add fetched ranges.

        Raises:
            LedgerError: One begins at or before the end of an earlier one.
        """
        for partition, new in ranges.items():
            last = self._last.get(partition)
            if last is not None and new.first <= last:
                raise LedgerError(f"partition {partition}: offset {new.first} was fetched after {last}")
            self._last[partition] = new.last
            self._open.setdefault(partition, deque()).append(new)

    def landed(self, ranges: Mapping[int, OffsetRange]) -> None:
        """Mark ranges as landed in every stage; the order does not matter.

        Raises:
            LedgerError: A range is not open.
        """
        for partition, done in ranges.items():
            if done in self._landed or done not in self._open.get(partition, ()):
                raise LedgerError(f"partition {partition}: {done.first}–{done.last} landed without being open")
            self._landed.add(done)
            self._advance(partition)

    def committable(self) -> dict[int, int]:
        """Return the next offset to read of each partition that moved since its last commit."""
        return dict(self._committable)

    def committed(self, offsets: Mapping[int, int]) -> None:
        """Note committed offsets."""
        for partition, offset in offsets.items():
            if self._committable.get(partition) == offset:
                del self._committable[partition]

    @property
    def pending(self) -> int:
        """Return the number of ranges that were fetched and cannot be committed yet."""
        return sum(len(ranges) for ranges in self._open.values())

    def _advance(self, partition: int) -> None:
        waiting = self._open[partition]
        while waiting and waiting[0] in self._landed:
            done = waiting.popleft()
            self._landed.remove(done)
            self._committable[partition] = done.last + 1
