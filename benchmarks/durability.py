"""Measure the cost of each durable setting: micro-batches of 512 with it and without it, in turns, on separate servers.

.venv/bin/python benchmarks/durability.py [--batches N]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from confluent_kafka import Producer
from pymongo import ReplaceOne, WriteConcern
from rich.console import Console
from rich.table import Table

from truepixel_dagster.events.decode import decode
from truepixel_dagster.events.event import Event, Message
from truepixel_dagster.events.origin import Origin
from truepixel_dagster.events.shop_time import ShopDays
from truepixel_dagster.local.ephemeral import ephemeral_stack
from truepixel_dagster.local.traffic import FIRST, traffic
from truepixel_dagster.provision import provision
from truepixel_dagster.resources import Stores, open_stores
from truepixel_dagster.settings import Settings
from truepixel_dagster.stages import index, product_stats
from truepixel_dagster.stream.client_config import client_config

BATCH = 512
DAYS = ShopDays()
COUNTING = product_stats.Counting(DAYS.day, DAYS.week)

Write = Callable[[list[Event]], None]


def events(count: int) -> list[Event]:
    """Return decoded events with different offsets."""
    records = traffic(count, seed=1, duplicates=0, malformed=0, profile=FIRST)
    decoded = (
        decode(Message(Origin("bench", 0, offset), record.key, record.value, record.headers, record.at))
        for offset, record in enumerate(records)
    )
    return [event for event in decoded if isinstance(event, Event)]


def measure(
    name: str, ways: dict[str, tuple[Callable[[], None], Write]], source: list[Event], batches: int
) -> list[str]:
    """Return a row: the median milliseconds of a micro-batch with and without the setting, and their ratio."""
    times: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(batches):
        for turn, (way, (prepare, write)) in enumerate(ways.items()):
            start = (number * len(ways) + turn) * BATCH
            prepare()
            began = time.perf_counter()
            write(source[start : start + BATCH])
            times[way].append(1000 * (time.perf_counter() - began))
    medians = [statistics.median(values) for values in times.values()]
    shown = [f"{way} {median:.1f}" for way, median in zip(ways, medians)]
    return [name, *shown, f"{medians[0] / medians[1]:.2f}"]


def nothing() -> None:
    """Prepare nothing."""


def kafka(settings: Settings, acks: str) -> Write:
    """Produce and wait for the acknowledgements."""
    producer = Producer(
        {**client_config(settings.kafka()), "acks": acks, "enable.idempotence": acks == "all", "linger.ms": 5}
    )

    def write(batch: list[Event]) -> None:
        for event in batch:
            producer.produce(settings.topic, value=event.payload, key=event.user.encode())
            producer.poll(0)
        producer.flush()

    return write


def mongodb(stores: Stores, journaled: bool) -> Write:
    """Replace a document for each event."""
    collection = stores.mongodb.collection("bench").with_options(write_concern=WriteConcern(w=1, j=journaled))

    def write(batch: list[Event]) -> None:
        documents = [{"_id": event.document_id, "shop_id": event.shop_id, "events": 1} for event in batch]
        collection.bulk_write([ReplaceOne({"_id": d["_id"]}, d, upsert=True) for d in documents], ordered=False)

    return write


def elasticsearch(stores: Stores, durability: str) -> tuple[Callable[[], None], Write]:
    """Run stage 1, with the translog synced with each request or every five seconds."""

    def prepare() -> None:
        indices = f"{stores.elasticsearch.index('events-')}*"
        stores.elasticsearch.client.indices.put_settings(
            index=indices, settings={"index.translog.durability": durability}, allow_no_indices=True
        )

    return prepare, lambda batch: void(index.run(batch, stores.elasticsearch))


def redis(stores: Stores, fsync: str) -> tuple[Callable[[], None], Write]:
    """Run stage 5, with the append-only file synced always, every second, or when the system decides."""
    write: Write = lambda batch: void(product_stats.run(batch, {}, stores.redis, COUNTING))  # noqa: E731
    return lambda: void(stores.redis.client.config_set("appendfsync", fsync)), write


def void(_: object) -> None:
    """Discard a stage's result."""


def main() -> None:
    """Measure all four and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, default=40, help="micro-batches each way")
    batches: int = parser.parse_args().batches
    table = Table("setting", "ms a micro-batch with it", "without it", "ratio", title=f"medians of {batches}")
    with tempfile.TemporaryDirectory() as folder, ephemeral_stack(Path(folder)) as settings:
        provision(settings)
        source = events(3 * batches * BATCH)
        with open_stores(settings) as stores:
            index.run(source[-BATCH:], stores.elasticsearch)  # makes the indices
            ways = {
                "acks=all, idempotent": (nothing, kafka(settings, "all")),
                "acks=1": (nothing, kafka(settings, "1")),
            }
            table.add_row(*measure("Kafka", ways, source, batches))
            ways = {"j=true": (nothing, mongodb(stores, True)), "j=false": (nothing, mongodb(stores, False))}
            table.add_row(*measure("MongoDB journal", ways, source, batches))
            ways = {"request": elasticsearch(stores, "request"), "async": elasticsearch(stores, "async")}
            table.add_row(*measure("Elasticsearch translog", ways, source, batches))
            ways = {"everysec": redis(stores, "everysec"), "no": redis(stores, "no")}
            table.add_row(*measure("Redis appendfsync", ways, source, batches))
            later = [event for event in events(5 * batches * BATCH) if event.origin.offset >= len(source)]
            ways = {"always": redis(stores, "always"), "everysec": redis(stores, "everysec")}
            table.add_row(*measure("Redis appendfsync", ways, later, batches))
    Console().print(table)


if __name__ == "__main__":
    main()
