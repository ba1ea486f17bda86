"""`truepixel settings | setup | migrate | start`: set up an installation."""

from __future__ import annotations

import os
import sys

import click

from truepixel_dagster.cli.options import (
    as_json,
)
from truepixel_dagster.settings import Settings, load_settings
from truepixel_dagster.settings_described import bounds_of, source_of
from truepixel_dagster.stream.errors import LogChanged
from truepixel_dagster.terminal import echo, print_json, say


@click.command()
@as_json
def settings(as_json: bool) -> None:
    """List every setting: its variable, its value and where that comes from, its default and bounds, what it means."""
    loaded = load_settings()
    rows = [
        {
            "variable": f"TRUEPIXEL_{name.upper()}",
            "value": str(getattr(loaded, name)),
            "source": source_of(name),
            "default": str(field.default),
            "bounds": bounds_of(name),
            "is": field.description or "",
        }
        for name, field in Settings.model_fields.items()
    ]
    if as_json:
        return print_json(rows)
    for row in rows:
        given = "" if row["source"] == "default" else f", default {row['default']}"
        bounds = f", {row['bounds']}" if row["bounds"] else ""
        echo(f"{row['variable']}={row['value']}")
        echo(f"    {row['is']} (from {row['source']}{given}{bounds})")
    return None


@click.command()
@click.option("--reindex", metavar="INDEX", help="Reindex one index under its template; stop the lanes first.")
def setup(reindex: str | None) -> None:
    """Create topics, index templates and indexes. A second run changes nothing.

    Adds missing fields to indices. If an index was created without its template or changed by hand, prints the next
    step and exits with 1. Prints what to materialize after an upgrade from version 0.1, and warns of servers whose
    settings can lose acknowledged data.
    """
    from truepixel_dagster.durability import ask, warnings
    from truepixel_dagster.provision import older_documents, provision
    from truepixel_dagster.reachable import check_servers
    from truepixel_dagster.resources import open_stores
    from truepixel_dagster.source_log import verified
    from truepixel_dagster.stores import reindexing

    settings = load_settings()
    check_servers(settings)
    changed = provision(settings)
    for line in changed:
        echo(line)
    if not changed:
        echo("nothing to do: everything is set up")
    with open_stores(settings) as stores:
        if reindex:
            echo(f"{reindex}: {reindexing.reindex(settings, reindex):,} documents reindexed")
        for line in warnings(ask(settings.kafka(), stores), settings.kafka_replication):
            say(f"warning: {line}")
        unsound = stores.elasticsearch.unsound()
        for line in unsound:
            say(line)
        for line in stores.elasticsearch.outdated():
            say(f"note: {line}")
        try:
            verified(settings.kafka(), stores)
        except LogChanged as changed:
            say(f"warning: {changed}")
        if not unsound and (older := older_documents(stores)):
            counted = ", ".join(f"{count:,} {name}" for name, count in older.items())
            say(
                f"documents of the first edition of the data contract: {counted}. They are readable, and upgraded when"
                " they are next written. To correct the whole past, replay dead letters and materialize everything:"
                " docs/operations.md, Upgrading"
            )
    if unsound:
        raise click.ClickException(
            "Elasticsearch is not set up as this version requires: follow the lines above, then run this command again"
        )


@click.command()
def migrate() -> None:
    """Upgrade Dagster's own storage to the installed version of Dagster. A second run changes nothing.

    Run it after an upgrade and before its first run, while no daemon, UI or run is active.
    """
    import subprocess

    from truepixel_dagster.instance.history import check_history
    from truepixel_dagster.instance.process import environment

    settings = load_settings()
    check_history(settings)
    command, env = [sys.executable, "-m", "dagster", "instance", "migrate"], environment(settings)
    sys.exit(subprocess.run(command, cwd=env["DAGSTER_HOME"], env=env, check=False).returncode)  # noqa: S603 (our own interpreter)


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("program", nargs=-1, required=True, type=click.UNPROCESSED)
def start(program: tuple[str, ...]) -> None:
    """Check Dagster's PostgreSQL, then run one of Dagster's programs; a failed check prints one line.

    Example: truepixel start dagster-webserver --read-only. The webserver refuses requests that pages of other sites
    send, and host names that TRUEPIXEL_WEBSERVER_HOSTS does not list.
    """
    from truepixel_dagster.instance.history import check_history

    check_history(load_settings())
    if program[0] == "dagster-webserver":
        program = (sys.executable, "-m", "truepixel_dagster.instance.webserver", *program[1:])
    try:
        os.execvp(program[0], program)  # noqa: S606 (what the caller asked for)
    except OSError as error:
        raise click.ClickException(f"{program[0]}: {error.strerror}") from None
