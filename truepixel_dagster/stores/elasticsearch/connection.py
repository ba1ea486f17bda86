"""Connect to Elasticsearch, and classify the errors of its client."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, TypeVar

import msgspec
from elasticsearch import (
    ApiError,
    AuthenticationException,
    AuthorizationException,
    ConnectionTimeout,
    Elasticsearch,
    SerializationError,
    TransportError,
    UnsupportedProductError,
)
from elasticsearch import ConnectionError as NoConnection
from elasticsearch.serializer import JsonSerializer, NdjsonSerializer

from truepixel_dagster.access import ElasticsearchAccess
from truepixel_dagster.stores.elasticsearch_errors import ItemFailed, Kind, failed_shards, kind_of, types_of, words_of
from truepixel_dagster.stores.errors import untrusted
from truepixel_dagster.stores.index_templates import own_indices
from truepixel_dagster.stores.store import Store
from truepixel_dagster.text import with_advice

# docs/security.md has the same list.
_PRIVILEGES = (
    "the cluster privileges monitor and manage_index_templates (for `truepixel setup`), and all of the indices"
    " <namespace>-*"
)
_TRANSIENT_STATUS = frozenset({429, 502, 503, 504})
Reply = TypeVar("Reply")


class _Json(JsonSerializer):
    """Decode replies with msgspec, which is several times as fast as the standard library.

    Arguments:
        exact: Read numbers exactly: a payload must keep each digit in the history.
    """

    mimetype = "application/vnd.elasticsearch+json"

    def __init__(self, *, exact: bool) -> None:
        self._decoder = msgspec.json.Decoder(float_hook=Decimal) if exact else msgspec.json.Decoder()

    def json_loads(self, data: str | bytes) -> Any:
        """Return plain values."""
        return self._decoder.decode(data)


class _ReadyMade(NdjsonSerializer):
    """Pass on bulk bodies that are bytes already, without the client's copies."""

    mimetype = "application/vnd.elasticsearch+x-ndjson"

    def dumps(self, data: Any) -> bytes:
        """Return the body unchanged."""
        return data if isinstance(data, bytes) else super().dumps(data)


class Connection(Store):
    """Connect to Elasticsearch at the first call.

    Arguments:
        access: Address, credentials, names and time limit.
        exact: Read numbers with a fraction as decimals.
    """

    def __init__(self, access: ElasticsearchAccess, *, exact: bool = False) -> None:
        key, user, password = access.api_key, access.username, access.password
        options: Any = {"ca_certs": access.ca_certs} if access.ca_certs else {}
        options["serializers"] = {each.mimetype: each for each in (_Json(exact=exact), _ReadyMade())}
        self.address = access.url
        super().__init__(access.retries, transient=is_transient, denial=denial, words=words)
        self._namespace = access.namespace
        self.client = Elasticsearch(
            access.url.split(","),
            api_key=key.get_secret_value() if key else None,
            basic_auth=(user, password.get_secret_value()) if user and password else None,
            request_timeout=access.timeout,
            max_retries=0,
            **options,
        )

    def index(self, name: str) -> str:
        """Return the full name of an index: `events-2026.01` → `truepixel-events-2026.01`."""
        return f"{self._namespace}-{name}"

    def _own(self, name: str) -> str:
        """Return a request's expression for the indices `name`* of this namespace only."""
        return own_indices(self._namespace, name)

    def ping(self, timeout: float = 2.0) -> None:
        """Ask for the cluster's health once.

        Raises:
            AccessDenied: It denies access.
            Unavailable: No answer.
        """
        try:
            self.client.options(request_timeout=timeout).cluster.health()
        except (TransportError, ApiError) as error:
            raise self._no_answer(error, "TRUEPIXEL_ELASTICSEARCH_URL") from error

    def identity(self) -> str | None:
        """Return the cluster's name.

        Raises:
            Unavailable: No answer after all tries.
        """
        return str(self._call(self.client.cluster.health)["cluster_name"])

    def close(self) -> None:
        """Close the connections."""
        self.client.close()

    @property
    def _server(self) -> str:
        return f"Elasticsearch at {self.address}"


def denial(error: Exception) -> str | None:
    """Return why Elasticsearch denies access, and the setting to check; None for any other error."""
    if isinstance(error, TransportError) and (reason := untrusted(error)):
        return (
            f"{reason}. Check TRUEPIXEL_ELASTICSEARCH_CA_CERTS, and that TRUEPIXEL_ELASTICSEARCH_URL names the right"
            " server"
        )
    if isinstance(error, AuthenticationException):
        step = "Check TRUEPIXEL_ELASTICSEARCH_API_KEY, or TRUEPIXEL_ELASTICSEARCH_USERNAME and _PASSWORD"
        return with_advice("authentication failed", _reason(error), step)
    reason = _reason(error) if isinstance(error, ApiError) else str(error)
    if _kind(error) is Kind.DENIED:
        step = f"Check the privileges of the API key or user: it needs {_PRIVILEGES}"
        return with_advice("permission denied", reason, step)
    return None


def _kind(error: Exception) -> Kind | None:
    """Return how to handle an error of the client; None for one that no server has sent."""
    if isinstance(error, ItemFailed):
        return error.kind
    if not isinstance(error, ApiError):
        return None
    kind = kind_of(_error_of(error)) if _error_of(error) else None
    if kind in (Kind.DENIED, Kind.TRANSIENT):
        return kind
    if error.status_code in _TRANSIENT_STATUS:
        return Kind.TRANSIENT
    # A proxy's refusal has no type; that of a blocked index has one.
    blocked = "cluster_block_exception" in types_of(_error_of(error))
    return Kind.DENIED if isinstance(error, AuthorizationException) and not blocked else Kind.OUTAGE


def _error_of(error: ApiError) -> Mapping[str, Any]:
    """Return an error as Elasticsearch describes it; empty if the answer is not Elasticsearch's."""
    body = error.body if isinstance(error.body, dict) else {}
    described = body.get("error")
    return described if isinstance(described, dict) and described.get("type") else {}


def _reason(error: ApiError) -> str:
    body = error.body if isinstance(error.body, dict) else {}
    described = body.get("error") or {}
    if not isinstance(described, dict):
        return str(described)[:300]
    # For a refused API key, Elasticsearch gives the cause separately from the reason.
    key = described.get("additional_unsuccessful_credentials")
    return str(key or described.get("reason") or error.message)[:300]


def words(error: Exception) -> str | None:
    """Return Elasticsearch's description of an error, in one line."""
    if isinstance(error, (UnsupportedProductError, SerializationError)):
        return "the server that answers is not Elasticsearch (check TRUEPIXEL_ELASTICSEARCH_URL)"
    if isinstance(error, ItemFailed):
        return str(error)
    if isinstance(error, ApiError):
        described = _error_of(error)
        return words_of(described) if described else f"HTTP {error.status_code}: {' '.join(_reason(error).split())}"
    return None


def is_transient(error: Exception) -> bool:
    return isinstance(error, (NoConnection, ConnectionTimeout)) or _kind(error) is Kind.TRANSIENT


def failed(error: Mapping[str, Any]) -> ItemFailed:
    """Return the failure for an item's error that concerns more than its own document."""
    kind = kind_of(error)
    return ItemFailed(kind if kind in (Kind.DENIED, Kind.TRANSIENT) else Kind.OUTAGE, words_of(error))


def raise_worst(failures: Sequence[ItemFailed], what: str) -> None:
    """Raise the failure that is least likely to pass by itself."""
    for kind in (Kind.DENIED, Kind.OUTAGE, Kind.TRANSIENT):
        if found := next((error for error in failures if error.kind is kind), None):
            raise ItemFailed(kind, f"{what}, such as {found}")


def whole(reply: Reply) -> Reply:
    """Return a reply if every shard has contributed to it.

    Raises:
        ItemFailed: A shard has not contributed, or not in time.
    """
    body: Any = reply
    if failure := failed_shards(body.body):
        raise failed(failure)
    return reply
