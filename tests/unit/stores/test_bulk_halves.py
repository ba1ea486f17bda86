"""A request that is too large is split in halves, down to the one rejected document."""

from __future__ import annotations

from contextlib import closing
from types import SimpleNamespace
from typing import Any

import pytest
from elasticsearch import ApiError

from truepixel_dagster.settings import Settings
from truepixel_dagster.stores.elasticsearch import Action, ElasticsearchStore, Outcome

LIMIT = 1_000
PRESSURE = "[coordinating_operation_bytes={size}, max_coordinating_bytes=1000]"


class Client:
    """Takes requests up to a size: a proxy's refusal of the whole, or Elasticsearch's of each item."""

    def __init__(self, *, by_item: bool) -> None:
        self.by_item = by_item
        self.sizes: list[int] = []

    def bulk(self, *, operations: bytes, **_: Any) -> Any:
        self.sizes.append(len(operations))
        count = operations.count(b'{"create"')
        if len(operations) <= LIMIT:
            return SimpleNamespace(body={"items": [{"create": {"status": 201}} for _ in range(count)]})
        if not self.by_item:
            raise ApiError("", meta=SimpleNamespace(status=413), body="<html>too large</html>")  # type: ignore[arg-type]
        error = {"type": "es_rejected_execution_exception", "reason": PRESSURE.format(size=len(operations))}
        return SimpleNamespace(body={"items": [{"create": {"status": 429, "error": error}} for _ in range(count)]})

    def close(self) -> None:
        """Nothing is open."""


@pytest.mark.parametrize("by_item", [False, True])
def test_a_request_that_is_too_large_goes_in_halves_and_one_document_alone_is_refused(by_item: bool) -> None:
    with closing(ElasticsearchStore(Settings().elasticsearch())) as store:
        store.client.close()
        store.client = client = Client(by_item=by_item)  # type: ignore[assignment]
        sizes = [10, 300, 20, 5_000, 300, 300, 10, 10]
        actions = [Action("create", "i", str(n), b"x" * size) for n, size in enumerate(sizes)]
        outcomes = store._bulk_once(actions)
        assert [o.status for o in outcomes if isinstance(o, Outcome)] == [201, 201, 201, 413, 201, 201, 201, 201]
        refused = outcomes[3]
        assert isinstance(refused, Outcome)
        assert refused.refused
        assert "too large" in (refused.error or "")
        # As few requests as halves need.
        assert len(client.sizes) <= 9
