"""What a rebuild did, and how it tells how far it has come."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

Progress = Callable[[str, int, int], None]


def silent(_what: str, _done: int, _total: int) -> None:
    """Tell nobody."""


class RebuildStats(msgspec.Struct, frozen=True):
    """The documents that were worked out, those of them that had to be changed, and those that had to go.

    `unknown` counts orders that could not be counted because their attribution is missing. `older` counts documents
    that tell of times whose events are no longer kept: they stay as they are. `unreadable` counts documents that cannot
    be read, and stay as they are, too; `refused` those of events whose payload this version refuses, and whose record
    Kafka no longer holds.
    """

    documents: int = 0
    changed: int = 0
    removed: int = 0
    unknown: int = 0
    older: int = 0
    unreadable: int = 0
    refused: int = 0

    def __add__(self, other: RebuildStats) -> RebuildStats:
        """The sum of two."""
        return RebuildStats(*(a + b for a, b in zip(msgspec.structs.astuple(self), msgspec.structs.astuple(other))))
