"""Micro-batches: messages in the order received, within a budget of count and bytes.

>>> from truepixel_dagster.events.event import Message
>>> from truepixel_dagster.events.origin import Origin
>>> from truepixel_dagster.stream.micro_batch import Cutter
>>> cutter = Cutter(max_messages=2, max_bytes=1_000_000)
>>> cutter.add(Message(Origin("events", 0, offset), b"shop:client", b"{}") for offset in range(3))
>>> [message.origin.offset for message in cutter.take().messages]
[0, 1]
>>> [message.origin.offset for message in cutter.take().messages]
[2]
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from truepixel_dagster.events.event import Event, Message


class OffsetRange(msgspec.Struct, frozen=True):
    """The offsets of one partition in a micro-batch, both ends included. There may be gaps between them."""

    topic: str
    partition: int
    first: int
    last: int


class MicroBatch(msgspec.Struct, frozen=True):
    """Messages in the order received."""

    messages: tuple[Message, ...]

    @property
    def size(self) -> int:
        """Return the bytes of keys, values and headers."""
        return sum(message.size for message in self.messages)

    @property
    def oldest(self) -> int:
        """Return when its oldest message arrived in Kafka (milliseconds since the epoch)."""
        return min(message.timestamp for message in self.messages)

    @property
    def ranges(self) -> dict[int, OffsetRange]:
        """Return the offsets by partition."""
        last = {message.origin.partition: message.origin for message in self.messages}
        first = {message.origin.partition: message.origin.offset for message in reversed(self.messages)}
        return {
            partition: OffsetRange(origin.topic, partition, first[partition], origin.offset)
            for partition, origin in last.items()
        }


class Cutter:
    """Cut a stream of messages into micro-batches within a budget; a larger message is a micro-batch of its own.

    Arguments:
        max_messages: The most messages in a micro-batch.
        max_bytes: The most bytes in a micro-batch of more than one message.
    """

    def __init__(self, max_messages: int, max_bytes: int) -> None:
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._waiting: list[Message] = []
        self._next: list[Message] = []
        self._bytes = 0

    @property
    def room(self) -> int:
        """Return how many more messages fit by count; 0 if the micro-batch is full."""
        return 0 if self._next else self._max_messages - len(self._waiting)

    @property
    def empty(self) -> bool:
        """Return whether there is no message."""
        return not self._waiting and not self._next

    def add(self, messages: Iterable[Message]) -> None:
        """Add messages; those that do not fit begin the next micro-batches."""
        for message in messages:
            self._place(message)

    def take(self) -> MicroBatch:
        """Return the current micro-batch, and begin the next one with the messages that did not fit."""
        batch = MicroBatch(tuple(self._waiting))
        kept, self._next = self._next, []
        self._waiting, self._bytes = [], 0
        self.add(kept)
        return batch

    def _place(self, message: Message) -> None:
        size = message.size
        full = len(self._waiting) == self._max_messages
        too_large = bool(self._waiting) and self._bytes + size > self._max_bytes
        if self._next or full or too_large:
            self._next.append(message)
        else:
            self._waiting.append(message)
            self._bytes += size


def group_by_user(events: Sequence[Event]) -> dict[str, list[Event]]:
    """Return the events by `shop:client`, each user's in offset order."""
    users: dict[str, list[Event]] = {}
    for event in events:
        users.setdefault(event.user, []).append(event)
    return users
