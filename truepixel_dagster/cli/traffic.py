"""`truepixel generate | produce`: events onto the topic."""

from __future__ import annotations

from typing import Any

import click

from truepixel_dagster.cli.options import (
    progress_bar,
)
from truepixel_dagster.settings import load_settings
from truepixel_dagster.terminal import say


@click.command()
@click.option("--events", type=click.IntRange(min=1), required=True, help="Number of events to send.")
@click.option("--rate", type=click.FloatRange(min=0.1), help="Events a second; as fast as possible by default.")
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed gives the same events.")
@click.option("--shops", type=click.IntRange(1, 10_000), default=20, show_default=True, help="Number of shops.")
@click.option(
    "--duplicates", type=click.FloatRange(0, 1), default=0.02, show_default=True, help="Share of redeliveries."
)
@click.option(
    "--malformed", type=click.FloatRange(0, 1), default=0.005, show_default=True, help="Share of broken messages."
)
@click.option(
    "--start",
    type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]),
    help="When the events begin, UTC; a fixed day by default, so that the same seed gives the same bytes.",
)
@click.option(
    "--days", type=click.FloatRange(0.01, 366), default=4, show_default=True, help="Days that they spread over."
)
@click.option(
    "--profile",
    type=click.Choice(["first", "full"]),
    default="full",
    show_default=True,
    help="`full` has everything that shops have: refunds, edits, several currencies, bots, wrong clocks and so on;"
    " `first` is the traffic of version 0.1, for comparing benchmarks.",
)
def generate(
    events: int,
    rate: float | None,
    seed: int,
    shops: int,
    duplicates: float,
    malformed: float,
    start: Any,
    days: float,
    profile: str,
) -> None:
    """Send realistic Shopify traffic to the topic."""
    from datetime import timedelta, timezone

    from truepixel_dagster.local.demo import produce
    from truepixel_dagster.local.traffic import PROFILES
    from truepixel_dagster.reachable import check_kafka

    options: dict[str, Any] = {"span": timedelta(days=days), "profile": PROFILES[profile]}
    if start:
        options["start"] = start.replace(tzinfo=timezone.utc)
    settings = load_settings()
    check_kafka(settings)
    with progress_bar("generating", events) as done:
        produce(
            settings,
            events,
            on_sent=done,
            rate=rate,
            seed=seed,
            shops=shops,
            duplicates=duplicates,
            malformed=malformed,
            **options,
        )
    say(f"{events:,} events sent")


@click.command(name="produce")
@click.argument("file", type=click.File("rb"))
def produce_file(file: Any) -> None:
    """Send a JSON-lines FILE of {"key", "headers", "value"} to the topic; `-` reads standard input."""
    from truepixel_dagster.local.samples import BadLine, read_lines
    from truepixel_dagster.reachable import check_kafka
    from truepixel_dagster.stream.producer import EventProducer

    settings, count = load_settings(), 0
    check_kafka(settings)
    try:
        with EventProducer(settings.kafka()) as producer:
            for key, value, headers in read_lines(file):
                producer.send(key, value, headers)
                count += 1
    except BadLine as error:
        raise click.ClickException(f"{file.name}: {error} ({count} messages before it were sent)") from error
    say(f"{count:,} messages sent")
