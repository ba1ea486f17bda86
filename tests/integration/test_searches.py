"""Elasticsearch makes writes searchable when a search comes, and not every second."""

from __future__ import annotations

import time
from typing import Any

from truepixel_dagster.resources import Stores
from truepixel_dagster.stores.elasticsearch import Action

IDLE = "index.search.idle.after"


def idle_after(stores: Stores, index: str) -> Any:
    found = stores.elasticsearch.client.indices.get_settings(index=index, name=IDLE, flat_settings=True)
    return found[index]["settings"].get(IDLE)


def test_a_search_finds_writes_of_a_second_ago_without_an_earlier_search(stores: Stores) -> None:
    store = stores.elasticsearch
    index = store.index("events-2026.01")
    for number in range(3):
        assert not store.bulk([Action("create", index, f"s:{number}", b'{"shop_id":"s"}')])[0].error
        # Longer than an index stays active after a search or its creation.
        time.sleep(2.5)
        assert store.count("events-") == number + 1


def test_setup_sets_the_idle_time_of_existing_indices(stores: Stores) -> None:
    client, index = stores.elasticsearch.client, stores.elasticsearch.index("events-2026.01")
    client.indices.create(index=index, settings={IDLE: "30s"})
    template = stores.elasticsearch.index("events")
    client.indices.delete_index_template(name=template)
    assert "events" in stores.elasticsearch.setup()
    assert idle_after(stores, index) == "1s"
    assert stores.elasticsearch.setup() == []
