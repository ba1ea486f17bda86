"""The result of a rebuild, and how it reports its progress."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

#: Called with what is counted, how many are done, and the total (0 if unknown).
Progress = Callable[[str, int, int], None]


def silent(_what: str, _done: int, _total: int) -> None:
    """Report no progress."""


class RebuildStats(msgspec.Struct, frozen=True):
    """Count the documents that were rebuilt, changed and removed.

    `unknown` counts orders without an attribution, which could not be counted. `older`, `unreadable` and `refused`
    count documents that stay unchanged: because they depend on events that retention has removed, because they cannot
    be read, or because this version refuses their payload and Kafka no longer has the record.
    """

    documents: int = 0
    changed: int = 0
    removed: int = 0
    unknown: int = 0
    older: int = 0
    unreadable: int = 0
    refused: int = 0

    def __add__(self, other: RebuildStats) -> RebuildStats:
        """Return the sum of two."""
        return RebuildStats(*(a + b for a, b in zip(msgspec.structs.astuple(self), msgspec.structs.astuple(other))))
