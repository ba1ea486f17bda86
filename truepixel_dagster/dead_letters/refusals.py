"""Refusals are permanent: a lane refuses a record again until its dead letter is reprocessed.

After a crash between a dead letter and the commit of its offset, the batch runs again. If the store now accepted the
event, the event would count once now and once more when its dead letter is reprocessed. So a refusal is stored in Redis
before its dead letter is sent, and a lane loads the stored refusals when it starts. Only the lane's owner writes them.

A commit removes the refusals below it. If the group's offsets are reset, the waiting dead letters restore the refusals.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from truepixel_dagster.dead_letters.topic import DeadLetter, newest
from truepixel_dagster.events.event import Event
from truepixel_dagster.events.origin import Origin
from truepixel_dagster.stages.refused import Refused
from truepixel_dagster.stores.redis import RedisStore
from truepixel_dagster.stream.micro_batch import OffsetRange


class Mark(msgspec.Struct, frozen=True):
    """Hold the stage that refused a record, and the reason."""

    stage: str
    reason: str


_MARK = msgspec.json.Decoder(Mark)


class Refusals:
    """Hold the refusals of a lane above its committed offsets. Safe to use from several threads.

    Arguments:
        store: Stores them.
        partitions: The partitions of the lane.

    Raises:
        Unavailable: Redis does not answer.
    """

    def __init__(self, store: RedisStore, partitions: Sequence[int]) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._marks = {
            (partition, offset): _mark(text)
            for partition, texts in store.buried(partitions).items()
            for offset, text in texts.items()
        }

    def restore(self, letters: Iterable[DeadLetter], again: Mapping[int, OffsetRange]) -> None:
        """Store the refusals of committed records that are read again: their dead letters still count.

        Arguments:
            letters: All dead letters; only read if records are read again.
            again: The offsets that are read again, by partition.

        Raises:
            KafkaUnavailable, Unavailable: A server does not answer.
        """
        if not again:
            return
        returned = self._store.replayed()
        for origin, letter in newest(letters).items():
            own, place = again.get(origin.partition), _place(origin)
            if own and own.first <= origin.offset <= own.last and place not in returned and place not in self._marks:
                self.mark(letter.stage, {origin: letter.error})

    def reason(self, stage: str, origin: Origin) -> str | None:
        """Return why a stage refused a record earlier; None if it did not."""
        mark = self._marks.get(_place(origin))
        return mark.reason if mark and mark.stage == stage else None

    def among(self, stage: str, events: Sequence[Event]) -> tuple[Refused, ...]:
        """Return the events that a stage refused earlier, with the original reason."""
        with self._lock:
            reasons = {place: mark.reason for place, mark in self._marks.items() if mark.stage == stage}
        if not reasons:
            return ()
        found = ((event, reasons.get(_place(event.origin))) for event in events)
        return tuple(Refused(event, reason) for event, reason in found if reason is not None)

    def mark(self, stage: str, refused: Mapping[Origin, str]) -> None:
        """Store refusals and their reasons; call this before sending their dead letters.

        Raises:
            Unavailable: Redis does not answer.
        """
        new = {origin: Mark(stage, reason) for origin, reason in refused.items()}
        self._store.bury({origin: msgspec.json.encode(mark).decode() for origin, mark in new.items()})
        with self._lock:
            self._marks.update({_place(origin): mark for origin, mark in new.items()})

    def forget(self, committed: Mapping[int, int]) -> None:
        """Remove the refusals below these offsets, by partition; without any, Redis is not called.

        Raises:
            Unavailable: Redis does not answer.
        """
        with self._lock:
            past = [(partition, offset) for partition, offset in self._marks if offset < committed.get(partition, 0)]
        if past:
            self._store.forget([Origin("", *place) for place in past])
            with self._lock:
                for place in past:
                    del self._marks[place]


def _mark(text: str) -> Mark:
    """Parse a stored mark; an unknown format refuses its record at the first stage, so that it counts nowhere."""
    try:
        return _MARK.decode(text)
    except msgspec.MsgspecError:
        return Mark("decode", f"previously rejected, for a reason that this version cannot read: {text[:200]}")


def _place(origin: Origin) -> tuple[int, int]:
    """Return partition and offset, which identify a record because a lane reads one topic."""
    return origin.partition, origin.offset
