"""The journal keeps accepted records after a kill, in order, and within its bound."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest

from truepixel_dagster.collector.journal import Journal
from truepixel_dagster.collector.journal_file import NAME, JournalFailed, JournalFile
from truepixel_dagster.collector.record import Record
from truepixel_dagster.instance.process import ROOT


def record(number: int, key: str = "s:c", size: int = 10) -> Record:
    return Record(key.encode(), b"%010d" % number + b"x" * (size - 10), (("source", b"pixel"),))


def numbers(file: JournalFile) -> list[int]:
    return [int(entry.record.value[:10]) for entry in file.read(0, 10_000, 10**9)]


def test_the_journal_returns_its_records_in_order_and_byte_by_byte(tmp_path: Path) -> None:
    file = JournalFile(tmp_path)
    seqs = file.append([record(n) for n in range(5)])
    file.append([record(5)], removed=seqs[1:3])
    file.close()
    again = JournalFile(tmp_path)
    assert numbers(again) == [0, 3, 4, 5]
    assert again.read(0, 1, 10**9)[0].record == record(0)
    held = again.held()
    assert (held.records, held.size) == (4, 4 * record(0).size)
    assert held.oldest is not None
    # Sequence numbers continue: none is used twice.
    assert again.append([record(6)]) == [7]
    again.close()


def test_a_read_stops_at_its_bounds_and_gives_one_at_least(tmp_path: Path) -> None:
    file = JournalFile(tmp_path)
    file.append([record(n, size=5000) for n in range(4)])
    assert [entry.seq for entry in file.read(0, 10, 6000)] == [1, 2]
    assert [entry.seq for entry in file.read(0, 10, 1)] == [1]
    assert [entry.seq for entry in file.read(2, 1, 10**9)] == [3]
    file.close()


def test_an_append_that_fails_midway_leaves_nothing(tmp_path: Path) -> None:
    file = JournalFile(tmp_path)
    unwritable = record(2)._replace(headers=cast("Any", [("source", object())]))
    with pytest.raises(TypeError):
        file.append([record(1), unwritable])
    # A record that is not stored must not be sent: its receipt would remove the next record, which has its number.
    assert numbers(file) == []
    assert file.append([record(3)]) == [1]
    assert numbers(file) == [3]
    file.close()


def test_two_processes_do_not_share_one(tmp_path: Path) -> None:
    file = JournalFile(tmp_path)
    with pytest.raises(JournalFailed, match="TRUEPIXEL_COLLECTOR_JOURNAL_DIR"):
        JournalFile(tmp_path)
    file.close()
    JournalFile(tmp_path).close()


def test_a_file_that_is_no_journal_is_reported_and_unchanged(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"not a database, but it may hold what was promised" * 100)
    before = (tmp_path / NAME).read_bytes()
    with pytest.raises(JournalFailed, match="were promised"):
        JournalFile(tmp_path)
    assert (tmp_path / NAME).read_bytes() == before


def test_records_that_kafka_rejects_permanently_are_set_aside_and_take_room(tmp_path: Path) -> None:
    file = JournalFile(tmp_path)
    (seq,) = file.append([record(1)])
    file.refuse(seq, "too large")
    held = file.held()
    assert (held.records, held.refused, held.size) == (0, 1, record(1).size)
    assert numbers(file) == []
    file.close()
    assert sqlite3.connect(tmp_path / NAME).execute("SELECT reason FROM refused").fetchall() == [("too large",)]


def test_the_runbook_moves_refused_records_back(tmp_path: Path) -> None:
    file = JournalFile(tmp_path)
    first, _ = file.append([record(1), record(2)])
    file.refuse(first, "too large")
    file.close()
    section = (ROOT / "docs/runbook.md").read_text().partition("### TruePixelCollectorRecordsRefused")[2]
    command = section.partition("\n\n    ")[2].partition("\n\n")[0]
    subprocess.run(["bash", "-c", command], cwd=tmp_path, check=True)
    file = JournalFile(tmp_path)
    assert (numbers(file), file.held().refused) == ([1, 2], 0)
    file.close()


def test_the_journal_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    file = JournalFile(tmp_path / "journal")
    file.append([record(1)])
    assert (tmp_path / "journal").stat().st_mode & 0o077 == 0
    file.close()


WRITER = """
import sys
from pathlib import Path
from tests.unit.collector.test_journal import record
from truepixel_dagster.collector.journal_file import JournalFile
file = JournalFile(Path(sys.argv[1]))
for number in range(100_000):
    file.append([record(number, size=2000)])
    print(number, flush=True)
"""


def test_what_was_reported_as_synced_survives_kill_9(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout
    reported = [int(child.stdout.readline()) for _ in range(50)]
    os.kill(child.pid, signal.SIGKILL)
    reported += [int(line) for line in child.stdout.read().split("\n")[:-1]]
    child.wait()
    file = JournalFile(tmp_path)
    found = numbers(file)
    file.close()
    assert found[: len(reported)] == reported == list(range(len(reported)))


class Reports:
    """Keeps what a journal reports."""

    def __init__(self) -> None:
        self.places: list[Any] = []

    def stored(self, place: Any) -> None:
        self.places.append(place)


async def until(condition: Any) -> None:
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come to that")


def test_the_thread_writes_in_the_order_of_requests_and_reports_on_the_loop(tmp_path: Path) -> None:
    async def scenario() -> None:
        journal = Journal(JournalFile(tmp_path), 10**6, asyncio.get_running_loop())
        reported, found = Reports(), list[Any]()
        for number in range(100):
            journal.append(record(number), reported.stored)
        journal.read(0, 10, 10**6, found.append)
        await until(lambda: len(reported.places) == 100 and found)
        assert reported.places == list(range(1, 101))
        assert [entry.seq for entry in found[0]] == list(range(1, 11))
        journal.remove(1, lambda: reported.stored("gone"))
        await until(lambda: "gone" in reported.places)
        assert journal.held.records == 99
        journal.close()

    asyncio.run(scenario())


def test_the_journal_accepts_no_more_than_its_bound(tmp_path: Path) -> None:
    async def scenario() -> None:
        size = record(0).size
        journal, reported = Journal(JournalFile(tmp_path), 3 * size, asyncio.get_running_loop()), Reports()
        for number in range(3):
            assert journal.takes(record(number))
            journal.append(record(number), reported.stored)
        assert not journal.takes(record(3))
        assert not journal.has_room
        await until(lambda: len(reported.places) == 3)
        assert not journal.takes(record(3))
        journal.remove(2, lambda: reported.stored("gone"))
        await until(lambda: "gone" in reported.places)
        assert journal.takes(record(3))
        journal.close()

    asyncio.run(scenario())


def test_a_failing_disk_is_reported_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        file = JournalFile(tmp_path)
        (seq,) = file.append([record(0)])
        journal, reported = Journal(file, 10**6, asyncio.get_running_loop()), Reports()
        append, disk = file.append, {"broken": True}

        def failing(records: Any, removed: Any = ()) -> Any:
            if disk["broken"]:
                raise JournalFailed("no space left on device")
            return append(records, removed)

        monkeypatch.setattr(file, "append", failing)
        journal.append(record(1), reported.stored)
        journal.remove(seq, lambda: reported.stored("gone"))
        await until(lambda: reported.places)
        assert isinstance(reported.places[0], JournalFailed)
        assert "no space" in str(journal.failure)
        assert not journal.has_room
        disk["broken"] = False
        # The removal is tried again by itself.
        await until(lambda: "gone" in reported.places)
        assert str(journal.failure) == "None"
        assert journal.held.records == 0
        journal.close()

    asyncio.run(scenario())


def test_an_unforeseen_error_refuses_the_records_at_hand_and_the_journal_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def append() -> list[Any]:
        file = JournalFile(tmp_path)
        journal, reported = Journal(file, 1_000_000, asyncio.get_running_loop()), Reports()
        with monkeypatch.context() as patch:
            patch.setattr(file, "append", lambda *_: (_ for _ in ()).throw(MemoryError("too much")))
            journal.append(record(1), reported.stored)
            await until(lambda: reported.places)
        assert "too much" in (journal.failure or "")
        journal.append(record(2), reported.stored)
        await until(lambda: len(reported.places) == 2)
        assert journal.failure is None
        journal.close()
        return reported.places

    refused, place = asyncio.run(append())
    assert isinstance(refused, JournalFailed)
    assert place == 1
