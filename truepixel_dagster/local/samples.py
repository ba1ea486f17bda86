"""A user's own samples: JSON lines of `{"key": …, "headers": {…}, "value": <object or string>}`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec


class BadLine(ValueError):
    """A line that is no such object; the message names its number."""


class _Line(msgspec.Struct):
    value: msgspec.Raw
    key: str | None = None
    headers: dict[str, str | int | float | None] = {}


_LINE = msgspec.json.Decoder(_Line)


def read_lines(lines: Iterable[bytes]) -> Iterator[tuple[bytes | None, bytes, tuple[tuple[str, bytes], ...]]]:
    """Key, value and headers of each line; empty lines are passed over.

    A value that is a string is sent as that text; anything else is sent as the JSON that it is, byte for byte.

    Raises:
        BadLine: A line is not JSON or of another shape.
    """
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            entry = _LINE.decode(line)
            text = bytes(entry.value)
            value = msgspec.json.decode(text, type=str).encode() if text.startswith(b'"') else text
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise BadLine(f"line {number}: {error}") from None
        headers = tuple((name, str(item).encode()) for name, item in entry.headers.items() if item is not None)
        yield (entry.key.encode() if entry.key is not None else None), value, headers
