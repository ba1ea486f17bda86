"""`truepixel replay | restore-redis`: rebuild documents and counters from the event history."""

from __future__ import annotations

import click

from truepixel_dagster.cli.options import (
    age_or_time,
    as_json,
    progress_bar,
)
from truepixel_dagster.settings import load_settings
from truepixel_dagster.terminal import echo, print_json, say


@click.command()
@click.option("--dry-run", is_flag=True, help="Change nothing; print what is lost and what would be rebuilt.")
@click.option(
    "--force", is_flag=True, help="Rebuild even if nothing is lost, or if Redis holds another installation's data."
)
@as_json
def restore_redis(dry_run: bool, force: bool, as_json: bool) -> None:
    """Rebuild the data of Redis exactly from the event history, after Redis lost all or some of it.

    It computes applied offsets, product statistics, weekly visitors and the marks of dead letters from the history, the
    committed offsets and the customers. Lanes and flushes stop, and continue when it is done. If it is interrupted, run
    it again. If nothing is lost, it does nothing.
    """
    from truepixel_dagster.reachable import check_servers
    from truepixel_dagster.rebuild.redis import restore

    settings = load_settings()
    check_servers(settings)
    with progress_bar("restoring") as bar:
        result = restore(
            settings,
            dry_run=dry_run,
            force=force,
            progress=lambda what, done, total: bar(done, total or None, what),
        )
    if as_json:
        return print_json(result)
    if not result.reason:
        echo("nothing to restore: Redis holds what the stream has counted")
        return None
    say(result.reason)
    would = "would set" if dry_run else "set"
    echo(f"{would} applied offsets: {', '.join(f'{p}: {o}' for p, o in result.applied.items()) or 'none'}")
    echo(f"{would} reprocessed dead letters: {result.letters:,}; refusals: {result.refusals:,}")
    for name, count, done in (
        ("product statistics", result.days, result.product_stats),
        ("weekly visitors", result.weeks, result.weekly_visitors),
    ):
        units = "days" if name == "product statistics" else "weeks"
        changed = (
            "" if dry_run else f": {done.documents:,} recomputed, {done.changed:,} changed, {done.removed:,} removed"
        )
        echo(f"{'would rebuild' if dry_run else 'rebuilt'} {name} of {count:,} {units}{changed}")
    if result.older:
        say(f"{result.older:,} days and weeks are older than the events kept: their documents stay as they are")
    return None


@click.command(name="replay")
@click.option(
    "--since", "--from", "since", callback=age_or_time, help="Written to Kafka since this time (UTC) or age: 2h."
)
@click.option("--until", "--to", "until", callback=age_or_time, help="And before this time or age; now by default.")
@click.option("--partition", type=click.IntRange(min=0), help="Or: records of this partition ...")
@click.option("--offsets", metavar="FIRST:LAST", help="... from one offset to another, both included.")
@click.option("--stages", help="Only these stages, such as index,ad_lead; all by default.")
@as_json
def replay_range(
    since: int | None, until: int | None, partition: int | None, offsets: str | None, stages: str | None, as_json: bool
) -> None:
    """Pass a range of Kafka through the stages again, outside the stream's group.

    It indexes the records again, and recomputes their users, orders and days from the event history. It corrects wrong
    documents and changes no others. The stream may run meanwhile; the replay skips records that are not committed yet.

    Stages: index, ad_lead, attribution, customer, product_stats (with weekly visitors).
    """
    from truepixel_dagster.reachable import check_servers
    from truepixel_dagster.rebuild.context import rebuilding
    from truepixel_dagster.rebuild.replay import replay, stages_of, where_of

    names = stages_of([name.strip() for name in stages.split(",")] if stages else [])
    settings = load_settings()
    check_servers(settings)
    with rebuilding(settings) as tools, progress_bar("replaying") as bar:
        where = where_of(tools, since=since, until=until, partition=partition, offsets=offsets)
        result = replay(tools, where, names, lambda what, done, total: bar(done, total or None, what))
    if as_json:
        return print_json(result)
    older = f", {result.older:,} older than the kept events: skipped" if result.older else ""
    echo(f"{result.records:,} records, {result.events:,} events{older}")
    for stage, done in result.stages.items():
        echo(f"{stage}: {done.documents:,} recomputed, {done.changed:,} changed, {done.removed:,} removed")
    return None
