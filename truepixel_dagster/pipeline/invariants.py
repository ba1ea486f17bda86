"""What a lane really did, looked at beside the code that promises it: each user's order, and commits without a gap.

Neither asks the ledger, the pool or the grouping by user. They are told of single records where something has happened
to them, and count what they looked at: no violation among none looked at says nothing. Several threads may use them.
"""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from truepixel_dagster.events.event import Event, Message
from truepixel_dagster.events.origin import Origin
from truepixel_dagster.stages.stage import IN_BACKGROUND


@dataclass
class CheckCounts:
    """How many records were looked at, and how many of them broke the promise."""

    checked: int = 0
    violations: int = 0


class Order:
    """Whether each user's records take effect in the order of their offsets, in every stage by itself.

    Arguments:
        looked: Where to count.
        users: How many users are remembered at least in a stage, with the offset seen last; those seen longest ago are
            forgotten. It should be more than the micro-batches that can be under way at once may have.
    """

    def __init__(self, looked: CheckCounts, users: int) -> None:
        self._looked = looked
        self._seen: defaultdict[str, LastSeen] = defaultdict(lambda: LastSeen(users))
        self._lock = threading.Lock()

    def took_effect(self, stage: str, events: Iterable[Event]) -> None:
        """These took effect in a stage, in this order."""
        with self._lock:
            seen = self._seen[stage]
            for event in events:
                self._looked.checked += 1
                self._looked.violations += not seen.moves(event.origin.partition, event.user, event.origin.offset)
            seen.forget()


class LastSeen:
    """The offset seen last of each user, by the hash of its name, which is smaller than the name.

    Two users of one hash among the thousands remembered are to be expected once in 10^12 micro-batches.
    """

    def __init__(self, users: int) -> None:
        self._users = users
        self._recent: dict[int, int] = {}
        self._older: dict[int, int] = {}

    def moves(self, partition: int, user: str, offset: int) -> bool:
        """Whether an offset lies above the one that was seen last, which it then is."""
        name = hash((partition, user))
        last = self._recent.get(name, self._older.get(name, -1))
        self._recent[name] = max(offset, last)
        return offset > last

    def forget(self) -> None:
        """Those seen longest ago, where there are more than need be."""
        if len(self._recent) > self._users:
            self._older, self._recent = self._recent, {}


class Contiguity:
    """Whether an offset is committed only when every record below it is dealt with.

    A record is dealt with when it has come through every last stage, is a duplicate, or has its dead letter.

    Arguments:
        looked: Where to count.
    """

    def __init__(self, looked: CheckCounts) -> None:
        self._looked = looked
        self._fetched: defaultdict[int, deque[int]] = defaultdict(deque)
        self._ends: dict[int, int] = {}
        self._undone: dict[str, set[tuple[int, int]]] = {stage: set() for stage in IN_BACKGROUND}
        self._lock = threading.Lock()

    def fetched(self, messages: Iterable[Message]) -> None:
        """These came in."""
        with self._lock:
            for message in messages:
                at = (message.origin.partition, message.origin.offset)
                self._fetched[at[0]].append(at[1])
                self._ends[at[0]] = at[1] + 1
                for undone in self._undone.values():
                    undone.add(at)

    def without_record(self, offsets: Mapping[int, int]) -> None:
        """Of each partition nothing but offsets without a record comes between what came in and these."""
        with self._lock:
            for partition, end in offsets.items():
                self._ends[partition] = max(end, self._ends.get(partition, 0))

    def dealt_with(self, origins: Iterable[Origin], stages: Iterable[str] = IN_BACKGROUND) -> None:
        """These need nothing more of some of the last stages."""
        done = [(origin.partition, origin.offset) for origin in origins]
        with self._lock:
            for stage in stages:
                self._undone[stage].difference_update(done)

    def committing(self, offsets: Mapping[int, int]) -> None:
        """These offsets, by partition the next one to read, are about to be committed."""
        with self._lock:
            for partition, end in offsets.items():
                waiting = self._fetched[partition]
                # What nobody has fetched cannot be committed.
                self._looked.violations += end > self._ends.get(partition, 0)
                while waiting and waiting[0] < end:
                    at = (partition, waiting.popleft())
                    self._looked.checked += 1
                    self._looked.violations += any(at in undone for undone in self._undone.values())
