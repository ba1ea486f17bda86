"""`truepixel demo | dev | open`: run the whole pipeline on this machine."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from contextlib import ExitStack, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

import click

from truepixel_dagster.cli.options import writable
from truepixel_dagster.lake.errors import LakeError, NotImported, QueryRefused
from truepixel_dagster.settings import load_settings
from truepixel_dagster.terminal import echo, err, out, say, table

if TYPE_CHECKING:
    from truepixel_dagster.local.live import LiveDemo

# The figures are read every two seconds, so an unreachable server is reported at once.
_QUICK = {
    "retries": 1,
    "kafka_timeout": 3.0,
    "elasticsearch_timeout": 4.0,
    "mongodb_timeout": 4.0,
    "redis_timeout": 2.0,
}


@click.command()
@click.option(
    "--events", type=click.IntRange(min=1), default=20_000, show_default=True, help="With --no-ui: events to send."
)
@click.option("--no-ui", is_flag=True, help="Generate, drain, flush, print the summary, exit.")
@click.option(
    "--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="With --no-ui: write the summary here."
)
@click.option(
    "--rate", type=click.FloatRange(0.1, 2000), default=100, show_default=True, help="With the UI: events per second."
)
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed gives the same visitors.")
@click.option("--shops", type=click.IntRange(1, 10_000), default=20, show_default=True, help="The number of shops.")
@writable
@click.option(
    "--shop-page/--no-shop-page",
    default=True,
    show_default=True,
    help="With the UI: serve a small shop to click through, and the report as a page.",
)
def demo(
    events: int,
    no_ui: bool,
    json_file: Path | None,
    rate: float,
    seed: int,
    shops: int,
    writable: bool,
    shop_page: bool,
) -> None:
    """Run the whole pipeline on its own fresh servers, with realistic traffic; Ctrl-C cleans up.

    Generated visitors send webhooks and pixel events to a collector over HTTP. With the UI, you can also buy something.
    """
    from truepixel_dagster.local.demo import headless
    from truepixel_dagster.local.live import live_demo

    settings = load_settings()
    if not no_ui:
        say_access(writable=writable)
        with live_demo(
            settings, say, rate=rate, seed=seed, shops=shops, writable=writable, shop_page=shop_page
        ) as running:
            try:
                return watch(running)
            finally:
                save_report(running)
    summary = headless(settings, events, say, seed=seed, shops=shops)
    figures = summary.figures()
    rows = (
        (name.replace("_", " "), json.dumps(value) if isinstance(value, dict) else value)
        for name, value in figures.items()
    )
    out.print(table(("figure", "value"), rows, title="read back from the servers"))
    say_pages(summary.pages)
    if json_file:
        json_file.write_text(json.dumps(figures, indent=2) + "\n")
    if summary.account.lost or summary.account.lag:
        raise click.ClickException(f"lag {summary.account.lag}; records unaccounted for: {summary.account.lost}")
    return None


def say_access(*, writable: bool) -> None:
    """Explain why the UI's buttons are disabled if it is read-only."""
    if not writable:
        say("Dagster's UI is read-only: you can launch runs, materialize assets and stop sensors without --read-only")


def watch(running: LiveDemo) -> None:
    """Show the stores' counts every two seconds, and restart dead servers and programs, until Ctrl-C."""
    from rich.live import Live

    from truepixel_dagster.local.summary import counts
    from truepixel_dagster.resources import open_stores
    from truepixel_dagster.stores.errors import Unavailable
    from truepixel_dagster.stream.errors import KafkaError

    links, settings, trouble = running.links, running.settings.model_copy(update=_QUICK), ""
    if links.storefront:
        say(f"buy something:    {links.storefront}")
        say(f"the report:       {links.report}")
    say(f"Dagster's UI:     {links.dagster}")
    say(f"lineage:          {links.dagster}/asset-groups")
    say(f"runs:             {links.dagster}/runs")
    say(f"the collector:    {links.collector}")
    say(f"another terminal: . {os.path.relpath(links.environment)}")
    say("Ctrl-C ends everything")
    with Live(console=err, refresh_per_second=1) as live:
        while True:
            running.restart_dead(say)
            try:
                with open_stores(settings) as stores:
                    figures = {"sent by visitors": running.sent.total, **counts(settings, stores)}
                if trouble:
                    say("all servers answer again")
                trouble = ""
                live.update(table(("now", ""), ((name, f"{value:,}") for name, value in figures.items())))
            except (Unavailable, KafkaError) as error:
                if str(error) != trouble:
                    say(f"{error}; the demo continues when the server answers")
                trouble = str(error)
            time.sleep(2)


def say_pages(pages: Iterable[Path]) -> None:
    """Print where the reports are."""
    for page in pages:
        say(f"a report to open in a browser: {page}")


def save_report(running: LiveDemo) -> None:
    """Write the reports of the shops with most orders to a file that outlives the demo."""
    from truepixel_dagster.local.steps import step
    from truepixel_dagster.local.storefront.pages import shops_with_orders
    from truepixel_dagster.private_files import open_private
    from truepixel_dagster.report.command import print_report
    from truepixel_dagster.report.reading import shop_report
    from truepixel_dagster.resources import open_stores
    from truepixel_dagster.stores.errors import Unavailable

    file = running.settings.data_dir / "report.txt"
    try:
        quick = running.settings.model_copy(update=_QUICK)
        with step(say, "writing the report"), open_stores(quick) as stores, open_private(file, "w") as opened:
            stores.elasticsearch.refresh()
            for shop in shops_with_orders(stores.elasticsearch):
                report = shop_report(stores, shop, "last_click")
                with redirect_stdout(opened):
                    print_report(report)
        say(f"the report of this demo: {file}")
        say_pages(running.reports(say))
    except (Unavailable, LakeError, NotImported, QueryRefused, OSError) as error:
        say(f"the report of this demo could not be written: {error}")


@click.command()
@click.option(
    "--port", type=click.IntRange(1, 65_535), default=3000, show_default=True, help="Port of the UI, on loopback."
)
@writable
def dev(port: int, writable: bool) -> None:
    """Run Dagster's UI and daemon on the local stack; start and set it up first, and stop it if it was not up."""
    from truepixel_dagster.instance.history import check_history
    from truepixel_dagster.local.demo import DemoFailed, running_dagster
    from truepixel_dagster.local.lock import InUse, alone
    from truepixel_dagster.local.programs import log_end
    from truepixel_dagster.local.stack import Stack
    from truepixel_dagster.local.steps import step
    from truepixel_dagster.provision import provision

    settings = load_settings()
    with ExitStack() as stack:
        try:
            stack.enter_context(alone(settings.data_dir / "dev.lock"))
        except InUse:
            raise click.ClickException(
                f"`truepixel dev` already runs on {settings.data_dir}: end it first, or set TRUEPIXEL_DATA_DIR"
            ) from None
        say_access(writable=writable)
        servers = Stack(settings)
        if not all(server.running for server in servers.status()):
            stack.callback(servers.down, say)
        servers.up(say)
        check_history(settings)
        with step(say, "creating topics, templates and indexes"):
            provision(settings)
        dagster = stack.enter_context(running_dagster(settings, port, say, writable=writable))
        say(f"Dagster's log: {dagster.log}; Ctrl-C ends it")
        say(f"Dagster's UI:  http://127.0.0.1:{port}")
        code = dagster.process.wait()
        raise DemoFailed(f"Dagster ended (exit code {code}); the end of {dagster.log}:\n{log_end(dagster.log)}")


@click.command(name="open")
def open_ui() -> None:
    """Open Dagster's UI of the `demo` or `dev` that runs in this folder."""
    import webbrowser

    from truepixel_dagster.local.demo import running_ui

    folder = load_settings().data_dir
    address = running_ui(folder / "demo") or running_ui(folder)
    if address is None:
        raise click.ClickException(f"neither `truepixel demo` nor `truepixel dev` runs on {folder}: start one of them")
    echo(address)
    if not webbrowser.open(address):
        say("no browser could be started: open the address yourself")
