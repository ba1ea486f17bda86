"""Read a user's own samples: JSON lines of `{"key": …, "headers": {…}, "value": <object or string>}`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec


class BadLine(ValueError):
    """A line is not such an object; the message has its number."""


class _Line(msgspec.Struct):
    value: msgspec.Raw
    key: str | None = None
    headers: dict[str, str | int | float | None] = {}


_LINE = msgspec.json.Decoder(_Line)


def read_lines(lines: Iterable[bytes]) -> Iterator[tuple[bytes | None, bytes, tuple[tuple[str, bytes], ...]]]:
    """Yield key, value and headers of each line; skip empty lines.

    A string becomes a value with that text; any other JSON becomes the value unchanged, byte for byte.

    Raises:
        BadLine: A line is not JSON or has another shape.
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
