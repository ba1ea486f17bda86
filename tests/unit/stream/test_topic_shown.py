"""`truepixel topic` shows a record on one line, whatever characters it has."""

import json
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from truepixel_dagster.cli.topic import Reader
from truepixel_dagster.events.event import Message
from truepixel_dagster.events.origin import Origin, base_of
from truepixel_dagster.events.sites import NOTHING_KNOWN
from truepixel_dagster.settings import Settings
from truepixel_dagster.stream import reading
from truepixel_dagster.stream.events_log import EventsLog

CLIENT = "a\u0085b\u202e\U000e0001"
MESSAGE = Message(
    Origin("shop.events", 0, 7),
    f"shop:{CLIENT}".encode(),
    b'{"id": "e1", "name": "page_viewed", "timestamp": "2026-01-05T10:00:00Z"}',
    (("source", b"pixel"),),
    1_767_607_200_000,
)
NO_REDACTIONS: Any = SimpleNamespace(shown=list)


def shown(capsys: pytest.CaptureFixture[str], *, as_json: bool) -> str:
    Reader(EventsLog(Settings().kafka()), NOTHING_KNOWN, NO_REDACTIONS).show(MESSAGE, as_json=as_json)
    (line,) = capsys.readouterr().out.splitlines()
    return line


def test_json_keeps_ids_exactly_and_has_no_invisible_characters(capsys: pytest.CaptureFixture[str]) -> None:
    line = shown(capsys, as_json=True)
    assert line.isprintable()
    assert json.loads(line)["client"] == CLIENT


def test_a_line_has_escapes(capsys: pytest.CaptureFixture[str]) -> None:
    line = shown(capsys, as_json=False)
    assert line.isprintable()
    assert r"a\x85b\u202e\U000e0001" in line


def test_redactions_are_looked_up_by_offsets_over_all_logs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def read_all(_: Settings, *, first: Mapping[int, int], end: Mapping[int, int]) -> Iterator[Message]:
        assert (first, end) == ({0: 7}, {0: 8})
        yield MESSAGE

    monkeypatch.setattr(reading, "read_all", read_all)
    base = base_of(1)
    reader = Reader(EventsLog(Settings().kafka(), generation=1), NOTHING_KNOWN, NO_REDACTIONS)
    (message,) = reader.records({0: base + 7}, {0: base + 8})
    assert message.origin.offset == base + 7
    reader.show(message, as_json=True)
    assert json.loads(capsys.readouterr().out)["record"] == "0/7@1"
