"""A server that denies access: the exceptions as the client libraries build them, each reported in one line."""

from __future__ import annotations

import ssl
from typing import Any

import elastic_transport
import pytest
import redis
from elasticsearch import AuthenticationException, AuthorizationException, NotFoundError
from pymongo.errors import OperationFailure, ServerSelectionTimeoutError

from truepixel_dagster.settings import Settings
from truepixel_dagster.stores.elasticsearch import connection as elasticsearch
from truepixel_dagster.stores.errors import AccessDenied, Unavailable, calling
from truepixel_dagster.stores.mongodb import errors as mongodb
from truepixel_dagster.stores.redis import RedisStore
from truepixel_dagster.stores.redis import connection as redis_store

UNTRUSTED = (
    "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: unable to get local issuer certificate (_ssl.c:1016)"
)
META = elastic_transport.ApiResponseMeta(
    status=401,
    http_version="1.1",
    headers=elastic_transport.HttpHeaders(),
    duration=0.1,
    node=elastic_transport.NodeConfig("https", "h", 9200),
)


def from_redis(line: str) -> Exception:
    """The exception that redis-py makes of an error line of the server."""
    from redis._parsers.base import BaseParser

    error: Exception = BaseParser.parse_error(line)
    return error


def from_elasticsearch(kind: Any, reason: str) -> Exception:
    error: Exception = kind("security_exception", META, {"error": {"reason": reason}})
    return error


DENIALS: list[tuple[Any, Exception, str]] = [
    (
        elasticsearch,
        elastic_transport.TlsError("", (Exception(UNTRUSTED),)),
        "TRUEPIXEL_ELASTICSEARCH_CA_CERTS",
    ),
    (elasticsearch, elastic_transport.TlsError(UNTRUSTED), "TRUEPIXEL_ELASTICSEARCH_CA_CERTS"),
    (elasticsearch, from_elasticsearch(AuthenticationException, "no such key"), "TRUEPIXEL_ELASTICSEARCH_API_KEY"),
    (elasticsearch, from_elasticsearch(AuthorizationException, "not yours"), "privileges of the API key or user"),
    (mongodb, ServerSelectionTimeoutError(f"SSL handshake failed: h:1: {UNTRUSTED}"), "TRUEPIXEL_MONGODB_CA_CERTS"),
    (mongodb, OperationFailure("Authentication failed.", 18), "TRUEPIXEL_MONGODB_USERNAME and _PASSWORD"),
    (mongodb, OperationFailure("Command find requires authentication", 13), "TRUEPIXEL_MONGODB_USERNAME and _PASSWORD"),
    (mongodb, OperationFailure("not authorized on t to execute command", 13), "roles of TRUEPIXEL_MONGODB_USERNAME"),
    (redis_store, redis.ConnectionError(f"Error 1 connecting to h:1. {UNTRUSTED}"), "TRUEPIXEL_REDIS_CA_CERTS"),
    (redis_store, from_redis("WRONGPASS invalid username-password pair"), "TRUEPIXEL_REDIS_USERNAME and _PASSWORD"),
    (redis_store, from_redis("NOAUTH Authentication required."), "TRUEPIXEL_REDIS_USERNAME and _PASSWORD"),
    (redis_store, from_redis("NOAUTH HELLO must be called with the client already authenticated"), "it requires"),
    (redis_store, from_redis("NOPERM this user has no permissions"), "ACL of TRUEPIXEL_REDIS_USERNAME"),
    (redis_store, from_redis("ERR ACL failure in script: no permissions"), "ACL of TRUEPIXEL_REDIS_USERNAME"),
]


@pytest.mark.parametrize(("store", "error", "setting"), DENIALS)
def test_a_denial_is_one_line_with_its_setting_and_is_not_retried(store: Any, error: Exception, setting: str) -> None:
    calls = 0

    def call() -> None:
        nonlocal calls
        calls += 1
        raise error

    with pytest.raises(AccessDenied) as caught:
        calling("Server at h:1", call, transient=store.is_transient, denial=store.denial, attempts=4)
    assert calls == 1
    assert str(caught.value).startswith("Server at h:1: ")
    assert setting in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("store", "error"),
    [
        (elasticsearch, elastic_transport.ConnectionError("refused")),
        (elasticsearch, from_elasticsearch(NotFoundError, "no such index")),
        (mongodb, ServerSelectionTimeoutError("h:1: [Errno 111] Connection refused")),
        (mongodb, OperationFailure("not primary", 10107)),
        (redis_store, redis.ConnectionError("Error 111 connecting to h:1. Connection refused.")),
        (redis_store, from_redis("LOADING the dataset")),
        (redis_store, ssl.SSLError("certificate verify failed: of somebody else")),
    ],
)
def test_other_errors_are_no_denial(store: Any, error: Exception) -> None:
    assert store.denial(error) is None


def test_an_unreachable_server_is_unavailable_after_all_tries() -> None:
    def call() -> None:
        raise redis.ConnectionError("Error 111 connecting to h:1. Connection refused.")

    with pytest.raises(Unavailable) as caught:
        calling("R", call, transient=redis_store.is_transient, denial=redis_store.denial, attempts=1)
    assert not isinstance(caught.value, AccessDenied)


def test_the_address_in_messages_has_no_credentials() -> None:
    store = RedisStore(Settings(redis_url="rediss://me:hunter2@h:7/0", redis_timeout=0.5).redis())
    assert redis_store.server_of(store.client) == "Redis at h:7"
