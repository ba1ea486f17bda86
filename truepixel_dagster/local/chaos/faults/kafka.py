"""Faults of Kafka: transactions, changed offsets, and a topic that grows, shrinks or is recreated."""

from __future__ import annotations

import json
import re
import time
from contextlib import suppress
from random import Random

from confluent_kafka import ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions

from truepixel_dagster.local.chaos.faults.hit import Hit, ended
from truepixel_dagster.local.chaos.pipeline import Pipeline
from truepixel_dagster.local.chaos.visits import visits
from truepixel_dagster.local.chaos.waiting import RECOVERY_SECONDS, ChaosFailed, until
from truepixel_dagster.resources import open_stores
from truepixel_dagster.stream.client_config import client_config

ADMIN_SECONDS = 15.0
RETAINED = 400
LOST_RANGE = re.compile(r"([0-9]+)(?:@[0-9]+)?\.\.([0-9]+)$")


def transactions(pipeline: Pipeline, rng: Random) -> Hit:
    """Transactions are committed, aborted, and left open for 3–8 s: offsets without a readable record"""
    seconds, settings = rng.uniform(3, 8), pipeline.settings
    producer = Producer({**client_config(settings.kafka()), "transactional.id": f"chaos-{rng.getrandbits(40):x}"})
    producer.init_transactions(ADMIN_SECONDS)
    for outcome in ("committed", "aborted", "left open"):
        producer.begin_transaction()
        for record in visits(f"transaction-{rng.getrandbits(40):x}", 60):
            producer.produce(settings.topic, record.value, record.key, headers=list(record.headers))
        producer.flush(ADMIN_SECONDS)
        if outcome == "left open":
            time.sleep(seconds)
        producer.commit_transaction() if outcome == "committed" else producer.abort_transaction()
    return ended(f"transactions committed, aborted, and left open for {seconds:.1f} s before they were aborted")


def offsets_back(pipeline: Pipeline, rng: Random) -> Hit:
    """The group's offsets are set back by up to 2,000 while no worker lives: everything after them is read again"""
    back = rng.randint(200, 2000)
    pipeline.daemon.stop()
    try:
        offsets = [
            TopicPartition(pipeline.settings.topic, entry.partition, max(entry.low, (entry.committed or 0) - back))
            for entry in pipeline.lag()
        ]
        request = [ConsumerGroupTopicPartitions(pipeline.settings.group, offsets)]
        admin = _admin(pipeline)
        (future,) = admin.alter_consumer_group_offsets(request).values()
        future.result()
    finally:
        pipeline.daemon.start(pipeline.settings)
    return ended(f"offsets set back by {back} a partition")


def partitions_added(pipeline: Pipeline, _rng: Random) -> Hit:
    """The topic gets one more partition, and users move to other partitions"""
    count = len(pipeline.lag()) + 1
    # Producers learn of new partitions at different times. Until then they write a user's events to two partitions, so
    # that their order is undefined. The load therefore restarts its producer.
    admin = _admin(pipeline)
    with pipeline.load.paused():
        (future,) = admin.create_partitions([NewPartitions(pipeline.settings.topic, count)]).values()
        future.result()
    pipeline.send(visits(f"partitions-{count}", 300))
    return ended(f"partitions added: {count} now")


def retention(pipeline: Pipeline, rng: Random) -> Hit:
    """Retention removes records before they were read; exactly those are lost, and reported"""
    settings, admin, shop = pipeline.settings, _admin(pipeline), f"retention-{rng.getrandbits(40):x}"
    with pipeline.load.paused():
        pipeline.close_log()
        known = _lost_to_retention(pipeline)
        pipeline.kill_server("elasticsearch")
        try:
            before = {entry.partition: entry.high for entry in pipeline.lag()}
            pipeline.send(visits(shop, RETAINED))
            ends = {entry.partition: (before[entry.partition] + entry.high) // 2 for entry in pipeline.lag()}
            offsets = [TopicPartition(settings.topic, partition, offset) for partition, offset in ends.items()]
            for future in admin.delete_records(offsets).values():
                future.result()
        finally:
            pipeline.start_servers()
        hit = ended(f"{sum(ends.values()) - sum(before.values())} records removed by retention before they were read")
        if not pipeline.wait_until_processed(pipeline.high(), RECOVERY_SECONDS):
            return hit
        stored, said = _count_events(pipeline, f"{shop}.myshopify.com"), _lost_to_retention(pipeline) - known
    if stored + said != RETAINED:
        raise ChaosFailed(f"of {RETAINED} records {stored} are stored, and {said} are reported as removed by retention")
    return Hit(f"{hit.what}, of which {said} are reported as lost", hit.ended_at)


def _lost_to_retention(pipeline: Pipeline) -> int:
    """Return how many records the pipeline reports as removed by retention before they were read."""
    lost = json.loads(pipeline.operate("lag", "--json")).get("lost", [])
    ranges = [LOST_RANGE.search(line) for line in lost]
    return sum(int(found[2]) - int(found[1]) + 1 for found in ranges if found)


def _count_events(pipeline: Pipeline, shop: str) -> int:
    """Return how many events of a shop are stored."""
    with open_stores(pipeline.settings) as stores:
        stores.elasticsearch.refresh()
        return sum(1 for _ in stores.elasticsearch.scan("events-", {"term": {"shop_id": shop}}, fields=["shop_id"]))


def topic_recreated(pipeline: Pipeline, rng: Random) -> Hit:
    """The topic is deleted and created again; lanes stop until `truepixel adopt-topic` accepts it"""
    admin, topic = _admin(pipeline), pipeline.settings.topic
    with pipeline.load.paused():
        pipeline.close_log()
        (future,) = admin.delete_topics([topic], operation_timeout=ADMIN_SECONDS).values()
        future.result()
        until(lambda: topic not in admin.list_topics(timeout=ADMIN_SECONDS).topics, ADMIN_SECONDS, "the topic's end")
        pipeline.operate("setup")
        pipeline.send(visits(f"recreated-{rng.getrandbits(40):x}", 300))
        time.sleep(rng.uniform(3, 8))
        until(lambda: _adopted(pipeline), RECOVERY_SECONDS, "`truepixel adopt-topic` while no lane is processing")
        return ended("topic deleted and created again, accepted by `truepixel adopt-topic`")


def _adopted(pipeline: Pipeline) -> bool:
    with suppress(ChaosFailed):
        pipeline.operate("adopt-topic", "--yes")
        return True
    return False


def _admin(pipeline: Pipeline) -> AdminClient:
    """Return an admin client; keep it until its futures are done, because they end with it."""
    return AdminClient(client_config(pipeline.settings.kafka()))
