"""The journal as the event loop uses it: a thread of its own writes what has come together in one commit.

What is asked for is done in the order in which it is asked for. Its outcome comes back on the event loop.
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

# Of what has come together, as much as goes into one commit.
MOST_RECORDS, MOST_BYTES = 2000, 16 * 1024 * 1024
# Until a disk that has failed is tried again.
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
    """A journal file and its thread.

    Arguments:
        file: The file; closed with this.
        most_bytes: What it may hold.
        loop: On which callbacks are made.
    """

    def __init__(self, file: JournalFile, most_bytes: int, loop: asyncio.AbstractEventLoop) -> None:
        self._file = file
        #: What it may hold.
        self.most_bytes = most_bytes
        self._loop = loop
        self._tasks: SimpleQueue[_Task] = SimpleQueue()
        self._held = file.held()
        self._underway = 0
        self._again: list[_Remove] = []
        #: Why the last commit failed; None after one that did not.
        self.failure: str | None = None
        self._failed_at = 0.0
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    @property
    def held(self) -> Held:
        """What it holds, as of the last commit."""
        return self._held

    def takes(self, record: Record) -> bool:
        """Whether there is room for a record, and its disk has not failed lately."""
        return not self._is_failing and self._held.size + self._underway + record.size <= self.most_bytes

    @property
    def has_room(self) -> bool:
        """Whether it is not full, and its disk has not failed lately."""
        return not self._is_failing and self._held.size + self._underway < self.most_bytes

    @property
    def _is_failing(self) -> bool:
        return self.failure is not None and time.monotonic() - self._failed_at < _AGAIN_SECONDS

    def append(self, record: Record, stored: Stored) -> None:
        """Add a record at the end; `stored` is told its place when it is on the disk, or why it is not."""
        self._underway += record.size
        self._tasks.put(_Append(record, stored))

    def remove(self, seq: int, done: Done, refused: str = "") -> None:
        """Remove a record that is on the topic, or set it aside where Kafka has refused it; `done` is told."""
        self._tasks.put(_Remove(seq, refused, done))

    def read(self, after: int, most: int, size: int, found: Found) -> None:
        """Ask for the records behind a place, as of `JournalFile.read`."""
        self._tasks.put(_Read(after, most, size, found))

    def close(self) -> None:
        """Write what was asked for and give the file back. Callbacks that are left are not made."""
        self._tasks.put(None)
        self._thread.join()
        self._file.close()

    def _run(self) -> None:
        while True:
            tasks = self._together()
            outcomes = self._write(tasks) + self._reads(tasks)
            self._tell(outcomes, sum(task.record.size for task in tasks if isinstance(task, _Append)))
            if None in tasks:
                return

    def _together(self) -> list[_Task]:
        """The next tasks: the first is waited for, and those that are there by then go with it."""
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
        except JournalFailed as error:
            # After a restart what stays is sent once more: a duplicate, which stage 1 drops.
            self._failed_at, self.failure = time.monotonic(), str(error)
            places, self._again, removed = [error] * len(added), removed, []
        outcomes: list[Callable[[], None]] = [_with(task.stored, place) for task, place in zip(added, places)]
        return outcomes + [task.done for task in removed]

    def _reads(self, tasks: Sequence[_Task]) -> list[Callable[[], None]]:
        outcomes: list[Callable[[], None]] = []
        for task in tasks:
            if isinstance(task, _Read):
                try:
                    outcomes.append(_found(task.found, self._file.read(task.after, task.most, task.size)))
                except JournalFailed as error:
                    outcomes.append(_found(task.found, error))
        return outcomes

    def _tell(self, outcomes: list[Callable[[], None]], size: int) -> None:
        def tell() -> None:
            self._underway -= size
            for outcome in outcomes:
                outcome()

        try:
            self._loop.call_soon_threadsafe(tell)
        except RuntimeError:
            # The loop has ended, and whoever asked with it.
            return


def _with(stored: Stored, place: int | JournalFailed) -> Callable[[], None]:
    return lambda: stored(place)


def _found(found: Found, entries: list[Entry] | JournalFailed) -> Callable[[], None]:
    return lambda: found(entries)
