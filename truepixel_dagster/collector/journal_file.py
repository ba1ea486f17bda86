"""The journal on disk: promised records that Kafka has not acknowledged, in the order of their arrival.

It is an SQLite file in WAL mode with `synchronous=FULL`: when a commit returns, its data is on disk and survives
`kill -9` and a power loss. One process holds the file at a time, and one thread uses it.
"""

from __future__ import annotations

import fcntl
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, NamedTuple

import msgspec

from truepixel_dagster.collector.record import Record
from truepixel_dagster.private_files import open_private, private_folder

NAME, LOCK = "journal.sqlite", "journal.lock"
_WAL_BYTES = 16 * 1024 * 1024
_CACHE_KIB = 2048
_TABLES = """
CREATE TABLE IF NOT EXISTS records (
  seq INTEGER PRIMARY KEY, at INTEGER NOT NULL, size INTEGER NOT NULL, key BLOB NOT NULL, headers BLOB NOT NULL,
  value BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS refused (
  seq INTEGER PRIMARY KEY, at INTEGER NOT NULL, size INTEGER NOT NULL, key BLOB NOT NULL, headers BLOB NOT NULL,
  value BLOB NOT NULL, reason TEXT NOT NULL
);
"""
_LAST = "SELECT ifnull(max(seq), 0) FROM (SELECT seq FROM records UNION ALL SELECT seq FROM refused)"
# SQLite truncates a large write-ahead log to this size.
_PRAGMAS = (
    "journal_mode=WAL",
    "synchronous=FULL",
    f"journal_size_limit={_WAL_BYTES}",
    f"cache_size=-{_CACHE_KIB}",
    "temp_store=MEMORY",
)
_encode = msgspec.msgpack.Encoder().encode
_HEADERS = msgspec.msgpack.Decoder(tuple[tuple[str, bytes], ...])


class JournalFailed(Exception):
    """The disk fails to read or write; the message says in one line what to do."""


class Entry(NamedTuple):
    """Hold a record of the journal and its sequence number, which follows the order of arrival."""

    seq: int
    record: Record


class Held(NamedTuple):
    """Summarise the journal: records, their bytes, and when the oldest arrived, in seconds since the epoch.

    `refused` counts the records that Kafka will never accept; `size` includes their bytes.
    """

    records: int = 0
    size: int = 0
    oldest: float | None = None
    refused: int = 0


class JournalFile:
    """Store records in a file in its own folder.

    Arguments:
        folder: The folder; created if it is missing, and accessible only to its owner.

    Raises:
        JournalFailed: The file cannot be opened, or another process holds it.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        self._database: sqlite3.Connection | None = None
        try:
            private_folder(folder)
            self._lock: IO[str] = open_private(folder / LOCK, "w")
        except OSError as error:
            raise JournalFailed(f"the journal's folder {folder} cannot be used: {error.strerror}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise JournalFailed(
                f"the journal in {folder} is in use by another collector: give each collector its own folder"
                " (TRUEPIXEL_COLLECTOR_JOURNAL_DIR)"
            ) from None
        try:
            self._last = self._number(_LAST)
            self._records = self._number("SELECT count(*) FROM records")
            self._refused = self._number("SELECT count(*) FROM refused")
            # Refused records take up room, too, until an operator has examined them.
            self._size = self._number("SELECT ifnull(sum(size), 0) FROM records")
            self._size += self._number("SELECT ifnull(sum(size), 0) FROM refused")
        except JournalFailed:
            self._lock.close()
            raise

    def append(self, records: Sequence[Record], removed: Iterable[int] = ()) -> list[int]:
        """Append records and remove others in one transaction, which is on disk when this returns.

        Returns:
            The sequence numbers of the appended records.

        Raises:
            JournalFailed: The transaction failed and changed nothing.
        """
        now = int(time.time() * 1000)
        seqs = list(range(self._last + 1, self._last + 1 + len(records)))
        rows = (
            (seq, now, record.size, record.key, _encode(record.headers), record.value)
            for seq, record in zip(seqs, records)
        )
        gone: list[int] = []
        with self._transaction() as database:
            database.executemany("INSERT INTO records VALUES (?, ?, ?, ?, ?, ?)", rows)
            for seq in removed:
                gone += [row[0] for row in database.execute("DELETE FROM records WHERE seq = ? RETURNING size", (seq,))]
        self._last += len(records)
        self._records += len(records) - len(gone)
        self._size += sum(record.size for record in records) - sum(gone)
        return seqs

    def refuse(self, seq: int, reason: str) -> None:
        """Set aside a record that Kafka will never accept; it stays until an operator has examined it.

        Raises:
            JournalFailed: The transaction failed and changed nothing.
        """
        with self._transaction() as database:
            database.execute("INSERT OR REPLACE INTO refused SELECT *, ? FROM records WHERE seq = ?", (reason, seq))
            count = database.execute("DELETE FROM records WHERE seq = ?", (seq,)).rowcount
        self._records -= count
        self._refused += count

    def read(self, after: int, most: int, size: int) -> list[Entry]:
        """Return the next records after a sequence number: at most `most`, up to the first beyond `size` bytes.

        Raises:
            JournalFailed: The file cannot be read.
        """
        found: list[Entry] = []
        query = "SELECT seq, size, key, headers, value FROM records WHERE seq > ? ORDER BY seq LIMIT ?"
        with self._reading() as database:
            for seq, bytes_, key, headers, value in database.execute(query, (after, most)):
                found.append(Entry(seq, Record(key, value, _HEADERS.decode(headers))))
                size -= bytes_
                if size <= 0:
                    break
        return found

    def keys(self) -> Iterator[bytes]:
        """Yield the key of each record.

        Raises:
            JournalFailed: The file cannot be read.
        """
        with self._reading() as database:
            for (key,) in database.execute("SELECT key FROM records"):
                yield key

    def held(self) -> Held:
        """Return what the journal holds; without the age if the disk cannot be read."""
        oldest = None
        if self._records:
            with suppress(JournalFailed), self._reading() as database:
                oldest = database.execute("SELECT at FROM records ORDER BY seq LIMIT 1").fetchone()
        return Held(self._records, self._size, oldest[0] / 1000 if oldest else None, self._refused)

    def close(self) -> None:
        """Close the file and release its lock."""
        with suppress(sqlite3.Error):
            if self._database is not None:
                self._database.close()
        self._database = None
        self._lock.close()

    def _open(self) -> sqlite3.Connection:
        if self._database is not None:
            return self._database
        try:
            database = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
            for pragma in _PRAGMAS:
                database.execute(f"PRAGMA {pragma}")
            database.executescript(_TABLES)
        except sqlite3.Error as error:
            raise self._failed(error) from error
        self._database = database
        return database

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        try:
            yield self._open()
        except (sqlite3.Error, msgspec.MsgspecError) as error:
            raise self._failed(error) from error

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        database = self._open()
        try:
            database.execute("BEGIN IMMEDIATE")
            yield database
            database.execute("COMMIT")
        except BaseException as error:
            # The next call opens a new connection: one that has seen a disk error may keep failing, and in one whose
            # transaction is left open, a read would see records that are not stored.
            self._database = None
            with suppress(sqlite3.Error):
                database.close()
            if isinstance(error, sqlite3.Error):
                raise self._failed(error) from error
            raise

    def _number(self, query: str) -> int:
        with self._reading() as database:
            return int(database.execute(query).fetchone()[0])

    def _failed(self, error: Exception) -> JournalFailed:
        return JournalFailed(
            f"the journal {self._path} cannot be used: {error}. Free space on its disk, or move the file away and"
            " restart. Keep the file: its records were promised"
        )
