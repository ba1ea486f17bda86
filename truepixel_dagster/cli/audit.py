"""`truepixel audit`: every store against the topic."""

from __future__ import annotations

import sys

import click
import msgspec

from truepixel_dagster.cli.options import (
    as_json,
    progress_bar,
    since_time,
)
from truepixel_dagster.settings import load_settings
from truepixel_dagster.terminal import echo, print_json, say


@click.command()
@since_time
@as_json
def audit(since: int | None, as_json: bool) -> None:
    """Compare every store with the documents expected from the topic; exit with 1 if anything differs.

    An independent oracle computes the expected documents from the topic. Buffered counters are flushed first. The
    stream may run meanwhile: the audit omits records that are not committed yet.
    """
    from truepixel_dagster.audit.audit import audit as run
    from truepixel_dagster.reachable import check_servers
    from truepixel_dagster.stream.topics import lag as read_lag

    settings = load_settings()
    check_servers(settings)
    partitions = read_lag(settings.kafka())
    waiting = sum(entry.lag for entry in partitions)
    if waiting:
        say(f"{waiting:,} messages are not processed yet; the audit omits them")
    with progress_bar("reading the topic", sum(entry.high - entry.low for entry in partitions)) as done:
        found = run(settings, done, since=since)
    if as_json:
        listed = {name: [str(item) for item in getattr(found, name)] for name in ("differences", "excused")}
        print_json({**msgspec.to_builtins(found), **listed})
    else:
        for item in found.differences:
            echo(str(item), to_stderr=True)
        if found.excused:
            say(
                f"{len(found.excused):,} differences are excused: the order of events of users whose key moved to"
                " another partition when partitions were added, or a shop whose registry entry changed after its first"
                " event. For such a shop, materialize its past days. --json lists the differences"
            )
        for lost in found.lost_ranges:
            say(f"not judged, because retention removed these records before they were read: {lost}")
        echo(
            f"{found.records:,} records: {len(found.differences) or 'no'} differences".replace(
                "no differences", "no difference"
            )
        )
    if found.differences:
        sys.exit(1)
