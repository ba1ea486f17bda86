"""Options and helpers that commands share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from truepixel_dagster.stages.stage import REJECTING
from truepixel_dagster.terminal import err

writable = click.option(
    "--writable/--read-only",
    default=True,
    show_default=True,
    help="Whether the UI, on loopback, may launch and cancel runs and switch sensors, or only show them.",
)


as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")


@contextmanager
def progress_bar(title: str, total: int | None = None) -> Iterator[Callable[..., None]]:
    """Show a progress bar on a terminal, nothing elsewhere; yield a function that takes the progress and the total."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, disable=not err.is_terminal, transient=True) as bar:
        task = bar.add_task(title, total=total)

        def update(done: int, total: int | None = None, what: str | None = None) -> None:
            bar.update(task, completed=done, total=total, description=what or title)

        yield update


def age_or_time(_ctx: click.Context, _param: click.Parameter, value: str | None) -> int | None:
    """Return an option's age or time as milliseconds since the epoch."""
    from datetime import datetime, timezone

    from truepixel_dagster.dead_letters.inspect import parse_since

    try:
        return parse_since(value, datetime.now(timezone.utc)) if value else None
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


of_stage = click.option("--stage", type=click.Choice(REJECTING), help="Only dead letters of this stage.")


since_time = click.option(
    "--since", callback=age_or_time, help="Only newer ones: a time, 2026-01-31T09:30 (UTC), or an age, 2h or 3d."
)
