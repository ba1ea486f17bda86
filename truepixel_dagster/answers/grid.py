"""The text of a file as lines of cells, whatever encoding and separator it was written with.

Google's "Excel .csv" is UTF-16 with tabs, its ".csv" UTF-8 with commas; where a comma is the decimal sign, spreadsheets
write semicolons.
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
# Accountants write negative amounts in parentheses or with the sign behind: they are no numbers here, and not positive.
# The Swiss write `7.–` for 7.00.
_NUMBER = re.compile(r"[^\d.,()-]*(-?[\d.,'’\s]*\d)(?:[.,]-)?[^\d()-]*")
_MINUSES = re.compile("[\u2212\u2013\u2014]")
_BLANKS = re.compile(r"['’\s]")


class NoGrid(ValueError):
    """A file is no table. The message says why."""


class Line(NamedTuple):
    """A line of a file: its number, from 1, and its cells without the blanks around them."""

    number: int
    cells: tuple[str, ...]


def lines_of(content: bytes) -> list[Line]:
    """Return the lines of a CSV file that hold anything.

    Raises:
        NoGrid: It is no text in UTF-8 or UTF-16, or its quotes are not closed.
    """
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise NoGrid(f"the file is not text in {encoding.upper()}: {error.reason} at byte {error.start}") from None
    try:
        return list(_lines(text))
    except csv.Error as error:
        raise NoGrid(f"the file is no CSV: {error}") from None


def _lines(text: str) -> Iterator[Line]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_separator(text), strict=True)
    for cells in reader:
        if any(cell.strip() for cell in cells):
            yield Line(reader.line_num, tuple(cell.strip() for cell in cells))


def _separator(text: str) -> str:
    """The one that most of the first lines hold; a tab or a semicolon where commas are as frequent."""
    sample = text.splitlines()[:_SAMPLE]
    return max(_SEPARATORS, key=lambda each: sum(each in line for line in sample))


class Numbers:
    """Reads the numbers of a file, all of one style.

    Arguments:
        texts: All of them: one alone, such as `1,234`, may not tell its style.
    """

    def __init__(self, texts: Iterator[str]) -> None:
        self._decimal = "," if any(map(_has_decimal_comma, texts)) else "."

    def read(self, text: str) -> Decimal:
        """Return a number, without signs of currencies and separators of thousands.

        Raises:
            ValueError: It is none.
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
            raise ValueError(f"{text[:40]!r} is no number")
        return number


def _bare(text: str) -> str:
    """A number without blanks, apostrophes, and the sign of a currency around it; empty where it is none."""
    found = _NUMBER.fullmatch(_MINUSES.sub("-", text))
    return _BLANKS.sub("", found[1]) if found else ""


def _has_decimal_comma(text: str) -> bool:
    bare = _bare(text)
    _, comma, part = bare.rpartition(",")
    if not comma:
        return False
    # No thousands begin with 0: `0,500` is a half, as a currency with three decimals writes it.
    return "." not in part and ("." in bare or len(part) != 3 or bare.lstrip("-").startswith("0,"))
