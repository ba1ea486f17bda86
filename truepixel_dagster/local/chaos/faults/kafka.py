"""Kafka holds what a plain producer never writes, or less than it held."""

from __future__ import annotations

import time
from random import Random

from confluent_kafka import ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions

from truepixel_dagster.local.chaos.faults.hit import Hit, ended
from truepixel_dagster.local.chaos.pipeline import Pipeline
from truepixel_dagster.local.chaos.visits import visits
from truepixel_dagster.stream.client_config import client_config

ADMIN_SECONDS = 15.0


def transactions(pipeline: Pipeline, rng: Random) -> Hit:
    """Transactions are committed, aborted, and left open for 3–8 s: offsets without a record for anybody"""
    seconds, settings = rng.uniform(3, 8), pipeline.settings
    producer = Producer({**client_config(settings), "transactional.id": f"chaos-{rng.getrandbits(40):x}"})
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
    """The group's offsets are set back by up to 2,000 while no worker lives: everything after them comes again"""
    back = rng.randint(200, 2000)
    pipeline.stop_daemon()
    try:
        offsets = [
            TopicPartition(pipeline.settings.topic, entry.partition, max(entry.low, (entry.committed or 0) - back))
            for entry in pipeline.lag()
        ]
        request = [ConsumerGroupTopicPartitions(pipeline.settings.group, offsets)]
        (future,) = _admin(pipeline).alter_consumer_group_offsets(request).values()
        future.result()
    finally:
        pipeline.start_daemon()
    return ended(f"offsets set back by {back} a partition")


def partitions_added(pipeline: Pipeline, _rng: Random) -> Hit:
    """The topic gets a partition more, and users come to be on other partitions than before"""
    settings = pipeline.settings
    count = len(pipeline.lag()) + 1
    (future,) = _admin(pipeline).create_partitions([NewPartitions(settings.topic, count)]).values()
    future.result()
    pipeline.send(visits(f"partitions-{count}", 300))
    return ended(f"partitions added: {count} now")


def _admin(pipeline: Pipeline) -> AdminClient:
    return AdminClient(client_config(pipeline.settings))
