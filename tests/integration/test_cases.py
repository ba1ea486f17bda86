"""Every case on the real servers: in one lane, in three that take turns, rebuilt, and after a loss."""

from __future__ import annotations

import random
from contextlib import ExitStack
from typing import Any

import pytest

from tests.cases import Case, Line, cases, mistakes
from tests.documents_page import COLLECTIONS, is_described, undescribed
from tests.integration.driving import drain, flush, one_batch, send
from truepixel_dagster.audit.audit import audit
from truepixel_dagster.pipeline.lane_claim import open_lane
from truepixel_dagster.rebuild import attributions, customers, product_stats
from truepixel_dagster.rebuild.context import rebuilding
from truepixel_dagster.resources import Stores
from truepixel_dagster.settings import Settings
from truepixel_dagster.stores.mongodb import AD_LEADS, CUSTOMERS, ORDERS

CASES = [case for case in cases() if not case.right.get("shops")]
LANES = 3


@pytest.fixture
def small(settings: Settings) -> Settings:
    """Micro-batches of few messages, so that related records are in several of them."""
    return settings.model_copy(update={"batch_messages": 20})


@pytest.mark.parametrize("seed", [1, 2])
def test_every_incident_is_right_in_whatever_order_its_records_arrive(
    small: Settings, stores: Stores, seed: int
) -> None:
    arranged = random.Random(seed)
    send_all(small, shuffled(CASES, arranged))
    take_turns(small, arranged) if seed % 2 else drain(small)
    assert_right(small, stores)
    assert_described(small, stores)

    days = days_of(stores)
    with rebuilding(small) as context:
        again = attributions.rebuild_days(context, days, attributions.rules_of(context))
        assert (again.changed, again.removed) == (0, 0)
        product_stats.rebuild_days(context, days)
    assert_right(small, stores)

    delete_half(stores)
    with rebuilding(small) as context:
        attributions.rebuild_days(context, days, attributions.rules_of(context))
        customers.rebuild_days(context, days)
        product_stats.rebuild_days(context, days)
    assert_right(small, stores)


def shuffled(chosen: list[Case], arranged: random.Random) -> list[Line]:
    """The lines of all cases in another order; the lines of one key stay in theirs, as Kafka keeps them."""
    queues: dict[bytes, list[Line]] = {}
    for line in (line for case in chosen for line in case.lines):
        queues.setdefault(line.key, []).append(line)
    found: list[Line] = []
    while queues:
        key = arranged.choice(list(queues))
        found.append(queues[key].pop(0))
        if not queues[key]:
            del queues[key]
    return found


def send_all(settings: Settings, lines: list[Line]) -> None:
    send(settings, [(line.key, line.value, line.headers) for line in lines])


def take_turns(settings: Settings, arranged: random.Random) -> None:
    """Three lanes at once, a micro-batch of one and then of another."""
    with ExitStack() as opened:
        lanes = [
            opened.enter_context(open_lane(settings, lane=lane, lanes=LANES, owner=f"lane-{lane}"))
            for lane in range(LANES)
        ]
        busy = list(lanes)
        while busy:
            lane = arranged.choice(busy)
            if not one_batch(lane):
                busy.remove(lane)
        for lane in lanes:
            lane.finish()


def delete_half(stores: Stores) -> None:
    """Delete all orders, all customers, and every other attribution."""
    for name in (ORDERS, CUSTOMERS):
        stores.mongodb.delete(name, {})
    for hit in list(stores.elasticsearch.scan("attributions"))[::2]:
        stores.elasticsearch.client.delete(index=hit["_index"], id=hit["_id"])
    stores.elasticsearch.refresh()


def days_of(stores: Stores) -> list[str]:
    stores.elasticsearch.refresh()
    of_events = stores.elasticsearch.days("events-", "occurred_at")
    return sorted({*of_events, *stores.elasticsearch.days("product-stats-", "day")})


def assert_right(settings: Settings, stores: Stores) -> None:
    found = all_mistakes(settings, stores)
    assert not found, "\n".join(found)


def assert_described(settings: Settings, stores: Stores) -> None:
    """Assert that docs/documents.md names every stored field and key; Elasticsearch's mappings are strict."""
    found = {
        f"{name}: {field}"
        for name in COLLECTIONS
        for document in stores.mongodb.collection(name).find()
        for field in undescribed(name, document)
    }
    keys = [key.removeprefix(f"{settings.namespace}:") for key, _ in stores.redis.texts()]
    assert keys
    assert found.union(key for key in keys if not is_described(key)) == set()


def all_mistakes(settings: Settings, stores: Stores) -> list[str]:
    """Return the differences of the stores from the cases and from the oracle."""
    flush(stores)
    stores.elasticsearch.refresh()
    actual = {
        "attributions": documents(stores, "attributions"),
        "product_stats": documents(stores, "product-stats-"),
        "weekly_visitors": {id_: doc["visitors"] for id_, doc in documents(stores, "weekly-visitors").items()},
        "events": documents(stores, "events-"),
        "customers": {doc["_id"]: doc for doc in stores.mongodb.collection(CUSTOMERS).find()},
        "touches": {
            doc["_id"]: [touch["event_id"] for touch in doc.get("touches", ())]
            for doc in stores.mongodb.collection(AD_LEADS).find()
        },
    }
    found = [f"{case.name}: {said}" for case in CASES for said in mistakes(case.right, of_case(case, actual))]
    return [*found, *(str(difference) for difference in audit(settings).differences)]


def documents(stores: Stores, name: str) -> dict[str, Any]:
    return {hit["_id"]: hit["_source"] for hit in stores.elasticsearch.scan(name)}


def of_case(case: Case, actual: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The documents of the shops of one case."""
    shops = {line.key.partition(b":")[0].decode() for line in case.lines}
    return {
        store: {id_: doc for id_, doc in docs.items() if id_.partition(":")[0] in shops}
        for store, docs in actual.items()
    }
