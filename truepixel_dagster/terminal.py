"""Print the output of commands. Only this module writes to a terminal, and never control characters from outside.

Results go to stdout, progress to stderr. Rich's markup is off everywhere: a campaign named `[/]` is a name.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Collection, Iterable
from types import TracebackType
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from truepixel_dagster.text import printable, printable_json

# A column of names is folded if space is short, but not below this width.
NARROWEST_NAMES = 12

CALLED_AS = "TRUEPIXEL_CALLED_AS"

out = Console(markup=False, emoji=False, highlight=False)
err = Console(markup=False, emoji=False, highlight=False, stderr=True)


def say(line: str) -> None:
    """Print one line of progress to stderr, so that it never mixes with results."""
    err.print(as_typed(printable(line)))


def as_typed(text: str) -> str:
    """Return a text that names commands by what the user typed: `./run` sets TRUEPIXEL_CALLED_AS."""
    return text.replace("`truepixel ", f"`{os.environ.get(CALLED_AS, 'truepixel')} ")


def echo(line: str, *, keep: str = "", to_stderr: bool = False) -> None:
    """Print one line of a result, of any length.

    Arguments:
        line: The line.
        keep: Invisible characters to keep, such as the line breaks between several lines.
        to_stderr: Print to stderr instead of stdout.
    """
    click.echo(printable(line, keep), err=to_stderr)


def print_json(value: Any) -> None:
    """Print a value as JSON, with escapes for everything outside ASCII."""
    click.echo(json.dumps(msgspec.to_builtins(value), indent=2))


def print_json_line(value: Any) -> None:
    r"""Print a value as JSON on one line, with invisible characters as `\uXXXX`."""
    click.echo(printable_json(msgspec.json.encode(value).decode()))


def table(
    columns: Iterable[str], rows: Iterable[Iterable[object]], title: str = "", numbers: Collection[str] = ()
) -> Table:
    """Return a table whose cells are plain text; a cell of None is empty.

    Arguments:
        columns: The names of the columns.
        rows: The cells of each row.
        title: The title above the table.
        numbers: The columns whose cells are right-aligned and never folded.
    """
    made = Table(title=cell(title) if title else None)
    for column in columns:
        is_number = column in numbers
        made.add_column(cell(column), justify="right" if is_number else "left", no_wrap=is_number)
    for row in rows:
        made.add_row(*(cell(value) for value in row))
    return made


def print_table(made: Table, to: Console = out) -> None:
    """Print a table without cutting numbers: names are folded, and if that is not enough, the table is wider than the
    terminal."""
    least = 1 + sum(3 + _least_width(to, made, number) for number in range(len(made.columns)))
    if least > to.width:
        made.width = least
    to.print(made, crop=False)


def _least_width(to: Console, made: Table, number: int) -> int:
    """Return the least width of a column: a number needs all of its characters, a name a few."""
    column = made.columns[number]
    parts = [column.header, *column.cells]
    widest = max(to.measure(part).maximum for part in parts)
    return widest if column.no_wrap else min(widest, NARROWEST_NAMES)


def cell(value: object) -> Text:
    """Return a value as a table's cell; a list has a line for each of its values."""
    values = value if isinstance(value, list) else ["" if value is None else value]
    return Text("\n".join(printable(str(each)) for each in values), overflow="fold")


def print_crash(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print an unexpected error with its trace; for `sys.excepthook`."""
    lines = "".join(traceback.format_exception(kind, error, trace))
    sys.stderr.write(printable(lines, keep="\n"))
