"""Compute stamps, which show whether the documents of a shop's day have changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from truepixel_dagster.stores.elasticsearch.searches import Searches

_BUCKETS = 5000


class Stamps(Searches):
    """Compute the stamps of documents. See `Connection` for the arguments."""

    def stamps(
        self, name: str, query: Mapping[str, Any], field: str, zone: str, *, by_offset: bool = False
    ) -> Iterator[tuple[str, str, int, str]]:
        """Yield for each shop and day a stamp of its documents in the indices `name`*.

        Each write gives a document a new sequence number, which changes the sums; a removal changes the count.

        Arguments:
            name: The prefix of the indices.
            query: Selects the documents.
            field: The date field that decides their day.
            zone: IANA name of the days' time zone.
            by_offset: Whether the document's own `utc_offset`, in minutes, decides its day instead.

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
        """Return the documents' offsets from UTC in minutes, each with its time zone."""
        sources = [{"offset": {"terms": {"field": "utc_offset", "missing_bucket": True}}}]
        found = {int(each["key"]["offset"] or 0) for each in self._composite(name, query, sources, {})}
        signs = {minutes: "-" if minutes < 0 else "+" for minutes in found}
        return {m: f"{sign}{abs(m) // 60:02d}:{abs(m) % 60:02d}" for m, sign in sorted(signs.items())}

    def _composite(
        self, name: str, query: Mapping[str, Any], sources: Sequence[Mapping[str, Any]], numbers: Mapping[str, Any]
    ) -> Iterator[Any]:
        """Yield the buckets of a composite aggregation, page by page."""
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


def _with_offset(minutes: int) -> Mapping[str, Any]:
    """Return the query for documents with an offset from UTC; a missing offset counts as 0."""
    exact: Mapping[str, Any] = {"term": {"utc_offset": minutes}}
    missing = {"bool": {"must_not": {"exists": {"field": "utc_offset"}}}}
    return exact if minutes else {"bool": {"should": [exact, missing], "minimum_should_match": 1}}
