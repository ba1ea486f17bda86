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
        numbers: The columns whose cells stand at the right.
    """
    made = Table(title=cell(title) if title else None)
    for column in columns:
        made.add_column(cell(column), justify="right" if column in numbers else "left")
    for row in rows:
        made.add_row(*(cell(value) for value in row))
    return made


def cell(value: object) -> Text:
    """A value as it stands in a table."""
    return Text("" if value is None else printable(str(value)), overflow="fold")


def print_crash(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """An error that nobody expected, with its trace: for `sys.excepthook`."""
    lines = "".join(traceback.format_exception(kind, error, trace))
    sys.stderr.write(printable(lines, keep="\n"))
