"""Keep the promise: Kafka acknowledges a record, or the journal syncs it, before the sender gets its 2xx answer.

A record goes into Kafka's queue. If Kafka does not acknowledge it within a second, the journal stores a copy, and that
copy fulfils the promise; when Kafka acknowledges the record later, the copy is removed. If Kafka's queue is full, the
record goes to the journal alone and **waits** there. Later records with the same key wait behind it until it has moved
from the journal into Kafka's queue. Kafka's queue preserves the order of a partition and never drops a record, so each
key's records reach the topic in the order in which they were promised.

After a crash every record in the journal waits, even one that Kafka may already have. The collector sends them again in
order, and stage 1 drops the duplicates.

Everything here runs on the event loop, in calls that do not block; the threads of the journal and of librdkafka do the
rest.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from truepixel_dagster.collector.backlog import DRAIN_RECORDS, Backlog, bucket_of
from truepixel_dagster.collector.journal import Journal
from truepixel_dagster.collector.journal_file import JournalFailed
from truepixel_dagster.collector.kafka import Failure, Topic
from truepixel_dagster.collector.promise import DISK, FULL, TOO_LARGE, Promise
from truepixel_dagster.collector.record import Record

# Seconds without an acknowledgement after which the journal stores a copy of a record.
SLOW_SECONDS = 1.0
# Seconds between two polls for acknowledgements: while records are in flight, and while none are.
TICK_SECONDS, IDLE_SECONDS = 0.001, 0.25
# The first and the longest pause after Kafka refuses a record for a reason other than the record itself.
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0


# The state of a record in Kafka's queue: no result yet, a final result, or a refusal that may pass.
_QUEUED, _ENDED, _REFUSED = range(3)
# The state of its copy in the journal; a copy that is stored has a sequence number instead.
_NONE, _ASKED_FOR, _FAILED = range(3)


class _Underway:
    """Track a record in Kafka's queue and its copy in the journal."""

    __slots__ = ("bucket", "copy", "promise", "record", "seq", "since", "state")

    def __init__(self, record: Record, bucket: int, promise: Promise | None, since: float, seq: int = 0) -> None:
        self.record = record
        self.bucket = bucket
        self.promise = promise
        self.since = since
        self.seq = seq
        self.state = _QUEUED
        self.copy = _NONE

    def keep(self) -> None:
        promise, self.promise = self.promise, None
        if promise is not None:
            promise.keep()


class Delivery:
    """Deliver records to the topic, through the journal if Kafka is slow, full or unreachable.

    Arguments:
        journal: None for no journal: then only Kafka's acknowledgement counts.
        waiting: The keys of the records that the journal holds from an earlier process.
        clock: Returns seconds.
    """

    def __init__(
        self,
        journal: Journal | None,
        waiting: Iterable[bytes] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._journal = journal
        self._clock = clock
        self._topic: Topic | None = None
        # A dict would look for its first entry among all those that were removed before it.
        self._underway: OrderedDict[int, _Underway] = OrderedDict()
        self._number = 0
        # Records in flight without a copy in the journal, the oldest first.
        self._uncopied: deque[_Underway] = deque()
        self._backlog = Backlog(journal, waiting)
        # The same array: it is read for every record.
        self._waits = self._backlog.by_bucket
        self._pause = 0.0
        self._paused_until = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._is_ticking_fast = False
        self._is_closed = False
        #: The records that Kafka has acknowledged, and those that it has refused for good.
        self.acknowledged = self.refused = 0

    @property
    def underway(self) -> int:
        """Return the number of records in Kafka's queue."""
        return len(self._underway)

    @property
    def waiting(self) -> int:
        """Return the number of records that only the journal holds."""
        return self._backlog.records

    @property
    def journal(self) -> Journal | None:
        """Return the journal, or None without one."""
        return self._journal

    @property
    def topic(self) -> Topic | None:
        """Return Kafka's topic, or None before it is connected."""
        return self._topic

    @property
    def takes(self) -> bool:
        """Return whether it can accept a record now."""
        return (self._topic is not None and not self.is_slow) or self._has_room()

    @property
    def is_slow(self) -> bool:
        """Return whether Kafka is late with an acknowledgement."""
        oldest = next(iter(self._underway.values()), None)
        return oldest is not None and self._clock() - oldest.since > SLOW_SECONDS

    def start(self, topic: Topic) -> None:
        """Start sending; the records that wait in the journal go first."""
        self._topic = topic
        self._tick()

    def offer(self, records: Sequence[Record], promise: Promise) -> None:
        """Send records, and keep or break their promise, at once or later."""
        for record in records:
            if promise.answer.done():
                return
            bucket = bucket_of(record.key)
            if self.is_slow and not self._takes(record):
                # Waiting for Kafka would not help.
                promise.break_(FULL)
                return
            if self._waits[bucket] or not self._send(record, bucket, promise):
                self._wait(record, bucket, promise)
        if not self._is_ticking_fast and self._underway:
            self._schedule()

    async def close(self, seconds: float) -> None:
        """Wait at most `seconds` for Kafka to acknowledge records without a copy. A restart sends the others."""
        until = self._clock() + seconds
        while any(not each.seq for each in self._underway.values()) and self._clock() < until:
            await asyncio.sleep(0.02)
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()

    # Kafka's queue

    def _send(self, record: Record, bucket: int, promise: Promise | None, seq: int = 0) -> bool:
        """Send a record; return whether it is in Kafka's queue."""
        if self._topic is None or self._topic.is_broken or self._clock() < self._paused_until:
            return False
        self._number += 1
        number, underway = self._number, _Underway(record, bucket, promise, self._clock(), seq)
        self._underway[number] = underway
        if not self._topic.send(record, partial(self._delivered, number)):
            del self._underway[number]
            return False
        if seq:
            self._backlog.copies.add(seq)
        else:
            self._uncopied.append(underway)
            if self.is_slow:
                self._copy_all()
        return True

    def _delivered(self, number: int, failure: Failure | None) -> None:
        underway = self._underway.pop(number, None)
        if underway is None:
            return
        if failure is None:
            self.acknowledged += 1
            self._pause = 0.0
            underway.keep()
            self._forget(underway)
        elif failure.of_the_record:
            self.refused += 1
            if underway.promise is not None:
                underway.promise.break_(TOO_LARGE)
                underway.promise = None
            self._forget(underway, failure.words)
        else:
            self._back(underway)

    def _forget(self, underway: _Underway, refused: str = "") -> None:
        """Remove the record's copy from the journal; if the copy is still being written, remove it afterwards."""
        if underway.seq and self._journal is not None:
            self._journal.remove(underway.seq, partial(self._backlog.copies.discard, underway.seq), refused)
        else:
            underway.state = _ENDED

    def _back(self, underway: _Underway) -> None:
        """Let a record wait in the journal: Kafka's refusal may be temporary, such as a missing permission."""
        self._pause = min(max(self._pause * 2, FIRST_PAUSE), LONGEST_PAUSE)
        self._paused_until = self._clock() + self._pause
        underway.state = _REFUSED
        if underway.seq:
            self._backlog.count(underway.bucket, 1)
            self._backlog.rewind(underway.seq)
        elif underway.copy == _ASKED_FOR:
            # Records that arrive before this copy is written must already wait behind it.
            self._backlog.count(underway.bucket, 1)
        elif underway.copy == _FAILED and underway.promise is not None:
            underway.promise.break_(DISK)
        # The other records without a copy are newer: they go to the journal behind it.
        self._copy_all()

    # The journal

    def _has_room(self) -> bool:
        return self._journal is not None and self._journal.has_room

    def _takes(self, record: Record) -> bool:
        return self._journal is not None and self._journal.takes(record)

    def _wait(self, record: Record, bucket: int, promise: Promise) -> None:
        """Write a record to the journal alone, behind the earlier ones."""
        self._copy_all()
        self._append(record, bucket, promise)

    def _append(self, record: Record, bucket: int, promise: Promise) -> None:
        if self._journal is None or not self._journal.takes(record):
            promise.break_(FULL)
            return
        self._backlog.count(bucket, 1)

        def stored(place: int | JournalFailed) -> None:
            if isinstance(place, JournalFailed):
                self._backlog.count(bucket, -1)
                promise.break_(DISK)
            else:
                promise.keep()

        self._journal.append(record, stored)

    def _copy_slow(self) -> None:
        """Copy to the journal the records whose acknowledgement is late."""
        if self.is_slow:
            self._copy_all()
        while self._uncopied and self._uncopied[0].state == _ENDED:
            self._uncopied.popleft()

    def _copy_all(self) -> None:
        """Copy to the journal, in order, the records that it does not have, as long as it has room."""
        while self._uncopied:
            underway = self._uncopied[0]
            promise = underway.promise
            if promise is None or underway.state == _ENDED:
                self._uncopied.popleft()
            elif underway.state == _REFUSED:
                self._uncopied.popleft()
                underway.promise = None
                self._append(underway.record, underway.bucket, promise)
            elif self._journal is not None and self._journal.takes(underway.record):
                self._uncopied.popleft()
                underway.copy = _ASKED_FOR
                self._journal.append(underway.record, partial(self._copied, underway))
            else:
                return

    def _copied(self, underway: _Underway, place: int | JournalFailed) -> None:
        if isinstance(place, JournalFailed):
            underway.copy = _FAILED
            if underway.state == _REFUSED:
                self._backlog.count(underway.bucket, -1)
                if underway.promise is not None:
                    underway.promise.break_(DISK)
            # Otherwise Kafka may still acknowledge it in time.
            return
        underway.seq = place
        underway.keep()
        if underway.state == _REFUSED:
            self._backlog.rewind(place)
            return
        self._backlog.copies.add(place)
        if underway.state == _ENDED:
            self._forget(underway)

    def _drain(self) -> None:
        """Ask the journal for waiting records, if Kafka's queue has room for them."""
        if not self._backlog.records or self._topic is None:
            return
        if self._clock() < self._paused_until or self._topic.is_broken or len(self._underway) > 2 * DRAIN_RECORDS:
            return
        self._backlog.read(self._send, self._was_read)

    def _was_read(self, failed: JournalFailed | None) -> None:
        if failed:
            self._paused_until = self._clock() + FIRST_PAUSE
        elif self._underway:
            self._schedule()

    # The clock

    def _tick(self) -> None:
        self._timer = None
        try:
            if self._topic is not None:
                self._topic.serve()
            self._copy_slow()
            self._drain()
        finally:
            self._schedule()

    def _schedule(self) -> None:
        if self._is_closed:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._is_ticking_fast = bool(self._underway)
        seconds = TICK_SECONDS if self._is_ticking_fast else IDLE_SECONDS
        self._timer = asyncio.get_running_loop().call_later(seconds, self._tick)
