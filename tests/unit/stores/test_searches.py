"""The bodies of searches, against a client that answers as Elasticsearch does."""

from types import SimpleNamespace
from typing import Any

import pytest

from truepixel_dagster.settings import Settings
from truepixel_dagster.stores.elasticsearch import ElasticsearchStore


class Reply(dict[str, Any]):
    """A reply of the client: a mapping with its body."""

    @property
    def body(self) -> dict[str, Any]:
        return self


@pytest.mark.parametrize(
    ("name", "field", "path"),
    [("attributions", "credits.last_click.campaign", "credits.last_click"), ("events-", "shop_id", None)],
)
def test_values_within_nested_objects_are_found(
    name: str, field: str, path: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def search(*, aggregations: dict[str, Any], **_: object) -> Reply:
        within = aggregations.get("within", {})
        values = within["aggs"] if path else aggregations
        # Without its path an aggregation finds nothing in nested objects.
        assert within.get("nested") == (path and {"path": path})
        assert values == {"values": {"terms": {"field": field, "size": 5}}}
        found = {"values": {"buckets": [{"key": "winter"}]}}
        return Reply(aggregations={"within": found} if path else found)

    store = ElasticsearchStore(Settings().elasticsearch())
    monkeypatch.setattr(store, "client", SimpleNamespace(search=search))
    monkeypatch.setattr(store, "_check_search", lambda _: None)
    assert store.most_common(name, field, 5) == ["winter"]
