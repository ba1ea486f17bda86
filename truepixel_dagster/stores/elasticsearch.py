"""The Elasticsearch adapter: mget and bulk, with ready-made JSON bytes passed through."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from decimal import Decimal
from importlib import resources
from typing import Any, Literal

import msgspec
from elasticsearch import (
    ApiError,
    AuthenticationException,
    AuthorizationException,
    ConnectionTimeout,
    Elasticsearch,
    NotFoundError,
    TransportError,
)
from elasticsearch import ConnectionError as NoConnection
from elasticsearch.serializer import JsonSerializer, NdjsonSerializer

from truepixel_dagster.settings import MIB, Settings
from truepixel_dagster.stores.errors import untrusted
from truepixel_dagster.stores.store import Store

TEMPLATES = ("events", "attributions", "product-stats", "weekly-visitors")
# Their indices end with the month: `events-2026.01`.
_BY_MONTH = frozenset({"events", "product-stats"})
_TRANSIENT_STATUS = frozenset({429, 502, 503, 504})


class Found(msgspec.Struct, frozen=True):
    """A stored document and the sequence number under which it may be replaced."""

    index: str
    id: str
    source: dict[str, Any]
    seq_no: int
    primary_term: int


class Action(msgspec.Struct, frozen=True):
    """One line of a bulk request; `source` is the document as JSON bytes without line breaks, empty for a deletion."""

    op: Literal["create", "index", "delete"]
    index: str
    id: str
    source: bytes = b""
    if_seq_no: int | None = None
    if_primary_term: int | None = None


class Outcome(msgspec.Struct, frozen=True):
    """What became of one action: 200 or 201, 409 for a conflict, another 4xx with its reason for a refused document."""

    status: int
    error: str | None = None


CONFLICT = 409
# A shard works on one request in one thread, so that two halves of a large one are done in less time.
_AT_ONCE, _WORTH_PARTING = 2, 128
# A request's body is a copy of its documents: no more than a few of these lie in memory beside a large micro-batch.
_PART_BYTES = 4 * MIB
_REPLY_FIELDS = "items.*.status,items.*.error.type,items.*.error.reason"


class _RetryLater(Exception):
    """Elasticsearch accepted a bulk request but had no room for some of its actions."""


class _Json(JsonSerializer):
    """Replies as msgspec reads them, several times as fast as the standard library.

    Arguments:
        exact: Read numbers as they were written: a payload is to come back from the history digit by digit.
    """

    mimetype = "application/vnd.elasticsearch+json"

    def __init__(self, *, exact: bool) -> None:
        self._decoder = msgspec.json.Decoder(float_hook=Decimal) if exact else msgspec.json.Decoder()

    def json_loads(self, data: str | bytes) -> Any:
        """Plain values."""
        return self._decoder.decode(data)


class _ReadyMade(NdjsonSerializer):
    """Bulk bodies that are bytes already, without the client's copies of them."""

    mimetype = "application/vnd.elasticsearch+x-ndjson"

    def dumps(self, data: Any) -> bytes:
        """The body as it is."""
        return data if isinstance(data, bytes) else super().dumps(data)


class ElasticsearchStore(Store):
    """Elasticsearch at the settings' address. Nothing is connected before the first call.

    Arguments:
        settings: Address, timeouts and names.
        exact: Read numbers with a fraction as decimals.
    """

    def __init__(self, settings: Settings, *, exact: bool = False) -> None:
        key, user, password = (
            settings.elasticsearch_api_key,
            settings.elasticsearch_username,
            settings.elasticsearch_password,
        )
        options: Any = {"ca_certs": settings.elasticsearch_ca_certs} if settings.elasticsearch_ca_certs else {}
        options["serializers"] = {each.mimetype: each for each in (_Json(exact=exact), _ReadyMade())}
        self.address = settings.elasticsearch_url
        super().__init__(settings.retries, transient=_is_transient, denial=denial)
        self._namespace = settings.namespace
        self._replicas = settings.elasticsearch_replicas
        self._senders = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="bulk")
        self.client = Elasticsearch(
            settings.elasticsearch_url.split(","),
            api_key=key.get_secret_value() if key else None,
            basic_auth=(user, password.get_secret_value()) if user and password else None,
            request_timeout=settings.elasticsearch_timeout,
            max_retries=0,
            **options,
        )

    def index(self, name: str) -> str:
        """The full name of an index: `events-2026.01` → `truepixel-events-2026.01`."""
        return f"{self._namespace}-{name}"

    def _own(self, name: str) -> str:
        """The indices `name`* of this namespace alone, as a request's index expression.

        `shop-events-*` would take in the indices of a namespace `shop-events` or `shop-events-eu`. Those have either no
        month or one more part before it.
        """
        name = name.rstrip("-")
        if not name:
            return ",".join(map(self._own, TEMPLATES))
        full = self.index(name)
        return f"{full}-*.*,-{full}-*-*" if name in _BY_MONTH else full

    def ping(self, timeout: float = 2.0) -> None:
        """Ask for the cluster's health once.

        Raises:
            AccessDenied: It does not let us in.
            Unavailable: No answer.
        """
        try:
            self.client.options(request_timeout=timeout).cluster.health()
        except (TransportError, ApiError) as error:
            raise self._no_answer(error, "TRUEPIXEL_ELASTICSEARCH_URL") from error

    def mget(self, documents: Sequence[tuple[str, str]], fields: Sequence[str] | None = None) -> list[Found | None]:
        """Read documents by index and id, in the order asked for; None where there is none.

        Arguments:
            documents: Pairs of full index name and id.
            fields: Source fields to return; None returns all.

        Raises:
            Unavailable: No answer after all tries.
        """
        if not documents:
            return []
        docs = [{"_index": index, "_id": id_} for index, id_ in documents]
        reply = self._call(lambda: self.client.mget(docs=docs, source_includes=list(fields) if fields else None))
        return [_found(doc) for doc in reply["docs"]]

    def bulk(self, actions: Sequence[Action]) -> list[Outcome]:
        """Write documents and say for each what became of it, in order.

        Many, or large ones, go in parts, two side by side; those of one id in the same one, in the order given. Actions
        that Elasticsearch had no room for (429, 503) are sent again within the tries.

        Raises:
            Unavailable: No answer, or no room, after all tries.
        """
        outcomes: dict[int, Outcome] = {}

        def attempt() -> None:
            parts = _parts([i for i in range(len(actions)) if i not in outcomes], actions)
            sent = [self._senders.submit(self._bulk_once, [actions[i] for i in part]) for part in parts]
            wait(sent)
            for part, done in zip(parts, sent):
                replies = zip(part, done.result())
                outcomes.update((i, reply) for i, reply in replies if reply.status not in _TRANSIENT_STATUS)
            if len(outcomes) < len(actions):
                raise _RetryLater(f"{len(actions) - len(outcomes)} of {len(actions)} actions were turned away")

        if actions:
            self._call(attempt)
        return [outcomes[i] for i in range(len(actions))]

    def _bulk_once(self, actions: Sequence[Action]) -> list[Outcome]:
        lines: list[bytes] = []
        for action in actions:
            lines += (_header(action), action.source) if action.source else (_header(action),)
        body = b"\n".join([*lines, b""])
        reply = self.client.bulk(operations=body, filter_path=_REPLY_FIELDS)  # type: ignore[arg-type]
        return [_outcome(next(iter(item.values()))) for item in reply.body["items"]]

    def setup(self) -> list[str]:
        """Put the index templates and the one index that is not made by the month; says what it changed."""
        changed = [name for name in TEMPLATES if self._put_template(name)]
        attributions = self.index("attributions")
        if not self.client.indices.exists(index=attributions):
            self.client.indices.create(index=attributions)
            changed.append(f"index {attributions}")
        return changed

    def _put_template(self, name: str) -> bool:
        text = resources.files("truepixel_dagster.stores").joinpath(f"templates/{name}.json").read_text()
        body = msgspec.json.decode(text.replace("NAMESPACE", self._namespace))
        body["template"]["settings"]["index"]["number_of_replicas"] = str(self._replicas)
        # A pattern cannot leave out the indices of a namespace that begins with ours: that one's own template wins.
        body["priority"] += len(self._namespace)
        full = self.index(name)
        try:
            known: Any = self.client.indices.get_index_template(name=full)["index_templates"][0]["index_template"]
        except NotFoundError:
            known = None
        if known and all(known.get(key) == value for key, value in body.items()):
            return False
        self.client.indices.put_index_template(name=full, **body)
        # A template speaks of new indices only: those that are there learn of new fields and of searches here.
        search = body["template"]["settings"]["index"]["search"]
        for index in self.client.indices.get(index=self._own(name), allow_no_indices=True, ignore_unavailable=True):
            self.client.indices.put_mapping(index=index, **body["template"]["mappings"])
            self.client.indices.put_settings(index=index, settings={"index": {"search": search}})
        return True

    def async_indices(self) -> list[str]:
        """The indices that acknowledge a write before it is on the disk.

        Raises:
            Unavailable: No answer after all tries.
        """
        name = "index.translog.durability"
        found = self._call(
            lambda: self.client.indices.get_settings(
                index=self._own(""), name=name, flat_settings=True, ignore_unavailable=True, allow_no_indices=True
            )
        )
        return sorted(index for index, own in found.items() if own["settings"].get(name) == "async")

    def indices(self, name: str) -> list[str]:
        """The full names of the indices `name`*.

        Raises:
            Unavailable: No answer after all tries.
        """
        own = self._own(name)
        return sorted(
            self._call(lambda: self.client.indices.get(index=own, ignore_unavailable=True, allow_no_indices=True))
        )

    def drop(self, index: str) -> None:
        """Remove one index by its full name, with all that it holds; nothing where there is none.

        Raises:
            Unavailable: No answer after all tries.
        """
        self._call(lambda: self.client.indices.delete(index=index, ignore_unavailable=True))

    def refresh(self) -> None:
        """Make everything that was written visible to searches."""
        self.client.indices.refresh(index=self._own(""), ignore_unavailable=True, allow_no_indices=True)

    def count(self, name: str) -> int:
        """Documents in the indices `name`*, after a refresh by the caller."""
        own = self._own(name)
        return int(self.client.count(index=own, ignore_unavailable=True, allow_no_indices=True)["count"])

    def most_common(self, name: str, field: str, size: int) -> list[str]:
        """The values of a field that most documents of the indices `name`* have, the most frequent first.

        Raises:
            Unavailable: No answer after all tries.
        """
        by_value = {"values": {"terms": {"field": field, "size": size}}}
        found = self._call(
            lambda: self.client.search(
                index=self._own(name),
                size=0,
                aggregations=by_value,
                track_total_hits=False,
                ignore_unavailable=True,
                allow_no_indices=True,
            )
        )
        return [str(bucket["key"]) for bucket in found.get("aggregations", {}).get("values", {}).get("buckets", ())]

    def newest(self, name: str, field: str, *, until: str) -> str | None:
        """The latest date of a field in an index, as ISO 8601, and at most a given one; None where there is none.

        Raises:
            Unavailable: No answer after all tries.
        """

        def read() -> str | None:
            found = self.client.search(
                index=self.index(name),
                query={"range": {field: {"lte": until}}},
                sort=[{field: "desc"}],
                source_includes=[field],
                size=1,
                track_total_hits=False,
            )
            hits = found["hits"]["hits"]
            return str(hits[0]["_source"][field]) if hits else None

        return self._call(read)

    def scan(
        self,
        name: str,
        query: Mapping[str, Any] | None = None,
        *,
        fields: Sequence[str] | None = None,
        sort: Sequence[str] = ("_shard_doc",),
        size: int = 1000,
    ) -> Iterator[Any]:
        """Every document of the indices `name`* as search hits, from one point in time, in no order unless `sort`."""
        pit = self.client.open_point_in_time(
            index=self._own(name), keep_alive="2m", ignore_unavailable=True, allow_partial_search_results=False
        )
        after: Any = None
        try:
            while True:
                page = self.client.search(
                    pit={"id": pit["id"], "keep_alive": "2m"},
                    query=dict(query or {"match_all": {}}),
                    sort=[{field: "asc"} for field in sort],
                    source_includes=list(fields) if fields else None,
                    size=size,
                    search_after=after,
                    track_total_hits=False,
                )
                hits = page["hits"]["hits"]
                if not hits:
                    return
                yield from hits
                after = hits[-1]["sort"]
        finally:
            self.client.close_point_in_time(id=pit["id"])

    def close(self) -> None:
        """Close the connections."""
        self._senders.shutdown()
        self.client.close()

    @property
    def _server(self) -> str:
        return f"Elasticsearch at {self.address}"


def denial(error: Exception) -> str | None:
    """Why Elasticsearch does not let us in, and the setting to look at; None for any other error."""
    if isinstance(error, TransportError) and (reason := untrusted(error)):
        return f"{reason} (TRUEPIXEL_ELASTICSEARCH_CA_CERTS, or another server than meant: TRUEPIXEL_ELASTICSEARCH_URL)"
    if isinstance(error, AuthenticationException):
        return (
            f"it refuses our credentials: {_reason(error)} (TRUEPIXEL_ELASTICSEARCH_API_KEY, or"
            " TRUEPIXEL_ELASTICSEARCH_USERNAME and _PASSWORD)"
        )
    if isinstance(error, AuthorizationException):
        return f"our user may not do this: {_reason(error)} (the privileges of the API key or user)"
    return None


def _reason(error: ApiError) -> str:
    body = error.body if isinstance(error.body, dict) else {}
    told = body.get("error") or {}
    # Where an API key was refused, what is wrong with it stands apart from the reason.
    key = told.get("additional_unsuccessful_credentials")
    return str(key or told.get("reason") or error.message)[:300]


def _is_transient(error: Exception) -> bool:
    if isinstance(error, ApiError):
        return error.status_code in _TRANSIENT_STATUS
    return isinstance(error, (NoConnection, ConnectionTimeout, _RetryLater))


def _parts(positions: Sequence[int], actions: Sequence[Action]) -> list[list[int]]:
    size = sum(len(actions[position].source) for position in positions)
    count = max(_AT_ONCE if len(positions) >= _WORTH_PARTING else 1, -(-size // _PART_BYTES))
    parts: list[list[int]] = [[] for _ in range(count)]
    for position in positions:
        parts[zlib.crc32(actions[position].id.encode()) % count].append(position)
    return [part for part in parts if part]


def _header(action: Action) -> bytes:
    meta: dict[str, Any] = {"_index": action.index, "_id": action.id}
    if action.if_seq_no is not None:
        meta |= {"if_seq_no": action.if_seq_no, "if_primary_term": action.if_primary_term}
    return msgspec.json.encode({action.op: meta})


def _found(doc: Mapping[str, Any]) -> Found | None:
    if not doc.get("found"):
        return None
    return Found(doc["_index"], doc["_id"], doc.get("_source", {}), doc["_seq_no"], doc["_primary_term"])


def _outcome(item: Mapping[str, Any]) -> Outcome:
    error = item.get("error")
    return Outcome(item["status"], f"{error.get('type')}: {error.get('reason')}"[:500] if error else None)
