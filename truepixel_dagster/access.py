"""The settings for Kafka's clients and for each store: address, credentials, names, time limit and tries.

>>> from truepixel_dagster.settings import Settings
>>> access = Settings(namespace="shop", redis_password="canary").redis()
>>> access.namespace, access.timeout, access.password
('shop', 5.0, SecretStr('**********'))
"""

from __future__ import annotations

from typing import NamedTuple

from pydantic import SecretStr


class KafkaAccess(NamedTuple):
    """Hold the access to Kafka.

    `bootstrap` has comma-separated addresses; `timeout` is the seconds of one call; `identity` is the cluster that must
    answer, or None for any. `topic` and `dead_topic` are the topics of events and of dead letters, which setup creates
    with `partitions` and `replication`; offsets are committed under `group`.
    """

    bootstrap: str
    security_protocol: str
    sasl_mechanism: str | None
    sasl_username: str | None
    sasl_password: SecretStr | None
    ssl_ca_location: str | None
    ssl_certificate_location: str | None
    ssl_key_location: str | None
    ssl_key_password: SecretStr | None
    timeout: float
    retries: int
    identity: str | None
    namespace: str
    topic: str
    dead_topic: str
    group: str
    partitions: int
    replication: int


class FetchLimits(NamedTuple):
    """Hold the limits with which a lane fetches micro-batches.

    A micro-batch has at most `messages` records and `bytes`; a fetch waits at most `linger` seconds for a fuller one,
    and the lane is idle after `idle` seconds without a message. The client buffers at most `prefetch_bytes`.
    """

    messages: int
    bytes: int
    linger: float
    idle: float
    prefetch_bytes: int


class ElasticsearchAccess(NamedTuple):
    """Hold the access to Elasticsearch. `url` has comma-separated addresses; `timeout` is the seconds of one call."""

    url: str
    api_key: SecretStr | None
    username: str | None
    password: SecretStr | None
    ca_certs: str | None
    timeout: float
    retries: int
    namespace: str
    replicas: int


class MongoAccess(NamedTuple):
    """Hold the access to MongoDB. `timeout` is the seconds of one call."""

    url: SecretStr
    username: str | None
    password: SecretStr | None
    ca_certs: str | None
    timeout: float
    retries: int
    database: str


class RedisAccess(NamedTuple):
    """Hold the access to Redis. `timeout` is the seconds of one call; keys begin with the namespace."""

    url: SecretStr
    username: str | None
    password: SecretStr | None
    ca_certs: str | None
    timeout: float
    retries: int
    namespace: str
