"""Search, count and scan the pipeline's indices."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from elasticsearch import ApiError, TransportError

from truepixel_dagster.access import ElasticsearchAccess
from truepixel_dagster.stores.elasticsearch.connection import whole
from truepixel_dagster.stores.elasticsearch.indices import Indices
from truepixel_dagster.stores.index_templates import MADE_BY_SETUP, Fault, is_closed, nested_path

# How long searches may rely on their last check of the indices, in seconds.
_KNOWN_SECONDS = 1.0
_KEPT_ALIVE = "2m"


class Searches(Indices):
    """Search the pipeline's indices. See `Connection` for the arguments."""

    def __init__(self, access: ElasticsearchAccess, *, exact: bool = False) -> None:
        super().__init__(access, exact=exact)
        self._searched: dict[str, float] = {}

    def count(self, name: str, query: Mapping[str, Any] | None = None) -> int:
        """Count the documents of the indices `name`* that a query finds, all by default; the caller refreshes first.

        Raises:
            NotSetUp: An index is not as it should be, or closed.
            Unavailable: No answer after all tries, or a shard gave none.
        """
        own, count = self._own(name), self.client.count
        self._check_search(own)
        ours: Any = {"index": own, "query": query, "ignore_unavailable": True, "allow_no_indices": True}
        return int(self._call(lambda: whole(count(**ours)))["count"])

    def most_common(self, name: str, field: str, size: int) -> list[str]:
        """Return the most common values of a field in the indices `name`*, the most frequent first.

        Raises:
            NotSetUp: An index is not as it should be, or closed.
            Unavailable: No answer after all tries, or a shard gave none.
        """
        by_value: dict[str, Any] = {"values": {"terms": {"field": field, "size": size}}}
        if path := nested_path(name.rstrip("-"), field):
            by_value = {"within": {"nested": {"path": path}, "aggs": by_value}}
        own = self._own(name)
        self._check_search(own)
        found = self._call(
            lambda: whole(
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
        values = found.get("aggregations", {})
        values = values.get("within", values).get("values", {})
        return [str(bucket["key"]) for bucket in values.get("buckets", ())]

    def days(self, name: str, field: str) -> list[str]:
        """Return the days (UTC, ISO) of a date field in the indices `name`*, in order.

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
        """Return how many documents of the indices `name`* a query finds, by the day (UTC) of `occurred_at`.

        Arguments:
            name: The prefix of the indices.
            query: Selects the documents.
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

    def newest(self, name: str, field: str, *, until: str) -> str | None:
        """Return the latest date of a field in an index up to a given date, as ISO 8601; None if there is none.

        Raises:
            NotSetUp: The index is not as it should be, or closed.
            Unavailable: No answer after all tries, or a shard gave none.
        """
        self._check_search(self.index(name))

        def read() -> str | None:
            found = whole(
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
        keep_alive: str = _KEPT_ALIVE,
    ) -> Iterator[Any]:
        """Yield all documents of the indices `name`* as search hits, from one point in time; unordered without `sort`.

        A page of hits must be consumed within `keep_alive`.

        Raises:
            NotSetUp: An index is not as it should be, or closed: a search might miss existing documents.
            Unavailable: No answer after all tries, or a shard gave none.
        """
        own = self._own(name)
        self._check_search(own)
        yield from self._scan(own, query, fields, sort, size, keep_alive)

    def _scan(
        self,
        indices: str,
        query: Mapping[str, Any] | None = None,
        fields: Sequence[str] | None = None,
        sort: Sequence[str] = ("_shard_doc",),
        size: int = 1000,
        keep_alive: str = _KEPT_ALIVE,
    ) -> Iterator[Any]:
        pit = self._call(
            lambda: whole(
                self.client.open_point_in_time(
                    index=indices,
                    keep_alive=keep_alive,
                    ignore_unavailable=True,
                    expand_wildcards=["open", "hidden"],
                    allow_partial_search_results=False,
                )
            )
        )

        def page(after: Any) -> Any:
            found = self.client.search(
                pit={"id": pit["id"], "keep_alive": keep_alive},
                query=dict(query or {"match_all": {}}),
                sort=[{field: "asc"} for field in sort],
                source_includes=list(fields) if fields else None,
                size=size,
                search_after=after,
                track_total_hits=False,
            )
            return whole(found)["hits"]["hits"]

        def read(after: Any) -> Any:
            return self._call(lambda: page(after))

        try:
            # Elasticsearch collects the next page while the caller uses this one.
            with ThreadPoolExecutor(1, thread_name_prefix="scan") as reader:
                hits = read(None)
                while hits:
                    following = reader.submit(read, hits[-1]["sort"]) if len(hits) == size else None
                    yield from hits
                    hits = following.result() if following else []
        finally:
            # It also ends by itself; an error here must not hide an earlier one.
            with suppress(ApiError, TransportError):
                self.client.close_point_in_time(id=pit["id"])

    def _check_search(self, indices: str) -> None:
        """Check the indices: a search of a closed index, or of wrongly indexed fields, misses existing documents."""
        if time.monotonic() - self._searched.get(indices, float("-inf")) < _KNOWN_SECONDS:
            return
        described = self._described(indices)
        found = self._faults_of(described)
        missing = set(map(self.index, MADE_BY_SETUP)) & set(indices.split(",")) - described.keys()
        found += [Fault(f"index {index}", "is missing", repairable=True) for index in missing]
        for index, there in described.items():
            if is_closed(there):
                what = f"is closed, so that no search finds its documents: open it (POST {index}/_open)"
                found.append(Fault(f"index {index}", what, repairable=False))
        self._raise(found)
        self._searched[indices] = time.monotonic()
