"""What commands print: the only place that writes to a terminal, and nothing that it writes can give it orders.

Results go to stdout, progress to stderr. Rich's markup is off everywhere: a campaign named `[/]` is a name.
"""

from __future__ import annotations

import json
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

from truepixel_dagster.text import printable

# A column of names is folded where there is no room, and not below this.
NARROWEST_NAMES = 12

out = Console(markup=False, emoji=False, highlight=False)
err = Console(markup=False, emoji=False, highlight=False, stderr=True)


def say(line: str) -> None:
    """One line of progress, on stderr so that it never mixes with results."""
    err.print(printable(line))


def echo(line: str, *, keep: str = "", to_stderr: bool = False) -> None:
    """One line of a result, as long as it may be.

    Arguments:
        line: The line.
        keep: Characters that it may have though they cannot be seen, such as the line breaks of several lines.
        to_stderr: Beside the results instead of among them.
    """
    click.echo(printable(line, keep), err=to_stderr)


def print_json(value: Any) -> None:
    """A value as JSON, exactly."""
    # All that is not ASCII as its escape.
    click.echo(json.dumps(msgspec.to_builtins(value), indent=2))


def table(
    columns: Iterable[str], rows: Iterable[Iterable[object]], title: str = "", numbers: Collection[str] = ()
) -> Table:
    """A table whose cells are text and nothing else; empty for what is None.

    Arguments:
        columns: Their names.
        rows: The cells of each.
        title: What stands above.
        numbers: The columns whose cells stand at the right, each in one line.
    """
    made = Table(title=cell(title) if title else None)
    for column in columns:
        is_number = column in numbers
        made.add_column(cell(column), justify="right" if is_number else "left", no_wrap=is_number)
    for row in rows:
        made.add_row(*(cell(value) for value in row))
    return made


def print_table(made: Table, to: Console = out) -> None:
    """Print a table with every number whole: names are folded, and where that is not enough it is wider than the
    terminal, whose lines then run on."""
    least = 1 + sum(3 + _least_width(to, made, number) for number in range(len(made.columns)))
    if least > to.width:
        made.width = least
    to.print(made, crop=False)


def _least_width(to: Console, made: Table, number: int) -> int:
    """What a column needs: a number all of it, a name a few characters."""
    column = made.columns[number]
    parts = [column.header, *column.cells]
    widest = max(to.measure(part).maximum for part in parts)
    return widest if column.no_wrap else min(widest, NARROWEST_NAMES)


def cell(value: object) -> Text:
    """A value as it stands in a table; a list has a line for each of its values."""
    values = value if isinstance(value, list) else ["" if value is None else value]
    return Text("\n".join(printable(str(each)) for each in values), overflow="fold")


def print_crash(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """An error that nobody expected, with its trace: for `sys.excepthook`."""
    lines = "".join(traceback.format_exception(kind, error, trace))
    sys.stderr.write(printable(lines, keep="\n"))
