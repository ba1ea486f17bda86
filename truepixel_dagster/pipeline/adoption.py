"""Accept a topic that was recreated, moved or truncated as a new log, while no lane is running."""

from __future__ import annotations

import msgspec

from truepixel_dagster.events.event import iso
from truepixel_dagster.events.origin import base_of, kafka_offset
from truepixel_dagster.resources import open_stores
from truepixel_dagster.settings import Settings
from truepixel_dagster.source_log import Adoption, KnownLog, adopt, plan_adoption, remember
from truepixel_dagster.stores.redis.leases import Lease
from truepixel_dagster.stream import topics

OWNER = "adopt-topic"


class Plan(msgspec.Struct, frozen=True):
    """Say whether a new log is due, and describe the effects in lines."""

    due: bool
    lines: list[str]


def plan(settings: Settings) -> Plan:
    """Describe what accepting the topic in its current state would do.

    Raises:
        NoTopic: The topic does not exist.
        KafkaUnavailable, Unavailable: A server does not answer.
    """
    with open_stores(settings) as stores:
        adoption = plan_adoption(settings.kafka(), stores)
        if adoption is None:
            return Plan(False, [f"nothing to do: {settings.topic} is the log that was processed"])
        return Plan(True, _lines(settings, adoption))


def adopt_topic(settings: Settings) -> bool:
    """Accept the topic in its current state as a new log, if it is one; return whether it was.

    Raises:
        LaneBusy: A run is processing a lane.
        LogChanged: Another process began a new log meanwhile.
        KafkaError, Unavailable: A server does not answer; retry later.
    """
    with open_stores(settings) as stores:
        # Include the old log's partitions: a lane may still use them.
        count = max(topics.partition_count(settings.kafka()), remember(settings.kafka(), stores.mongodb).partitions)
        lease = Lease(stores.redis.client, settings.namespace, range(count), OWNER, settings.lease)
        lease.acquire()
        try:
            adoption = plan_adoption(settings.kafka(), stores)
            if adoption is None:
                return False
            lease.confirm()
            adopt(settings.kafka(), stores, adoption)
            return True
        finally:
            lease.release()


def _named(log: KnownLog) -> str:
    return f"topic id {log.topic_id or 'unknown'} in cluster {log.cluster_id or 'unknown'}"


def _lines(settings: Settings, adoption: Adoption) -> list[str]:
    before, after = adoption.before, adoption.after
    base = base_of(before.generation)
    reached = [
        f"{partition}: {kafka_offset(offset)}" for partition, offset in sorted(before.reached.items()) if offset > base
    ]
    low, high = topics.bounds(settings.kafka())
    waiting = sum(high[partition] - low[partition] for partition in low)
    return [
        adoption.reason,
        f"log {before.generation} ends: {_named(before)}, since {iso(before.began_at)}; known to be committed by"
        f" partition: {', '.join(reached) or 'nothing'}",
        f"log {after.generation} begins: {_named(after)}, {after.partitions} partitions; {waiting:,} records are read"
        " from its beginning",
        "the stores keep their data; dead letters of the old log can still be reprocessed; records of the old log"
        " beyond its committed offsets are lost",
    ]
