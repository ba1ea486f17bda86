"""`truepixel lag | drain | flush | adopt-topic`: the stream."""

from __future__ import annotations

import time

import click

from truepixel_dagster.cli.options import (
    as_json,
    progress_bar,
)
from truepixel_dagster.settings import load_settings
from truepixel_dagster.stores.errors import Unavailable
from truepixel_dagster.terminal import echo, out, print_json, say, table


@click.command()
@as_json
def lag(as_json: bool) -> None:
    """Show the waiting messages by partition, and those that retention removed before they were read.

    Exits with 1 if the topic is not the log that was processed, because a lag of 0 would then mean nothing.
    """
    from truepixel_dagster.resources import open_stores
    from truepixel_dagster.source_log import LostRange, lost_records, verified
    from truepixel_dagster.stream.topics import lag as read_lag

    settings = load_settings().quick_to_give_up()
    partitions = read_lag(settings.kafka())
    lost: list[LostRange] = []
    with open_stores(settings) as stores:
        try:
            verified(settings.kafka(), stores, partitions)
            lost = lost_records(stores.mongodb)
        except Unavailable as error:
            say(f"warning: could not check whether this is the topic that was processed: {error}")
    if as_json:
        totals = {"lag": sum(entry.lag for entry in partitions), "lost": [str(each) for each in lost]}
        return print_json({"partitions": partitions, **totals})
    rows: list[tuple[object, ...]] = []
    for entry in partitions:
        committed = "–" if entry.committed is None else entry.committed
        rows.append((entry.partition, entry.low, entry.high, committed, entry.lag, entry.lost))
    total = (sum(entry.lag for entry in partitions), sum(entry.lost for entry in partitions))
    rows.append(("all", None, None, None, *total))
    out.print(table(("partition", "low", "high", "committed", "lag", "removed unread"), rows))
    for each in lost:
        say(f"retention removed these records before they were read: {each}")
    return None


@click.command(name="adopt-topic")
@click.option("--dry-run", is_flag=True, help="Only print what would be done.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@as_json
def adopt_topic(dry_run: bool, yes: bool, as_json: bool) -> None:
    """Accept the topic of events as a new log, after it was recreated, moved or truncated.

    The stores keep their data. The new log is read from its beginning, and its records count although their offsets
    are low; a record whose event id is already stored is a duplicate. Does nothing if the topic is the one that was
    processed. Stop the lanes first: turn the sensor kafka_lag off and let runs end.
    """
    from truepixel_dagster.pipeline.adoption import adopt_topic as run
    from truepixel_dagster.pipeline.adoption import plan
    from truepixel_dagster.reachable import check_servers
    from truepixel_dagster.stores.redis.leases import LaneBusy

    settings = load_settings()
    check_servers(settings)
    found = plan(settings)
    if as_json:
        print_json(found)
    else:
        for line in found.lines:
            echo(line)
    if dry_run or not found.due:
        return
    if not yes:
        click.confirm("Begin the new log?", abort=True)
    try:
        run(settings)
    except LaneBusy as error:
        raise click.ClickException(f"{error}. Turn the sensor kafka_lag off, wait for the run, and try again") from None
    say(f"the new log has begun: `truepixel drain` or the sensor kafka_lag reads {settings.topic} from its beginning")


@click.command()
@as_json
def drain(as_json: bool) -> None:
    """Process the topic through Dagster until the lag is 0; needs no daemon."""
    from truepixel_dagster.jobs.drain import drain as run
    from truepixel_dagster.reachable import check_servers
    from truepixel_dagster.stream.topics import lag as read_lag

    settings = load_settings()
    check_servers(settings)
    total = sum(entry.lag for entry in read_lag(settings.kafka()))
    started = time.monotonic()
    with progress_bar("draining", total) as done:
        run(settings, lambda left: done(max(0, total - left)))
    seconds = time.monotonic() - started
    if as_json:
        return print_json({"messages": total, "seconds": round(seconds, 1), "lag": 0})
    say(f"{total:,} messages in {seconds:.1f} s; lag 0")
    return None


@click.command()
@as_json
def flush(as_json: bool) -> None:
    """Flush the buffered counters from Redis to Elasticsearch now, without Dagster."""
    from truepixel_dagster.flush import flush_product_stats, flush_weekly_visitors
    from truepixel_dagster.reachable import check_stores
    from truepixel_dagster.resources import open_stores

    settings = load_settings()
    check_stores(settings)
    with open_stores(settings) as stores:
        results = {
            "product_stats": flush_product_stats(stores.redis, stores.elasticsearch),
            "weekly_visitors": flush_weekly_visitors(stores.redis, stores.elasticsearch),
        }
    if as_json:
        return print_json(results)
    for name, result in results.items():
        echo(f"{name}: {result.keys} keys in {result.batches} batches")
    return None
