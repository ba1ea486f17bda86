"""`truepixel dead-letters list | show | replay | reopen`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import click
import msgspec

from truepixel_dagster.cli.options import (
    as_json,
    of_stage,
    progress_bar,
    since_time,
)
from truepixel_dagster.settings import Settings, load_settings
from truepixel_dagster.terminal import echo, out, print_json, say, table

if TYPE_CHECKING:
    from truepixel_dagster.dead_letters.inspect import Wanted
    from truepixel_dagster.events.origin import Origin


@click.group(name="dead-letters")
def dead_letters() -> None:
    """List, show and reprocess the records that could not be processed."""


def selecting(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that select dead letters; the command receives only those that the user gave."""
    options = (
        of_stage,
        since_time,
        click.option("--shop", help="Only dead letters of this shop."),
        click.option("--origin", "origins", multiple=True, help="Only this record's, as `list` prints it; repeatable."),
        click.option("--error", help="Only dead letters with this text in their error."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def wanted_letters(settings: Settings, options: dict[str, Any]) -> Wanted:
    """Return the dead letters that the options of `selecting` select."""
    origins = {origin_of(text, settings) for text in options.pop("origins")}
    return cast("Wanted", {**options, "origins": origins})


def origin_of(text: str, settings: Settings) -> Origin:
    """Parse a record's origin, as `list` prints it."""
    from truepixel_dagster.dead_letters.topic import parse_origin

    found = parse_origin(text, settings.topic)
    if found is None:
        raise click.BadParameter(f"{text!r} is not topic/partition/offset", param_hint="ORIGIN")
    return found


def letters_table(rows: list[dict[str, Any]]) -> None:
    """Print dead letters as a table."""
    out.print(table(("origin", "stage", "tries", "time", "state", "error"), (row.values() for row in rows)))


@dead_letters.command(name="list")
@selecting
@click.option("--limit", type=click.IntRange(min=1), help="Only the newest.")
@as_json
def list_letters(limit: int | None, as_json: bool, **options: Any) -> None:
    """List dead letters, the newest first: waiting, replayed, or given up after two tries."""
    from truepixel_dagster.dead_letters.inspect import as_row, listed
    from truepixel_dagster.resources import open_stores

    settings = load_settings().quick_to_give_up()
    with open_stores(settings) as stores:
        found = [as_row(entry) for entry in listed(settings, stores, **wanted_letters(settings, options))]
    shown = found[:limit]
    if as_json:
        return print_json(shown)
    letters_table(shown)
    say(f"{len(shown):,} of {len(found):,} dead letters")
    return None


@dead_letters.command()
@click.argument("origin")
@as_json
def show(origin: str, as_json: bool) -> None:
    """Show a dead letter with its record. ORIGIN is topic/partition/offset or partition/offset, as in `list`."""
    from truepixel_dagster.dead_letters.inspect import as_document, as_text, find
    from truepixel_dagster.resources import open_stores

    settings = load_settings().quick_to_give_up()
    wanted = origin_of(origin, settings)
    with open_stores(settings) as stores:
        found = find(settings, stores, wanted)
    if found is None:
        raise click.ClickException(f"there is no dead letter of {wanted} ({settings.dead_topic})")
    if as_json:
        return print_json(as_document(*found))
    echo(as_text(*found), keep="\n")
    return None


@dead_letters.command()
@selecting
@click.option("--dry-run", is_flag=True, help="Only list the dead letters that would be reprocessed.")
@click.option("--yes", is_flag=True, help="Do not ask: for scripts.")
@as_json
def replay(dry_run: bool, yes: bool, as_json: bool, **options: Any) -> None:
    """Reprocess the waiting dead letters from the stage that rejected them; each is applied exactly once.

    A dead letter that is rejected for another reason, or at another stage, uses one of its two tries; without a try
    left it is given up until `reopen`. One that is rejected as before uses no try. Safe while the stream runs.
    """
    from truepixel_dagster.dead_letters.inspect import WAITING, Listed, as_row
    from truepixel_dagster.dead_letters.reprocess import plan
    from truepixel_dagster.dead_letters.reprocess import replay as run
    from truepixel_dagster.reachable import check_servers

    settings = load_settings()
    check_servers(settings)
    wanted = wanted_letters(settings, options)
    if dry_run or not yes:
        ready, in_flight, given_up = plan(settings, **wanted)
        if dry_run:
            rows = [as_row(Listed(letter, WAITING)) for letter in ready]
            if as_json:
                return print_json({"letters": rows, "in_flight": in_flight, "given_up": given_up})
            letters_table(rows)
            return say(f"would reprocess: {len(rows):,}; in flight: {in_flight:,}; given up: {given_up:,}")
        confirm_letters("Replay", [letter.stage for letter in ready])
    with progress_bar("replaying") as bar:
        result = run(settings, on_progress=bar, **wanted)
    counts = msgspec.to_builtins(result)
    if as_json:
        return print_json(counts)
    for name, count in counts.items():
        echo(f"{name.replace('_', ' ')}: {count:,}")
    return None


@dead_letters.command()
@selecting
@click.option("--yes", is_flag=True, help="Do not ask: for scripts.")
@as_json
def reopen(yes: bool, as_json: bool, **options: Any) -> None:
    """Reopen dead letters that were given up: they get two tries, and the next replay reprocesses them."""
    from truepixel_dagster.dead_letters.inspect import GIVEN_UP, listed
    from truepixel_dagster.dead_letters.reprocess import reopen as run
    from truepixel_dagster.reachable import check_servers
    from truepixel_dagster.resources import open_stores

    settings = load_settings()
    check_servers(settings)
    wanted = wanted_letters(settings, options)
    if not yes:
        with open_stores(settings) as stores:
            found = [entry.letter.stage for entry in listed(settings, stores, **wanted) if entry.state == GIVEN_UP]
        confirm_letters("Reopen", found)
    count = run(settings, **wanted)
    if as_json:
        return print_json({"reopened": count})
    echo(f"reopened: {count:,}")
    return None


def confirm_letters(what: str, stages: list[str]) -> None:
    """Ask for confirmation before dead letters are changed, unless there are none."""
    from collections import Counter

    by_stage = ", ".join(f"{stage} {count:,}" for stage, count in sorted(Counter(stages).items()))
    if stages:
        click.confirm(f"{what} {len(stages):,} dead letters ({by_stage})?", abort=True, err=True)
