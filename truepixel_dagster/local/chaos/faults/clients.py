"""Malicious traffic, and traffic from broken clocks and libraries."""

from __future__ import annotations

from datetime import datetime, timezone
from random import Random

from confluent_kafka import Producer

from truepixel_dagster.local.chaos.faults.hit import Hit, ended
from truepixel_dagster.local.chaos.pipeline import Pipeline
from truepixel_dagster.local.chaos.visits import order, visit
from truepixel_dagster.local.chaos.waiting import ChaosFailed
from truepixel_dagster.local.traffic import Record
from truepixel_dagster.stream.client_config import client_config

OVERSIZE = 60 * 1024 * 1024
SEND_SECONDS = 60.0
LANES = 3


def junk(pipeline: Pipeline, rng: Random) -> Hit:
    """One client floods the topic with 1,500 records that are not events"""
    key = f"junk-{rng.getrandbits(40):x}.myshopify.com:somebody".encode()
    values = (b"\x00\xff", b"{", b"[]", b'{"id": {}}', b'{"name": "page_viewed"}', b"null", b"")
    pipeline.send(Record(key, rng.choice(values), (), "junk", 0) for _ in range(1500))
    return ended("1,500 records of one client that are not events")


def oversize(pipeline: Pipeline, rng: Random) -> Hit:
    """A record of 60 MB, which is small when compressed"""
    good = visit(f"oversize-{rng.getrandbits(40):x}", 0)
    # The pipeline's own producer refuses records that its consumer would not accept.
    config = {**client_config(pipeline.settings.kafka()), "message.max.bytes": 2 * OVERSIZE, "compression.type": "gzip"}
    producer = Producer(config)
    producer.produce(pipeline.settings.topic, good.value + b" " * OVERSIZE, good.key, headers=list(good.headers))
    if producer.flush(SEND_SECONDS):
        raise ChaosFailed("Kafka did not accept the record of 60 MB")
    return ended("a record of 60 MB, compressed")


def clocks(pipeline: Pipeline, rng: Random) -> Hit:
    """Clients whose clocks are in 1970 or 2087, or give no time at all"""
    times = ("1970-01-01T00:00:00.000Z", "2087-05-05T05:05:05.555Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z")
    others = (0, -1, 1764200000000000, 2**63, "1764200000000000", "soon", "")
    shop = f"clocks-{rng.getrandbits(40):x}"
    said: list[str | int] = [*times, *others]
    pipeline.send(visit(shop, number, timestamp=time) for number, time in enumerate(said))
    return ended(f"{len(said)} wrong clocks")


def one_order(pipeline: Pipeline, rng: Random) -> Hit:
    """One order that 3,000 events report"""
    shop, token = f"one-order-{rng.getrandbits(40):x}", f"{rng.getrandbits(128):032x}"
    pipeline.send(order(shop, token, number, client=number % 7) for number in range(3000))
    return ended("one order of 3,000 sightings")


def many_shops(pipeline: Pipeline, rng: Random) -> Hit:
    """5,000 new shops at once"""
    prefix = f"{rng.getrandbits(40):x}"
    pipeline.send(visit(f"shop-{number}-{prefix}", 0, "product_viewed") for number in range(5000))
    return ended("5,000 new shops")


def one_user(pipeline: Pipeline, rng: Random) -> Hit:
    """One user of 10,000 events, each from a different ad"""
    shop = f"one-user-{rng.getrandbits(40):x}"
    now = datetime.now(timezone.utc)
    pipeline.send(visit(shop, number, at=now, client=0, campaign=f"c{number}") for number in range(10_000))
    return ended("10,000 events of one user")


def conflicts(pipeline: Pipeline, rng: Random) -> Hit:
    """Three lanes write to one order at once: its pixel events are on three partitions"""
    shop, token = f"conflicts-{rng.getrandbits(40):x}", f"{rng.getrandbits(128):032x}"
    pipeline.daemon.stop()
    for partition in range(LANES):
        sightings = (order(shop, token, number * LANES + partition, client=partition) for number in range(300))
        pipeline.send(sightings, partition=partition)
    pipeline.daemon.start(pipeline.settings.model_copy(update={"lanes": LANES}))
    hit = ended("900 sightings of one order on three lanes")
    try:
        pipeline.wait_until_processed(pipeline.high(), 120)
    finally:
        pipeline.daemon.stop()
        pipeline.daemon.start(pipeline.settings)
    return Hit(f"{hit.what}, and one lane again", ended("").ended_at)
