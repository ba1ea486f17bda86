"""Check what a lane really did, independently of the code that ensures it: each user's order, and contiguous commits.

    >>> from truepixel_dagster.pipeline.invariants import LastSeen
    >>> seen = LastSeen(users=1000)
    >>> [seen.moves(partition=0, user="shop:client", offset=offset) for offset in (5, 6, 4)]
    [True, True, False]

The checks do not use the ledger, the pool or the grouping by user. They receive single records after an effect on them,
and count the checked records: without any, a count of no violations means nothing. Thread-safe.
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
    """Count the records that were checked, and those that broke the promise."""

    checked: int = 0
    violations: int = 0


class Order:
    """Check that each user's records take effect in the order of their offsets, separately in every stage.

    Arguments:
        counts: Where to count.
        users: The minimum number of users that a stage remembers with their last offset; it forgets the users seen
            longest ago. Choose more than the micro-batches in flight can contain.
    """

    def __init__(self, counts: CheckCounts, users: int) -> None:
        self._counts = counts
        self._seen: defaultdict[str, LastSeen] = defaultdict(lambda: LastSeen(users))
        self._lock = threading.Lock()

    def took_effect(self, stage: str, events: Iterable[Event]) -> None:
        """Check events that took effect in a stage, in this order."""
        with self._lock:
            seen = self._seen[stage]
            for event in events:
                self._counts.checked += 1
                self._counts.violations += not seen.moves(event.origin.partition, event.user, event.origin.offset)
            seen.forget()


class LastSeen:
    """Remember the last offset of each user, by the hash of the name, which is smaller than the name.

    Expect two users with the same hash among the remembered thousands once in 10^12 micro-batches.
    """

    def __init__(self, users: int) -> None:
        self._users = users
        self._recent: dict[int, int] = {}
        self._older: dict[int, int] = {}

    def moves(self, partition: int, user: str, offset: int) -> bool:
        """Return whether an offset is above the user's last one, and store it."""
        name = hash((partition, user))
        last = self._recent.get(name, self._older.get(name, -1))
        self._recent[name] = max(offset, last)
        return offset > last

    def forget(self) -> None:
        """Forget the users seen longest ago, if there are more than necessary."""
        if len(self._recent) > self._users:
            self._older, self._recent = self._recent, {}


class Contiguity:
    """Check that an offset is committed only after every record below it is done.

    A record is done when it has passed every last stage, is a duplicate, or has its dead letter.

    Arguments:
        counts: Where to count.
    """

    def __init__(self, counts: CheckCounts) -> None:
        self._counts = counts
        self._fetched: defaultdict[int, deque[int]] = defaultdict(deque)
        self._ends: dict[int, int] = {}
        self._undone: dict[str, set[tuple[int, int]]] = {stage: set() for stage in IN_BACKGROUND}
        self._lock = threading.Lock()

    def fetched(self, messages: Iterable[Message]) -> None:
        """Note received messages."""
        with self._lock:
            for message in messages:
                at = (message.origin.partition, message.origin.offset)
                self._fetched[at[0]].append(at[1])
                self._ends[at[0]] = at[1] + 1
                for undone in self._undone.values():
                    undone.add(at)

    def without_record(self, offsets: Mapping[int, int]) -> None:
        """Note that in each partition only offsets without a record lie between the last message and this offset."""
        with self._lock:
            for partition, end in offsets.items():
                self._ends[partition] = max(end, self._ends.get(partition, 0))

    def dealt_with(self, origins: Iterable[Origin], stages: Iterable[str] = IN_BACKGROUND) -> None:
        """Note that these records need nothing more from some of the last stages."""
        done = [(origin.partition, origin.offset) for origin in origins]
        with self._lock:
            for stage in stages:
                self._undone[stage].difference_update(done)

    def committing(self, offsets: Mapping[int, int]) -> None:
        """Check offsets that are about to be committed; each is the next one to read of its partition."""
        with self._lock:
            for partition, end in offsets.items():
                waiting = self._fetched[partition]
                # An offset that was never fetched cannot be committed.
                self._counts.violations += end > self._ends.get(partition, 0)
                while waiting and waiting[0] < end:
                    at = (partition, waiting.popleft())
                    self._counts.checked += 1
                    self._counts.violations += any(at in undone for undone in self._undone.values())
