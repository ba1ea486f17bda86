"""The Elasticsearch adapter: mget and bulk, with ready-made JSON bytes passed through."""

from __future__ import annotations

import time
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from decimal import Decimal
from functools import partial
from typing import Any, Literal, TypeVar

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

from truepixel_dagster.chunks import chunks
from truepixel_dagster.settings import MIB, Settings
from truepixel_dagster.stores.elasticsearch_errors import (
    INDEX_NOT_FOUND,
    ItemFailed,
    Kind,
    failed_shards,
    kind_of,
    types_of,
    words_of,
)
from truepixel_dagster.stores.errors import NotSetUp, ServerRefuses, untrusted
from truepixel_dagster.stores.index_templates import (
    MADE_BY_SETUP,
    TEMPLATES,
    Fault,
    index_faults,
    is_closed,
    own_indices,
    template,
    template_faults,
    template_of,
)
from truepixel_dagster.stores.store import Store
from truepixel_dagster.stores.too_large import CONTENT_TOO_LARGE, never_fits

_TRANSIENT_STATUS = frozenset({429, 502, 503, 504})
Reply = TypeVar("Reply")


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


CONFLICT = 409


class Outcome(msgspec.Struct, frozen=True):
    """What became of one action: 200 or 201, 404 for a deletion of nothing, 409 for a conflict, another 4xx with its
    reason for a document that is poison. Nothing else: any other error is raised."""

    status: int
    error: str | None = None

    @property
    def refused(self) -> bool:
        """Whether the document is poison."""
        return self.error is not None and self.status != CONFLICT


# A shard works on one request in one thread, so that two halves of a large one are done in less time.
_AT_ONCE, _WORTH_PARTING = 2, 128
# A request's body is a copy of its documents: no more than a few of these lie in memory beside a large micro-batch.
_PART_BYTES = 4 * MIB
# Requests are not made smaller than this for a proxy's sake.
_SMALLEST_PART = 64 * 1024
_REPLY_FIELDS = "items.*.status,items.*.error.type,items.*.error.reason,items.*.error.caused_by"
_TEMPLATE_FIELDS = ["index_templates.name", "index_templates.index_template"]
# The UUID, so that no index is left out for having none of the others.
_SETTINGS_OF_AN_INDEX = ("uuid", "verified_before_close", "default_pipeline", "final_pipeline")
_INDEX_FIELDS = ["*.mappings", *(f"*.settings.index.{name}" for name in _SETTINGS_OF_AN_INDEX)]
# How long searches may believe what they know of the indices.
_KNOWN_SECONDS = 1.0
# How long a process may write to the indices that it has looked at.
_SOUND_SECONDS = 60.0
_COPIED_AT_ONCE = 250
_BUCKETS = 5000
# Decimals are written back as the numbers that they were.
_ENCODER = msgspec.json.Encoder(decimal_format="number")


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
        super().__init__(settings.retries, transient=_is_transient, denial=denial, words=_words)
        self._namespace = settings.namespace
        self._sound: set[str] = set()
        self._sound_until = 0.0
        self._searched: dict[str, float] = {}
        self._replicas = settings.elasticsearch_replicas
        self._part_bytes = _PART_BYTES
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
        """The indices `name`* of this namespace alone, as a request's index expression."""
        return own_indices(self._namespace, name)

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

    def identity(self) -> str | None:
        """The cluster's name.

        Raises:
            Unavailable: No answer after all tries.
        """
        return str(self._call(self.client.cluster.health)["cluster_name"])

    def mget(self, documents: Sequence[tuple[str, str]], fields: Sequence[str] | None = None) -> list[Found | None]:
        """Read documents by index and id, in the order asked for; None only where it is known that there is none.

        Arguments:
            documents: Pairs of full index name and id.
            fields: Source fields to return; None returns all.

        Raises:
            Unavailable: No answer after all tries, or none for one of the documents.
        """
        found: dict[int, Found | None] = {}

        def attempt() -> None:
            asked = [position for position in range(len(documents)) if position not in found]
            docs = [{"_index": documents[i][0], "_id": documents[i][1]} for i in asked]
            reply = self.client.mget(docs=docs, source_includes=list(fields) if fields else None)
            failed: list[ItemFailed] = []
            for position, doc in zip(asked, reply["docs"]):
                try:
                    found[position] = self._document(doc)
                except ItemFailed as error:
                    failed.append(error.of(documents[position][0]))
            _raise_worst(failed, f"{len(failed)} of {len(documents)} documents could not be read")
            if len(found) < len(documents):
                raise ItemFailed(Kind.TRANSIENT, f"{len(found)} answers to {len(documents)} questions")

        if documents:
            self._call(attempt)
        return [found[position] for position in range(len(documents))]

    def _document(self, doc: Mapping[str, Any]) -> Found | None:
        """What an item says: a document, none, or that it is not known."""
        error = doc.get("error")
        if error is None:
            return _found(doc)
        # A month that nobody has written to; what `setup` made is never missing.
        if INDEX_NOT_FOUND in types_of(error) and doc["_index"] not in map(self.index, MADE_BY_SETUP):
            return None
        raise _failed(error)

    def bulk(self, actions: Sequence[Action]) -> list[Outcome]:
        """Write documents and say for each what became of it, in order.

        Many, or large ones, go in parts, two side by side; those of one id in the same one, in the order given. Actions
        that Elasticsearch had no room for are sent again within the tries.

        Returns:
            For each action: done, a conflict, or a refusal that concerns this one document. Whoever has nothing to do
            with a refused document calls `write` instead.

        Raises:
            AccessDenied: The user may not write one of them.
            NotSetUp: An index does not have, or would not get, the mapping that its documents need.
            ServerRefuses: An index is closed, blocked or cannot be made: no fault of the documents.
            Unavailable: No answer, or no room, after all tries.
        """
        self._check_targets({action.index for action in actions})
        found = self._bulk(actions)
        refusing = {action.index for action, outcome in zip(actions, found) if outcome.refused}
        if refusing:
            # A document is poison only where a sound index refuses it.
            self._check_indices(sorted(refusing))
        return found

    def _bulk(self, actions: Sequence[Action]) -> list[Outcome]:
        outcomes: dict[int, Outcome] = {}

        def attempt() -> None:
            parts = _parts([i for i in range(len(actions)) if i not in outcomes], actions, self._part_bytes)
            sent = [self._senders.submit(self._bulk_once, [actions[i] for i in part]) for part in parts]
            wait(sent)
            failed: list[ItemFailed] = []
            for part, done in zip(parts, sent):
                for position, outcome in zip(part, done.result()):
                    if isinstance(outcome, ItemFailed):
                        failed.append(outcome.of(actions[position].index))
                    else:
                        outcomes[position] = outcome
            _raise_worst(failed, f"{len(failed)} of {len(actions)} actions were refused")
            if len(outcomes) < len(actions):
                raise ItemFailed(Kind.TRANSIENT, f"{len(outcomes)} answers to {len(actions)} actions")

        if actions:
            self._call(attempt)
        return [outcomes[i] for i in range(len(actions))]

    def write(self, actions: Sequence[Action]) -> list[Outcome]:
        """Write documents as `bulk` does, for whoever has no place for a refused one.

        Returns:
            For each action: done, or a conflict.

        Raises:
            ServerRefuses: A document was refused, or what `bulk` raises; the others are written.
        """
        outcomes = self.bulk(actions)
        for action, outcome in zip(actions, outcomes):
            if outcome.refused:
                raise ServerRefuses(f"{self._server} refused {action.id} of {action.index}: {outcome.error}")
        return outcomes

    def _bulk_once(self, actions: Sequence[Action]) -> list[Outcome | ItemFailed]:
        """One request; smaller ones where it is larger than Elasticsearch, or a proxy before it, ever takes."""
        lines: list[bytes] = []
        for action in actions:
            lines += (_header(action), action.source) if action.source else (_header(action),)
        body = b"\n".join([*lines, b""])
        try:
            reply = self.client.bulk(operations=body, filter_path=_REPLY_FIELDS)  # type: ignore[arg-type]
        except ApiError as error:
            words = _words(error) or ""
            if not never_fits(error.status_code, words, len(body)):
                raise
            return self._in_smaller(actions, len(body), words)
        items = [next(iter(item.values())) for item in reply.body["items"]]
        found = [_outcome(item) for item in items]
        large = [n for n, item in enumerate(items) if item.get("error") and _never_fits(item, actions[n])]
        if large and len(actions) == 1:
            return self._in_smaller(actions, len(body), words_of(items[0]["error"]))
        if large:
            # Nothing of these is written; one alone may fit.
            again = [actions[n] for n in large]
            parts = _halves(again) if len(again) == len(actions) else [again]
            for n, outcome in zip(large, [outcome for part in parts for outcome in self._bulk_once(part)]):
                found[n] = outcome
        return found

    def _in_smaller(self, actions: Sequence[Action], size: int, words: str) -> list[Outcome | ItemFailed]:
        """A request that was too large in halves, and so on; a document that is too large alone is refused."""
        if len(actions) == 1:
            reason = f"{size} bytes are too large for Elasticsearch or a proxy before it: {words}"
            return [Outcome(CONTENT_TOO_LARGE, reason[:500])]
        # The next ones need not be tried in vain.
        self._part_bytes = max(_SMALLEST_PART, min(self._part_bytes, size // 2))
        return [outcome for part in _halves(actions) for outcome in self._bulk_once(part)]

    def check(self) -> None:
        """Make sure that templates and indices are as this version writes and reads them.

        Raises:
            NotSetUp: They are not; the message says what is wrong and what to do.
            Unavailable: No answer after all tries.
        """
        described = self._described(self._own(""))
        found = template_faults(self._templates(), self._namespace)
        for name in MADE_BY_SETUP:
            if self.index(name) not in described:
                found.append(Fault(f"index {self.index(name)}", "is missing", repairable=True))
        self._raise(found + self._faults_of(described))
        self._sound |= described.keys()
        self._sound_until = time.monotonic() + _SOUND_SECONDS

    def unsound(self) -> list[str]:
        """What `setup` cannot put right, each with what to do, in one line.

        Raises:
            Unavailable: No answer after all tries.
        """
        faults = template_faults(self._templates(), self._namespace)
        lines = [str(fault) for fault in faults if not fault.repairable]
        for index, there in sorted(self._described(self._own("")).items()):
            wrong = [fault for fault in self._faults_of({index: there}) if not fault.repairable]
            if wrong:
                lines.append(
                    f"{wrong[0]}: its documents must be reindexed. Stop the lanes, type"
                    f" `truepixel setup --reindex {index}`, and start them"
                )
        return lines

    def body_of(self, index: str) -> dict[str, Any] | None:
        """Settings and mappings of one of the pipeline's indices as its template has them; None for another index."""
        name = template_of(index, self._namespace)
        return None if name is None else dict(template(name, self._namespace, self._replicas)["template"])

    def wrong(self, index: str) -> bool:
        """Whether an index is there and has what `setup` cannot put right.

        Raises:
            Unavailable: No answer after all tries.
        """
        return any(not fault.repairable for fault in self._faults_of(self._described(index)))

    def _check_targets(self, indices: Collection[str]) -> None:
        """Before a write to an index that was not looked at lately: one that it makes gets a template's mapping."""
        if wrong := self.refusing(indices):
            raise NotSetUp(f"{self._server}: {next(iter(wrong.values()))}")

    def refusing(self, indices: Collection[str]) -> dict[str, str]:
        """Why nothing must be written to some indices, by index: those that have, or would get, another mapping.

        Raises:
            Unavailable: No answer after all tries.
        """
        if time.monotonic() >= self._sound_until:
            self._sound.clear()
            self._sound_until = time.monotonic() + _SOUND_SECONDS
        new = [index for index in indices if index not in self._sound]
        if not new:
            return {}
        described = self._described(",".join(new))
        templates = {} if described.keys() >= set(new) else self._templates()
        wrong: dict[str, str] = {}
        for index in new:
            there, name = described.get(index), template_of(index, self._namespace)
            if there:
                faults = self._faults_of({index: there})
            else:
                faults = template_faults(templates, self._namespace, [index], [name] if name else [])
            if faults:
                wrong[index] = _said(faults)
        self._sound.update(index for index in new if index not in wrong)
        return wrong

    def _check_indices(self, names: Sequence[str]) -> None:
        self._raise(self._faults_of(self._described(",".join(names))))

    def _check_search(self, indices: str) -> None:
        """A search of a closed index, or of fields that are not indexed as they should be, finds nothing: not proof."""
        if time.monotonic() - self._searched.get(indices, float("-inf")) < _KNOWN_SECONDS:
            return
        described = self._described(indices)
        found = self._faults_of(described)
        missing = set(map(self.index, MADE_BY_SETUP)) & set(indices.split(",")) - described.keys()
        found += [Fault(f"index {index}", "is missing", repairable=True) for index in missing]
        for index, there in described.items():
            if is_closed(there):
                what = f"is closed, so that no search finds what it holds: open it (POST {index}/_open)"
                found.append(Fault(f"index {index}", what, repairable=False))
        self._raise(found)
        self._searched[indices] = time.monotonic()

    def _raise(self, faults: Sequence[Fault]) -> None:
        if faults:
            raise NotSetUp(f"{self._server}: {_said(faults)}")

    def _faults_of(self, described: Mapping[str, dict[str, Any]]) -> list[Fault]:
        named = ((index, template_of(index, self._namespace), there) for index, there in described.items())
        return [fault for index, name, there in named if name for fault in index_faults(index, name, there)]

    def _templates(self) -> dict[str, dict[str, Any]]:
        reply = self._call(lambda: self.client.indices.get_index_template(filter_path=_TEMPLATE_FIELDS))
        return {each["name"]: each["index_template"] for each in reply.body.get("index_templates", ())}

    def _described(self, indices: str) -> dict[str, dict[str, Any]]:
        """Mappings and settings of indices by a request's expression, the closed and hidden ones too."""
        reply = self._call(
            lambda: self.client.indices.get(
                index=indices,
                expand_wildcards="all",
                allow_no_indices=True,
                ignore_unavailable=True,
                filter_path=_INDEX_FIELDS,
            )
        )
        return dict(reply.body)

    def setup(self) -> list[str]:
        """Put the index templates and the indices that are not made by the month; says what it changed.

        Indices that are there get the fields that they lack; see `unsound` for what they cannot get.

        Raises:
            Unavailable: No answer after all tries.
        """
        there = self._templates()
        changed = [name for name in TEMPLATES if self._put_template(name, there.get(self.index(name)))]
        for name in MADE_BY_SETUP:
            index = self.index(name)
            if not self._call(lambda: self.client.indices.exists(index=index)):  # noqa: B023 (called at once)
                self._call(lambda: self.client.indices.create(index=index))  # noqa: B023 (called at once)
                changed.append(f"index {index}")
        for name in TEMPLATES:
            changed += self._repair(name, searches=name in changed)
        return changed

    def _put_template(self, name: str, known: Mapping[str, Any] | None) -> bool:
        body = template(name, self._namespace, self._replicas)
        if known and all(known.get(key) == value for key, value in body.items()):
            return False
        self._call(lambda: self.client.indices.put_index_template(name=self.index(name), **body))
        return True

    def _repair(self, name: str, *, searches: bool) -> list[str]:
        """A template speaks of new indices only: those that are there learn of new fields and of searches here."""
        wanted = template(name, self._namespace, self._replicas)["template"]
        search, changed = wanted["settings"]["index"]["search"], []
        for index, there in self._described(self._own(name)).items():
            faults = self._faults_of({index: there})
            if searches and not is_closed(there):
                self._change_settings(index, {"index": {"search": search}})
            if faults and all(fault.repairable for fault in faults):
                self._change_mapping(index, wanted["mappings"])
                changed.append(f"mapping of {index}")
        return changed

    def _change_settings(self, index: str, settings: Mapping[str, Any]) -> None:
        self._call(lambda: self.client.indices.put_settings(index=index, settings=settings))

    def _change_mapping(self, index: str, mapping: Mapping[str, Any]) -> None:
        self._call(lambda: self.client.indices.put_mapping(index=index, **mapping))

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
        """The full names of the indices `name`*, the closed ones too.

        Raises:
            Unavailable: No answer after all tries.
        """
        return sorted(self._described(self._own(name)))

    def drop(self, index: str) -> None:
        """Remove one index by its full name, with all that it holds; nothing where there is none.

        Raises:
            Unavailable: No answer after all tries.
        """
        self._call(lambda: self.client.indices.delete(index=index, ignore_unavailable=True))

    def refresh(self) -> None:
        """Make everything that was written visible to searches.

        Raises:
            Unavailable: No answer after all tries, or a shard did not do it.
        """
        own = self._own("")
        refresh = self.client.indices.refresh
        self._call(lambda: _whole(refresh(index=own, ignore_unavailable=True, allow_no_indices=True)))

    def count(self, name: str, query: Mapping[str, Any] | None = None) -> int:
        """Documents in the indices `name`* that a query finds, all by default, after a refresh by the caller.

        Raises:
            NotSetUp: An index is not as it should be, or closed.
            Unavailable: No answer after all tries, or a shard gave none.
        """
        own, count = self._own(name), self.client.count
        self._check_search(own)
        ours: Any = {"index": own, "query": query, "ignore_unavailable": True, "allow_no_indices": True}
        return int(self._call(lambda: _whole(count(**ours)))["count"])

    def most_common(self, name: str, field: str, size: int) -> list[str]:
        """The values of a field that most documents of the indices `name`* have, the most frequent first.

        Raises:
            NotSetUp: An index is not as it should be, or closed.
            Unavailable: No answer after all tries, or a shard gave none.
        """
        by_value = {"values": {"terms": {"field": field, "size": size}}}
        own = self._own(name)
        self._check_search(own)
        found = self._call(
            lambda: _whole(
                self.client.search(
                    index=own,
                    size=0,
                    aggregations=by_value,
                    track_total_hits=False,
                    ignore_unavailable=True,
                    allow_no_indices=True,
                    allow_partial_search_results=False,
                )
            )
        )
        return [str(bucket["key"]) for bucket in found.get("aggregations", {}).get("values", {}).get("buckets", ())]

    def days(self, name: str, field: str) -> list[str]:
        """The days (UTC, ISO) on which a date field of the indices `name`* falls, in order.

        Raises:
            Unavailable: No answer after all tries.
        """
        by_day = {"field": field, "calendar_interval": "day", "format": "yyyy-MM-dd", "min_doc_count": 1}
        found = self._call(
            lambda: self.client.search(
                index=self._own(name),
                size=0,
                aggregations={"days": {"date_histogram": by_day}},
                track_total_hits=False,
                allow_partial_search_results=False,
                ignore_unavailable=True,
                allow_no_indices=True,
            )
        )
        return [bucket["key_as_string"] for bucket in found.get("aggregations", {}).get("days", {}).get("buckets", ())]

    def counts_by_day(
        self, name: str, query: Mapping[str, Any], kinds: Mapping[str, Mapping[str, Any]]
    ) -> dict[str, dict[str, int]]:
        """Return how many documents of the indices `name`* a query finds by the day (UTC) of `occurred_at`.

        Arguments:
            name: Of the indices.
            query: Which documents.
            kinds: Further queries by name; each has its own days.

        Raises:
            Unavailable: No answer after all tries.
        """
        histogram = {"field": "occurred_at", "calendar_interval": "day", "format": "yyyy-MM-dd", "min_doc_count": 1}
        parts = {
            kind: {"filter": dict(own), "aggs": {"days": {"date_histogram": histogram}}} for kind, own in kinds.items()
        }
        pattern = self._own(name)
        ours: Any = {"ignore_unavailable": True, "allow_no_indices": True}

        def read() -> Any:
            self.client.indices.refresh(index=pattern, **ours)
            return self.client.search(index=pattern, size=0, query=dict(query), aggs=parts, **ours)

        found = self._call(read).get("aggregations", {})
        buckets = {kind: found[kind]["days"]["buckets"] if kind in found else () for kind in kinds}
        return {kind: {str(b["key_as_string"]): int(b["doc_count"]) for b in own} for kind, own in buckets.items()}

    def stamps(
        self, name: str, query: Mapping[str, Any], field: str, zone: str, *, by_offset: bool = False
    ) -> Iterator[tuple[str, str, int, str]]:
        """Yield for each shop and day what tells whether its documents in the indices `name`* have changed.

        Every write of a document gives it a new sequence number; one that is removed is missing from the count.

        Arguments:
            name: Of the indices.
            query: Which documents.
            field: The date that puts them on days.
            zone: IANA name of the time zone of these days.
            by_offset: Whether a day is that of the document's own `utc_offset`, minutes, instead.

        Yields:
            Shop, day (ISO), minutes of the offset, and the stamp.

        Raises:
            Unavailable: No answer after all tries.
        """
        zones = self._offsets(name, query) if by_offset else {0: zone}
        for minutes, own_zone in zones.items():
            histogram = {"field": field, "calendar_interval": "day", "time_zone": own_zone, "format": "yyyy-MM-dd"}
            sources = [{"shop": {"terms": {"field": "shop_id"}}}, {"day": {"date_histogram": histogram}}]
            numbers = {"sum": {"sum": {"field": "_seq_no"}}, "max": {"max": {"field": "_seq_no"}}}
            of_offset = {"bool": {"filter": [query, _with_offset(minutes)]}} if by_offset else query
            for bucket in self._composite(name, of_offset, sources, numbers):
                key = bucket["key"]
                stamp = f"{bucket['doc_count']}:{bucket['sum']['value']:.0f}:{bucket['max']['value']:.0f}"
                yield str(key["shop"]), str(key["day"]), minutes, stamp

    def _offsets(self, name: str, query: Mapping[str, Any]) -> dict[int, str]:
        """The offsets from UTC that documents have, in minutes, each as a time zone."""
        sources = [{"offset": {"terms": {"field": "utc_offset", "missing_bucket": True}}}]
        found = {int(each["key"]["offset"] or 0) for each in self._composite(name, query, sources, {})}
        signs = {minutes: "-" if minutes < 0 else "+" for minutes in found}
        return {m: f"{sign}{abs(m) // 60:02d}:{abs(m) % 60:02d}" for m, sign in sorted(signs.items())}

    def _composite(
        self, name: str, query: Mapping[str, Any], sources: Sequence[Mapping[str, Any]], numbers: Mapping[str, Any]
    ) -> Iterator[Any]:
        """The buckets of a composite aggregation, page by page."""
        after: Any = None
        while True:
            composite = {"size": _BUCKETS, "sources": list(sources), **({"after": after} if after else {})}
            search = partial(
                self.client.search,
                index=self._own(name),
                size=0,
                query=dict(query),
                aggregations={"all": {"composite": composite, **({"aggs": dict(numbers)} if numbers else {})}},
                track_total_hits=False,
                allow_partial_search_results=False,
                ignore_unavailable=True,
                allow_no_indices=True,
            )
            found = self._call(search).get("aggregations", {}).get("all", {})
            yield from found.get("buckets", ())
            after = found.get("after_key")
            if after is None:
                return

    def newest(self, name: str, field: str, *, until: str) -> str | None:
        """The latest date of a field in an index, as ISO 8601, and at most a given one; None where there is none.

        Raises:
            NotSetUp: The index is not as it should be, or closed.
            Unavailable: No answer after all tries, or a shard gave none.
        """
        self._check_search(self.index(name))

        def read() -> str | None:
            found = _whole(
                self.client.search(
                    index=self.index(name),
                    query={"range": {field: {"lte": until}}},
                    sort=[{field: "desc"}],
                    source_includes=[field],
                    size=1,
                    track_total_hits=False,
                    allow_partial_search_results=False,
                )
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
        """Every document of the indices `name`* as search hits, from one point in time, in no order unless `sort`.

        Raises:
            NotSetUp: An index is not as it should be, or closed: what is searched for might be there and not be found.
            Unavailable: No answer after all tries, or a shard gave none.
        """
        own = self._own(name)
        self._check_search(own)
        yield from self._scan(own, query, fields, sort, size)

    def copy(self, source: str, target: str) -> int:
        """Copy the documents of one index to another, which keeps those that it has; says how many there are.

        Both are full names; neither is looked at. The numbers stay as they are only with `exact`.

        Raises:
            ServerRefuses: A document does not fit the other's mapping; those before it are copied.
            Unavailable: No answer after all tries.
        """
        self._call(lambda: _whole(self.client.indices.refresh(index=source)))
        count = 0
        for hits in chunks(self._scan(source), _COPIED_AT_ONCE):
            actions = [Action("create", target, hit["_id"], _ENCODER.encode(hit["_source"])) for hit in hits]
            for action, outcome in zip(actions, self._bulk(actions)):
                if outcome.refused:
                    raise ServerRefuses(f"{self._server}: {action.id} does not fit {target}: {outcome.error}")
            count += len(actions)
        return count

    def _scan(
        self,
        indices: str,
        query: Mapping[str, Any] | None = None,
        fields: Sequence[str] | None = None,
        sort: Sequence[str] = ("_shard_doc",),
        size: int = 1000,
    ) -> Iterator[Any]:
        pit = self._call(
            lambda: _whole(
                self.client.open_point_in_time(
                    index=indices,
                    keep_alive="2m",
                    ignore_unavailable=True,
                    expand_wildcards=["open", "hidden"],
                    allow_partial_search_results=False,
                )
            )
        )
        after: Any = None

        def page() -> Any:
            return _whole(
                self.client.search(
                    pit={"id": pit["id"], "keep_alive": "2m"},
                    query=dict(query or {"match_all": {}}),
                    sort=[{field: "asc"} for field in sort],
                    source_includes=list(fields) if fields else None,
                    size=size,
                    search_after=after,
                    track_total_hits=False,
                )
            )

        try:
            while True:
                hits = self._call(page)["hits"]["hits"]
                if not hits:
                    return
                yield from hits
                after = hits[-1]["sort"]
        finally:
            # It ends by itself in two minutes; what went wrong before must not be hidden.
            with suppress(ApiError, TransportError):
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
    reason = _reason(error) if isinstance(error, ApiError) else str(error)
    if _kind(error) is Kind.DENIED:
        return f"our user may not do this: {reason} (the privileges of the API key or user)"
    return None


def _kind(error: Exception) -> Kind | None:
    """What to do about an error of the client; None for one that no server has sent."""
    if isinstance(error, ItemFailed):
        return error.kind
    if not isinstance(error, ApiError):
        return None
    kind = kind_of(_error_of(error)) if _error_of(error) else None
    if kind in (Kind.DENIED, Kind.TRANSIENT):
        return kind
    if error.status_code in _TRANSIENT_STATUS:
        return Kind.TRANSIENT
    # A proxy's refusal has no type; an index that is blocked has one.
    blocked = "cluster_block_exception" in types_of(_error_of(error))
    return Kind.DENIED if isinstance(error, AuthorizationException) and not blocked else Kind.OUTAGE


def _error_of(error: ApiError) -> Mapping[str, Any]:
    """An error as Elasticsearch describes it; empty where the answer is somebody else's."""
    body = error.body if isinstance(error.body, dict) else {}
    told = body.get("error")
    return told if isinstance(told, dict) and told.get("type") else {}


def _reason(error: ApiError) -> str:
    body = error.body if isinstance(error.body, dict) else {}
    told = body.get("error") or {}
    # Where an API key was refused, what is wrong with it stands apart from the reason.
    key = told.get("additional_unsuccessful_credentials") if isinstance(told, dict) else None
    return str(key or (told.get("reason") if isinstance(told, dict) else told) or error.message)[:300]


def _words(error: Exception) -> str | None:
    """What Elasticsearch says of an error, in one line."""
    if isinstance(error, (UnsupportedProductError, SerializationError)):
        return "its answer is not Elasticsearch's (TRUEPIXEL_ELASTICSEARCH_URL)"
    if isinstance(error, ItemFailed):
        return str(error)
    if isinstance(error, ApiError):
        told = _error_of(error)
        return words_of(told) if told else f"HTTP {error.status_code}: {' '.join(_reason(error).split())}"
    return None


def _is_transient(error: Exception) -> bool:
    return isinstance(error, (NoConnection, ConnectionTimeout)) or _kind(error) is Kind.TRANSIENT


def _failed(error: Mapping[str, Any]) -> ItemFailed:
    """An item's error that concerns more than its own document."""
    kind = kind_of(error)
    return ItemFailed(kind if kind in (Kind.DENIED, Kind.TRANSIENT) else Kind.OUTAGE, words_of(error))


def _raise_worst(failed: Sequence[ItemFailed], what: str) -> None:
    """Raise the one of some failures that is least likely to pass by itself."""
    for kind in (Kind.DENIED, Kind.OUTAGE, Kind.TRANSIENT):
        if found := next((error for error in failed if error.kind is kind), None):
            raise ItemFailed(kind, f"{what}, such as {found}")


def _said(faults: Sequence[Fault]) -> str:
    """What is wrong, in one line, and what to do."""
    # What no setup puts right says more about what happened.
    first = min(faults, key=lambda fault: fault.repairable)
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return f"{first}{more}" + ("" if ":" in first.what else ": run `truepixel setup`")


def _whole(reply: Reply) -> Reply:
    """A reply to which every shard has contributed.

    Raises:
        ItemFailed: One has not, or not in time.
    """
    body: Any = reply
    if failure := failed_shards(body.body):
        raise _failed(failure)
    return reply


def _never_fits(item: Mapping[str, Any], action: Action) -> bool:
    return never_fits(item["status"], str(item["error"].get("reason")), len(action.source))


def _with_offset(minutes: int) -> Mapping[str, Any]:
    """The documents of an offset from UTC; one that says none has 0."""
    exact: Mapping[str, Any] = {"term": {"utc_offset": minutes}}
    missing = {"bool": {"must_not": {"exists": {"field": "utc_offset"}}}}
    return exact if minutes else {"bool": {"should": [exact, missing], "minimum_should_match": 1}}


def _halves(actions: Sequence[Action]) -> list[Sequence[Action]]:
    middle = len(actions) // 2
    return [actions[:middle], actions[middle:]]


def _parts(positions: Sequence[int], actions: Sequence[Action], largest: int = _PART_BYTES) -> list[list[int]]:
    size = sum(len(actions[position].source) for position in positions)
    count = max(_AT_ONCE if len(positions) >= _WORTH_PARTING else 1, -(-size // largest))
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


def _outcome(item: Mapping[str, Any]) -> Outcome | ItemFailed:
    error = item.get("error")
    if error is None:
        return Outcome(item["status"])
    kind = kind_of(error)
    if kind is Kind.CONFLICT:
        return Outcome(CONFLICT, words_of(error)[:500])
    return Outcome(item["status"], words_of(error)[:500]) if kind is Kind.POISON else _failed(error)
