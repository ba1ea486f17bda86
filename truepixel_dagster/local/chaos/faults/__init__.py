"""Every kind of fault by its name; what it does is the first line of its docstring."""

from __future__ import annotations

from collections.abc import Mapping

from truepixel_dagster.local.chaos.faults import (
    clients,
    documents,
    elasticsearch,
    kafka,
    mongodb,
    processes,
    redis,
    servers,
)
from truepixel_dagster.local.chaos.faults.hit import Fault

FAULTS: Mapping[str, Fault] = {
    "worker": processes.worker,
    "stage": processes.stage,
    "freeze": processes.freeze,
    "daemon": processes.daemon,
    "flush": processes.flush,
    "terminated": processes.terminated,
    "dotenv": processes.dotenv,
    "kafka": servers.killed("kafka"),
    "elasticsearch": servers.killed("elasticsearch"),
    "mongodb": servers.killed("mongodb"),
    "redis": servers.killed("redis"),
    "connection": servers.connection,
    "blocked": elasticsearch.blocked,
    "closed": elasticsearch.closed,
    "shard_limit": elasticsearch.shard_limit,
    "no_auto_create": elasticsearch.no_auto_create,
    "template": elasticsearch.template,
    "recovering": elasticsearch.recovering,
    "breaker": elasticsearch.breaker,
    "too_large": elasticsearch.too_large,
    "stepdown": mongodb.stepdown,
    "disk_full": mongodb.disk_full,
    "maxmemory": redis.maxmemory,
    "flushed": redis.flushed,
    "append_only_file": redis.append_only_file,
    "transactions": kafka.transactions,
    "offsets_back": kafka.offsets_back,
    "partitions_added": kafka.partitions_added,
    "retention": kafka.retention,
    "topic_anew": kafka.topic_anew,
    "junk": clients.junk,
    "oversize": clients.oversize,
    "clocks": clients.clocks,
    "one_order": clients.one_order,
    "one_user": clients.one_user,
    "many_shops": clients.many_shops,
    "conflicts": clients.conflicts,
    "odd_documents": documents.odd,
}
