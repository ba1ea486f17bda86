from __future__ import annotations

import base64
from datetime import datetime, timedelta, timezone

import pytest

from truepixel_dagster.dead_letters.inspect import Listed, as_document, as_text, parse_since
from truepixel_dagster.dead_letters.topic import Letter
from truepixel_dagster.events.event import Message
from truepixel_dagster.events.origin import Origin

NOW = datetime(2026, 2, 1, 12, tzinfo=timezone.utc)
ENTRY = Listed(Letter(Origin("t", 0, 1), "decode", "not\x1b[31m JSON", 1, 0, Origin("dead", 0, 0), 9), "waiting")


def shown(value: bytes | None, key: bytes | None = b"s:c") -> str:
    return as_text(ENTRY, Message(Origin("t", 0, 1), key, value, (("h", b"\xff\x07"), ("n", None))))


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2h", NOW - timedelta(hours=2)),
        ("3d", NOW - timedelta(days=3)),
        ("90m", NOW - timedelta(minutes=90)),
        ("2026-01-31", datetime(2026, 1, 31, tzinfo=timezone.utc)),
        ("2026-01-31T09:30", datetime(2026, 1, 31, 9, 30, tzinfo=timezone.utc)),
        ("2026-01-31T09:30:00Z", datetime(2026, 1, 31, 9, 30, tzinfo=timezone.utc)),
        ("2026-01-31T09:30:00+02:00", datetime(2026, 1, 31, 7, 30, tzinfo=timezone.utc)),
    ],
)
def test_since_is_a_time_or_an_age(text: str, moment: datetime) -> None:
    assert parse_since(text, NOW) == int(moment.timestamp() * 1000)


@pytest.mark.parametrize("text", ["yesterday", "h", "2y", "-2h", "999999w", "1767225600", ""])
def test_a_value_that_is_neither_time_nor_age_is_rejected_in_one_line(text: str) -> None:
    with pytest.raises(ValueError, match="neither a time"):
        parse_since(text, NOW)


def test_json_is_printed_in_its_own_layout() -> None:
    assert shown(b'{"a": 1e999, "a": 2}').endswith('{\n  "a": 1e999,\n  "a": 2\n}')


@pytest.mark.parametrize(
    "value", [None, b"", b"\xff\xfe\x00", b"{", b"\x1b[2J", b"[" * 100_000, b'"\xc2\x9b31m"', b"\n\r\n"]
)
def test_nothing_in_a_record_crashes_or_reaches_the_terminal(value: bytes | None) -> None:
    text = shown(value, key=b"\x1b]0;x\x07")
    assert all(character.isprintable() or character == "\n" for character in text)


@pytest.mark.parametrize("value", [b"\xff\x00junk", b'{"a": 1}', b""])
def test_the_document_has_the_exact_bytes(value: bytes) -> None:
    document = as_document(ENTRY, Message(Origin("t", 0, 1), None, value))
    assert base64.b64decode(document["value_base64"]) == value
    assert (document["key"], document["state"]) == (None, "waiting")
