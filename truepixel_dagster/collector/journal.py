"""The journal as the event loop uses it: its own thread writes the collected records in one commit.

Tasks run in the order in which they are submitted. Their callbacks run on the event loop.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import NamedTuple, TypeAlias

from truepixel_dagster.collector.journal_file import Entry, Held, JournalFailed, JournalFile
from truepixel_dagster.collector.record import Record

# The most that goes into one commit.
MOST_RECORDS, MOST_BYTES = 2000, 16 * 1024 * 1024
# Seconds until a failed disk is tried again.
_AGAIN_SECONDS = 1.0
Stored = Callable[["int | JournalFailed"], None]
Found = Callable[["list[Entry] | JournalFailed"], None]
Done = Callable[[], None]


class _Append(NamedTuple):
    record: Record
    stored: Stored


class _Remove(NamedTuple):
    seq: int
    reason: str
    done: Done


class _Read(NamedTuple):
    after: int
    most: int
    size: int
    found: Found


_Task: TypeAlias = "_Append | _Remove | _Read | None"


class Journal:
    """Run a journal file on its own thread.

    Arguments:
        file: The file; `close` closes it.
        most_bytes: Its capacity.
        loop: The event loop that runs the callbacks.
    """

    def __init__(self, file: JournalFile, most_bytes: int, loop: asyncio.AbstractEventLoop) -> None:
        self._file = file
        #: Its capacity in bytes.
        self.most_bytes = most_bytes
        self._loop = loop
        self._tasks: SimpleQueue[_Task] = SimpleQueue()
        self._held = file.held()
        self._underway = 0
        self._again: list[_Remove] = []
        #: Why the last commit failed; None if it succeeded.
        self.failure: str | None = None
        self._failed_at = 0.0
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    @property
    def held(self) -> Held:
        """Return what the journal holds, as of the last commit."""
        return self._held

    def takes(self, record: Record) -> bool:
        """Return whether the journal has room for a record and its disk has not failed recently."""
        return not self._is_failing and self._held.size + self._underway + record.size <= self.most_bytes

    @property
    def has_room(self) -> bool:
        """Return whether the journal is not full and its disk has not failed recently."""
        return not self._is_failing and self._held.size + self._underway < self.most_bytes

    @property
    def _is_failing(self) -> bool:
        return self.failure is not None and time.monotonic() - self._failed_at < _AGAIN_SECONDS

    def append(self, record: Record, stored: Stored) -> None:
        """Append a record; call `stored` with its sequence number once it is on disk, or with the error."""
        self._underway += record.size
        self._tasks.put(_Append(record, stored))

    def remove(self, seq: int, done: Done, refused: str = "") -> None:
        """Remove a record that is on the topic, or set aside one that Kafka has refused; then call `done`."""
        self._tasks.put(_Remove(seq, refused, done))

    def read(self, after: int, most: int, size: int, found: Found) -> None:
        """Request the records after a sequence number, as in `JournalFile.read`."""
        self._tasks.put(_Read(after, most, size, found))

    def close(self) -> None:
        """Write the pending tasks and release the file. Remaining callbacks do not run."""
        self._tasks.put(None)
        self._thread.join()
        self._file.close()

    def _run(self) -> None:
        while True:
            tasks = self._together()
            outcomes = self._write(tasks) + self._reads(tasks)
            self._call_back(outcomes, sum(task.record.size for task in tasks if isinstance(task, _Append)))
            if None in tasks:
                return

    def _together(self) -> list[_Task]:
        """Return the next tasks: wait for the first one, then take those that are queued by then."""
        try:
            task = self._tasks.get(timeout=_AGAIN_SECONDS if self._again else None)
        except Empty:
            return []
        tasks, size = [task], 0
        while task is not None and len(tasks) < MOST_RECORDS and size < MOST_BYTES and not self._tasks.empty():
            size += task.record.size if isinstance(task, _Append) else 0
            task = self._tasks.get()
            tasks.append(task)
        return tasks

    def _write(self, tasks: Sequence[_Task]) -> list[Callable[[], None]]:
        added = [task for task in tasks if isinstance(task, _Append)]
        removed = [*self._again, *(task for task in tasks if isinstance(task, _Remove))]
        if not added and not removed:
            return []
        places: Sequence[int | JournalFailed]
        try:
            for task in removed:
                if task.reason:
                    self._file.refuse(task.seq, task.reason)
            places = self._file.append([task.record for task in added], [task.seq for task in removed])
            self._held, self.failure, self._again = self._file.held(), None, []
        except Exception as error:
            # This thread survives every error: without it, every request would wait for its time limit.
            # After a restart the record that stays is sent once more: stage 1 drops it as a duplicate.
            failed = _failed(error)
            self._failed_at, self.failure = time.monotonic(), str(failed)
            places, self._again, removed = [failed] * len(added), removed, []
        outcomes: list[Callable[[], None]] = [_with(task.stored, place) for task, place in zip(added, places)]
        return outcomes + [task.done for task in removed]

    def _reads(self, tasks: Sequence[_Task]) -> list[Callable[[], None]]:
        outcomes: list[Callable[[], None]] = []
        for task in tasks:
            if isinstance(task, _Read):
                try:
                    outcomes.append(_found(task.found, self._file.read(task.after, task.most, task.size)))
                except Exception as error:
                    outcomes.append(_found(task.found, _failed(error)))
        return outcomes

    def _call_back(self, outcomes: list[Callable[[], None]], size: int) -> None:
        def call_back() -> None:
            self._underway -= size
            for outcome in outcomes:
                outcome()

        try:
            self._loop.call_soon_threadsafe(call_back)
        except RuntimeError:
            # The loop has ended, and so has every caller.
            return


def _failed(error: Exception) -> JournalFailed:
    return error if isinstance(error, JournalFailed) else JournalFailed(f"the journal has failed: {error!r}")


def _with(stored: Stored, place: int | JournalFailed) -> Callable[[], None]:
    return lambda: stored(place)


def _found(found: Found, entries: list[Entry] | JournalFailed) -> Callable[[], None]:
    return lambda: found(entries)
