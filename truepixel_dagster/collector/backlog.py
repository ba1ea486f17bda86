"""Count the records that only the journal holds, by bucket of keys, and read them back in order."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable
from functools import partial

from truepixel_dagster.collector.journal import Journal
from truepixel_dagster.collector.journal_file import Entry, JournalFailed
from truepixel_dagster.collector.record import Record

# Keys that share a bucket wait for each other, which is harmless; a counter for each key would grow without bound.
BUCKETS = 1 << 16
# The most records and bytes that one read takes from the journal.
DRAIN_RECORDS, DRAIN_BYTES = 500, 4 * 1024 * 1024

# Record, bucket, no promise, sequence number.
Send = Callable[[Record, int, None, int], bool]
Ended = Callable[[JournalFailed | None], None]


class Backlog:
    """The records that wait in the journal until they are in Kafka's queue.

    Arguments:
        journal: None for no journal: then nothing waits.
        keys: The keys of the records that the journal holds from an earlier process.

    Attributes:
        by_bucket: The number of waiting records by bucket. Change it only by `count`.
        records: The number of all waiting records.
        copies: The journal's sequence numbers of records that are in Kafka's queue: a read must not send these again.
    """

    def __init__(self, journal: Journal | None, keys: Iterable[bytes]) -> None:
        self._journal = journal
        self.by_bucket = array("L", bytes(BUCKETS * array("L").itemsize))
        self.records = 0
        self.copies: set[int] = set()
        self._drained = 0
        self._is_reading = False
        # The number of the current read: a read that began before `_drained` moved back is stale.
        self._reading = 0
        for key in keys:
            self.count(bucket_of(key), 1)

    def count(self, bucket: int, records: int) -> None:
        """Add to the number of records that wait."""
        self.by_bucket[bucket] += records
        self.records += records

    def rewind(self, seq: int) -> None:
        """Read the journal again from a sequence number on."""
        self.copies.discard(seq)
        self._drained = min(self._drained, seq - 1)
        self._reading += 1

    def read(self, send: Send, ended: Ended) -> None:
        """Ask the journal for waiting records, unless a read is in progress.

        Arguments:
            send: Sends a record and returns whether it could; the first one that it cannot send ends the read.
            ended: Called after the read, with the failure of the journal if it failed.
        """
        if self._is_reading or self._journal is None:
            return
        self._is_reading = True
        found = partial(self._found, self._reading, send, ended)
        self._journal.read(self._drained, DRAIN_RECORDS, DRAIN_BYTES, found)

    def _found(self, reading: int, send: Send, ended: Ended, entries: list[Entry] | JournalFailed) -> None:
        self._is_reading = False
        if reading != self._reading:
            return
        if isinstance(entries, JournalFailed):
            ended(entries)
            return
        for seq, record in entries:
            if seq not in self.copies:
                bucket = bucket_of(record.key)
                if not send(record, bucket, None, seq):
                    break
                self.count(bucket, -1)
            self._drained = seq
        ended(None)


def bucket_of(key: bytes) -> int:
    """Return the bucket of a key."""
    return hash(key) & (BUCKETS - 1)
