"""What each store needs of the settings: address, credentials, names, time limit and tries.

>>> from truepixel_dagster.settings import Settings
>>> access = Settings(namespace="shop", redis_password="canary").redis()
>>> access.namespace, access.timeout, access.password
('shop', 5.0, SecretStr('**********'))
"""

from __future__ import annotations

from typing import NamedTuple

from pydantic import SecretStr


class ElasticsearchAccess(NamedTuple):
    """Access to Elasticsearch. `url` has comma-separated addresses; `timeout` is the seconds of one call."""

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
    """Access to MongoDB. `timeout` is the seconds of one call."""

    url: SecretStr
    username: str | None
    password: SecretStr | None
    ca_certs: str | None
    timeout: float
    retries: int
    database: str


class RedisAccess(NamedTuple):
    """Access to Redis. `timeout` is the seconds of one call; keys begin with the namespace."""

    url: SecretStr
    username: str | None
    password: SecretStr | None
    ca_certs: str | None
    timeout: float
    retries: int
    namespace: str
