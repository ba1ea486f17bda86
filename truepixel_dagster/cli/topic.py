"""`truepixel topic peek | tail`: the events of the topic, a line each."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import click

from truepixel_dagster.report.figures import major
from truepixel_dagster.settings import Settings, load_settings
from truepixel_dagster.terminal import echo, print_json_line, say

if TYPE_CHECKING:
    from truepixel_dagster.events.event import Message
    from truepixel_dagster.events.sites import Sites
    from truepixel_dagster.stores.redactions import Redactions
    from truepixel_dagster.stream.events_log import EventsLog

LOOK_SECONDS = 0.5
# The number of records whose redactions are looked up together.
CHUNK = 512

as_lines = click.option("--json", "as_json", is_flag=True, help="Print a line of JSON for each record.")


@click.group()
def topic() -> None:
    """Show the events of the topic, redacted as in the stores; nothing is committed."""


@topic.command()
@click.option("--count", type=click.IntRange(1, 10_000), default=10, show_default=True, help="How many records.")
@as_lines
def peek(count: int, as_json: bool) -> None:
    """Print the newest records, the oldest of them first."""
    from truepixel_dagster.stream.topics import bounds

    settings = load_settings().quick_to_give_up()
    with reading(settings) as reader:
        low, high = bounds(settings.kafka())
        first = {partition: reader.log.base + max(low[partition], end - count) for partition, end in high.items()}
        found = sorted(reader.records(first), key=lambda message: message.timestamp)
        for message in found[-count:]:
            reader.show(message, as_json=as_json)
    if not found:
        say(f"{settings.topic} holds no record")


@topic.command()
@as_lines
def tail(as_json: bool) -> None:
    """Print records as they arrive; Ctrl-C ends it."""
    settings = load_settings().quick_to_give_up()
    with reading(settings) as reader:
        reached = reader.log.ends()
        say(f"waiting for records of {settings.topic}; Ctrl-C ends it")
        while True:
            time.sleep(LOOK_SECONDS)
            ends = reader.log.ends()
            if ends != reached:
                for message in reader.records(reached, ends):
                    reader.show(message, as_json=as_json)
                reached = ends


class Reader(NamedTuple):
    """Read records in the form in which they may be shown."""

    log: EventsLog
    sites: Sites
    redactions: Redactions

    def records(self, first: Mapping[int, int], end: Mapping[int, int] | None = None) -> Iterator[Message]:
        """Yield the records of a range, with redacted ones anonymised or left out."""
        from truepixel_dagster.chunks import chunks

        # Redactions identify records by their offsets over all logs.
        for chunk in chunks(self.log.read_all(first=first, end=end), CHUNK):
            yield from self.redactions.shown(chunk)

    def show(self, message: Message, *, as_json: bool) -> None:
        """Print a record on one line."""
        record = described(message, self.sites)
        if as_json:
            return print_json_line(record)
        return echo("  ".join(filter(None, record.values())))


@contextmanager
def reading(settings: Settings) -> Iterator[Reader]:
    """Open the topic and the stores with its redactions."""
    from truepixel_dagster.resources import open_stores, sites_of
    from truepixel_dagster.source_log import known
    from truepixel_dagster.stores.redactions import Redactions
    from truepixel_dagster.stream.events_log import EventsLog

    sites = sites_of(settings)
    with open_stores(settings) as stores:
        kept = known(stores.mongodb)
        log = EventsLog(settings.kafka(), kept.generation if kept else 0)
        yield Reader(log, sites, Redactions(stores.mongodb, sites))


def described(message: Message, sites: Sites) -> dict[str, str]:
    """Return a record's origin, time, shop, client and name, with its order, value and channel if it has them; for an
    undecodable record, return the reason."""
    from truepixel_dagster.events.decode import Undecodable, decode
    from truepixel_dagster.events.event import iso
    from truepixel_dagster.events.origin import offset_text

    place = f"{message.origin.partition}/{offset_text(message.origin.offset)}"
    event = decode(message, sites)
    if isinstance(event, Undecodable):
        return {"record": place, "at": iso(message.timestamp), "error": event.reason}
    value, channel = event.value, event.ad.channel if event.ad else None
    return {
        "record": place,
        "at": iso(event.occurred_at),
        "shop": event.shop_id,
        "client": event.client_id,
        "name": event.name,
        "order": event.order_id or "",
        "value": f"{major(value.currency, value.amount)} {value.currency}" if value else "",
        "channel": channel or "",
    }
