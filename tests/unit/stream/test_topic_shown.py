"""`truepixel topic` shows a record on one line, whatever characters it has."""

import json
from typing import cast

import pytest

from truepixel_dagster.cli.topic import Reader
from truepixel_dagster.events.event import Message
from truepixel_dagster.events.origin import Origin
from truepixel_dagster.events.sites import NOTHING_KNOWN
from truepixel_dagster.settings import Settings
from truepixel_dagster.stores.redactions import Redactions

CLIENT = "a\u0085b\u202e\U000e0001"
MESSAGE = Message(
    Origin("shop.events", 0, 7),
    f"shop:{CLIENT}".encode(),
    b'{"id": "e1", "name": "page_viewed", "timestamp": "2026-01-05T10:00:00Z"}',
    (("source", b"pixel"),),
    1_767_607_200_000,
)


def shown(capsys: pytest.CaptureFixture[str], *, as_json: bool) -> str:
    Reader(Settings(), NOTHING_KNOWN, cast("Redactions", None)).show(MESSAGE, as_json=as_json)
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
