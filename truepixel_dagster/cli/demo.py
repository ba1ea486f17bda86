"""`truepixel demo | dev`: the whole pipeline on this machine."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import click

from truepixel_dagster.cli.options import (
    writable,
)
from truepixel_dagster.settings import Settings, load_settings
from truepixel_dagster.terminal import out, say, table


@click.command()
@click.option("--events", type=click.IntRange(min=1), default=20_000, show_default=True, help="With --no-ui: how many.")
@click.option("--no-ui", is_flag=True, help="Generate, drain, flush, print the summary, exit.")
@click.option(
    "--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="With --no-ui: write the summary."
)
@click.option(
    "--rate", type=click.FloatRange(0.1, 2000), default=40, show_default=True, help="With the UI: events a second."
)
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed gives the same visitors.")
@click.option("--shops", type=click.IntRange(1, 10_000), default=20, show_default=True, help="How many shops.")
@writable
def demo(events: int, no_ui: bool, json_file: Path | None, rate: float, seed: int, shops: int, writable: bool) -> None:
    """The whole pipeline on fresh servers of its own, with believable traffic; Ctrl-C cleans up."""
    from truepixel_dagster.local import demo as run

    if not no_ui:
        say_access(writable=writable)
        return run.with_ui(load_settings(), say, live_summary, rate=rate, seed=seed, shops=shops, writable=writable)
    summary = run.headless(load_settings(), events, say, seed=seed, shops=shops)
    figures = summary.figures()
    rows = (
        (name.replace("_", " "), json.dumps(value) if isinstance(value, dict) else value)
        for name, value in figures.items()
    )
    out.print(table(("what", "how much"), rows, title="read back from the servers"))
    if json_file:
        json_file.write_text(json.dumps(figures, indent=2) + "\n")
    if summary.account.lost or summary.account.lag:
        raise click.ClickException(f"lag {summary.account.lag}; records that are nowhere: {summary.account.lost}")
    return None


def say_access(*, writable: bool) -> None:
    """Why buttons of the UI are grey, for those who did not ask for others."""
    if not writable:
        say("Dagster's UI will be read-only; with --writable it launches runs, materializes and turns sensors off")


def live_summary(settings: Settings, address: str) -> None:
    """What the stores hold, every two seconds, until Ctrl-C."""
    from rich.live import Live

    from truepixel_dagster.local.summary import counts
    from truepixel_dagster.resources import open_stores

    say(f"Dagster's UI:   {address}")
    say(f"lineage:        {address}/asset-groups")
    say(f"runs:           {address}/runs")
    say("Ctrl-C ends everything")
    with open_stores(settings) as stores, Live(console=out, refresh_per_second=1) as live:
        while True:
            rows = ((name, f"{value:,}") for name, value in counts(settings, stores).items())
            live.update(table(("in the stores now", ""), rows))
            time.sleep(2)


@click.command()
@click.option(
    "--port", type=click.IntRange(1, 65_535), default=3000, show_default=True, help="Port of the UI, on loopback."
)
@writable
def dev(port: int, writable: bool) -> None:
    """Dagster's UI and daemon on the local stack, which is started and set up first (and ended, if it was not up)."""
    from truepixel_dagster.instance.history import check_history
    from truepixel_dagster.instance.process import environment
    from truepixel_dagster.local.demo import dev_command, end_tree, webserver_access
    from truepixel_dagster.local.stack import Stack
    from truepixel_dagster.provision import provision

    say_access(writable=writable)
    settings = load_settings()
    servers = Stack(settings)
    was_up = all(server.running for server in servers.status())
    servers.up(say)
    try:
        check_history(settings)
        provision(settings)
        import subprocess

        env = environment(settings) | webserver_access(writable=writable)
        process = subprocess.Popen(  # noqa: S603 (our own interpreter)
            dev_command(port),
            cwd=env["DAGSTER_HOME"],
            env=env,
            start_new_session=os.name == "posix",
        )
        try:
            process.wait()
        finally:
            end_tree(process)
    finally:
        if not was_up:
            servers.down(say)
