"""Read a text file as lines of cells, in any of the usual encodings and separators.

    >>> from truepixel_dagster.answers.grid import lines_of
    >>> lines_of(b"day;cost\\n2026-01-05;1,50\\n")
    [Line(number=1, cells=('day', 'cost')), Line(number=2, cells=('2026-01-05', '1,50'))]

Google's "Excel .csv" is UTF-16 with tabs, and its ".csv" is UTF-8 with commas. If a comma is the decimal separator,
spreadsheets separate cells with semicolons.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from typing import NamedTuple

_MARKS = ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"), (b"\xef\xbb\xbf", "utf-8-sig"))
_SEPARATORS = "\t;,"
_SAMPLE = 40
# Accountants write negative amounts in parentheses or with the sign behind: they are invalid here, not positive.
# The Swiss write `7.–` for 7.00.
_NUMBER = re.compile(r"[^\d.,()-]*(-?[\d.,'’\s]*\d)(?:[.,]-)?[^\d()-]*")
_MINUSES = re.compile("[\u2212\u2013\u2014]")
_BLANKS = re.compile(r"['’\s]")


class NoGrid(ValueError):
    """A file is not a table; the message says why."""


class Line(NamedTuple):
    """Hold a line of a file: its number, from 1, and its cells without surrounding blanks."""

    number: int
    cells: tuple[str, ...]


def lines_of(content: bytes) -> list[Line]:
    """Return the lines of a CSV file that are not empty.

    Raises:
        NoGrid: It is not text in UTF-8 or UTF-16, or a quote is not closed.
    """
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise NoGrid(f"the file is not text in {encoding.upper()}: {error.reason} at byte {error.start}") from None
    try:
        return list(_lines(text))
    except csv.Error as error:
        raise NoGrid(f"the file is not CSV: {error}") from None


def _lines(text: str) -> Iterator[Line]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_separator(text), strict=True)
    for cells in reader:
        if any(cell.strip() for cell in cells):
            yield Line(reader.line_num, tuple(cell.strip() for cell in cells))


def _separator(text: str) -> str:
    """Return the separator that most of the first lines contain; a comma only if it is the most frequent."""
    sample = text.splitlines()[:_SAMPLE]
    return max(_SEPARATORS, key=lambda each: sum(each in line for line in sample))


class Numbers:
    """Read the numbers of a file, which all have one style.

    Arguments:
        texts: All numbers of the file: one alone, such as `1,234`, may not show its style.
    """

    def __init__(self, texts: Iterator[str]) -> None:
        self._decimal = "," if any(map(_has_decimal_comma, texts)) else "."

    def read(self, text: str) -> Decimal:
        """Return a number without currency signs and thousands separators.

        Raises:
            ValueError: The text is not a number.
        """
        bare = _bare(text)
        grouping = "." if self._decimal == "," else ","
        whole, _, part = bare.rpartition(self._decimal) if self._decimal in bare else (bare, "", "")
        groups = whole.lstrip("-").split(grouping)
        regular = len(groups) == 1 or (
            0 < len(groups[0]) <= 3 and groups[0] != "0" and all(len(group) == 3 for group in groups[1:])
        )
        try:
            number = Decimal(whole.replace(grouping, "") + (f".{part}" if part else ""))
        except InvalidOperation:
            number, regular = Decimal(0), False
        if not regular:
            raise ValueError(f"{text[:40]!r} is not a number")
        return number


def _bare(text: str) -> str:
    """Return a number without blanks, apostrophes and currency signs; empty if the text is not a number."""
    found = _NUMBER.fullmatch(_MINUSES.sub("-", text))
    return _BLANKS.sub("", found[1]) if found else ""


def _has_decimal_comma(text: str) -> bool:
    bare = _bare(text)
    _, comma, part = bare.rpartition(",")
    if not comma:
        return False
    # No thousands begin with 0: `0,500` is a half, as a currency with three decimals writes it.
    return "." not in part and ("." in bare or len(part) != 3 or bare.lstrip("-").startswith("0,"))
