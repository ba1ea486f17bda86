"""Check the servers' settings that the guarantees need: whether they keep what they acknowledge.

`setup` creates topics and indices with these settings, and every write requests them (Kafka: acks of all replicas,
idempotent; MongoDB: a journaled majority). This module checks what only the server's operator can set.
"""

from __future__ import annotations

import msgspec

from truepixel_dagster.access import KafkaAccess
from truepixel_dagster.resources import Stores
from truepixel_dagster.stream.topics import TopicDurability, topic_durability


class Facts(msgspec.Struct, frozen=True):
    """Hold the servers' answers; None if a server does not give one.

    `topics` is by name, `redis` by setting. `async_indices` are the indices whose translog is not synced with each
    request. `journal` is whether MongoDB has a journal.
    """

    topics: dict[str, TopicDurability]
    redis: dict[str, str] | None
    journal: bool | None
    async_indices: list[str]


def ask(kafka: KafkaAccess, stores: Stores) -> Facts:
    """Ask the four servers.

    Raises:
        KafkaError, Unavailable: A server does not answer.
    """
    return Facts(
        topics={name: topic_durability(kafka, name) for name in (kafka.topic, kafka.dead_topic)},
        redis=stores.redis.persistence(),
        journal=stores.mongodb.journal(),
        async_indices=stores.elasticsearch.async_indices(),
    )


def warnings(facts: Facts, replication: int) -> list[str]:
    """Return one line for each setting that does not meet the guarantees, with the next step.

    Arguments:
        facts: The servers' answers.
        replication: The wanted number of a topic's replicas.
    """
    return [
        *(line for name, topic in facts.topics.items() for line in _topic(name, topic, replication)),
        *_redis(facts.redis),
        *_mongodb(facts.journal),
        *_elasticsearch(facts.async_indices),
    ]


def _topic(name: str, topic: TopicDurability, replication: int) -> list[str]:
    found = []
    if topic.replicas < replication:
        found.append(
            f"Kafka topic {name} has {topic.replicas} replicas, and TRUEPIXEL_KAFKA_REPLICATION is"
            f" {replication}: add replicas with kafka-reassign-partitions"
        )
    if topic.replicas >= 3 and topic.min_in_sync < 2:
        found.append(
            f"Kafka topic {name} has min.insync.replicas={topic.min_in_sync}: losing one broker may lose an"
            " acknowledged record; set it to 2 with kafka-configs"
        )
    if topic.unclean_election:
        found.append(
            f"Kafka topic {name} has unclean.leader.election.enable=true: a broker that is behind may become leader and"
            " lose acknowledged records; set it to false with kafka-configs"
        )
    return found


def _redis(found: dict[str, str] | None) -> list[str]:
    if found is None:
        return ["Redis does not show its settings (CONFIG GET is refused): make sure of appendonly yes and noeviction"]
    lines = []
    if found.get("appendonly") != "yes":
        lines.append(
            "Redis has appendonly no: a restart loses buffered counters and applied offsets; run"
            " `CONFIG SET appendonly yes` and add it to the configuration file"
        )
    if found.get("maxmemory-policy") != "noeviction":
        lines.append(
            f"Redis has maxmemory-policy {found.get('maxmemory-policy')}: a full Redis drops counters; run"
            " `CONFIG SET maxmemory-policy noeviction`"
        )
    return lines


def _mongodb(journal: bool | None) -> list[str]:
    if journal is False:
        return [
            "MongoDB runs without its journal: a killed server loses acknowledged writes; start it with the journal"
        ]
    return []


def _elasticsearch(indices: list[str]) -> list[str]:
    if not indices:
        return []
    return [
        f"Elasticsearch indices {', '.join(indices[:5])} have index.translog.durability async: a killed node loses"
        " acknowledged documents; set it to request"
    ]
