"""States that a topic can be in: offsets without a record, records that retention removed, offsets set back."""

from __future__ import annotations

import os
import time
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    ResourceType,
)

from tests.integration.driving import audited, drain, flush, one_batch, record, send
from truepixel_dagster.audit.account import account
from truepixel_dagster.audit.audit import audit
from truepixel_dagster.audit.scope import moved_users
from truepixel_dagster.pipeline.lane_claim import open_lane
from truepixel_dagster.resources import Stores
from truepixel_dagster.settings import Settings
from truepixel_dagster.source_log import PartitionChange, known, lost_records, verified
from truepixel_dagster.stores.mongodb import CUSTOMERS
from truepixel_dagster.stream import reading, topics
from truepixel_dagster.stream.client_config import client_config

AT = "2026-02-03T10:00:00.000Z"


def view(number: int, client: str = "c1", **more: Any) -> tuple[bytes, bytes, Any]:
    url = f"https://s.example/?utm_source=google&utm_campaign=k{number}"
    payload = {
        "id": f"e{number}",
        "name": "page_viewed",
        "clientId": client,
        "timestamp": AT,
        "context": {"document": {"location": {"href": url}}},
        **more,
    }
    return record(f"s1:{client}", payload, source="pixel")


def lag_of(settings: Settings) -> int:
    return sum(entry.lag for entry in topics.lag(settings.kafka()))


class Transactions:
    """A transactional producer on the topic of events."""

    def __init__(self, settings: Settings) -> None:
        self._topic = settings.topic
        self._producer = Producer({**client_config(settings.kafka()), "transactional.id": f"{settings.namespace}.shop"})
        self._producer.init_transactions(30)

    def begin(self, records: list[tuple[bytes, bytes, Any]]) -> None:
        self._producer.begin_transaction()
        for key, value, headers in records:
            self._producer.produce(self._topic, value, key, headers=list(headers))
        self._producer.flush(30)

    def commit(self, records: list[tuple[bytes, bytes, Any]]) -> None:
        self.begin(records)
        self._producer.commit_transaction(30)

    def abort(self, records: list[tuple[bytes, bytes, Any]]) -> None:
        self.begin(records)
        self._producer.abort_transaction(30)


def remove_before(settings: Settings, offsets: dict[int, int]) -> None:
    topics.delete_before(settings.kafka(), settings.topic, offsets)


def clients(stores: Stores) -> dict[str, int]:
    return {doc["client_id"]: doc["events"] for doc in stores.mongodb.collection(CUSTOMERS).find()}


def test_markers_and_aborted_records_are_committed_over_and_leave_no_lag(settings: Settings, stores: Stores) -> None:
    shop = Transactions(settings)
    shop.commit([view(number, f"c{number}") for number in range(6)])
    shop.abort([view(number, f"c{number}") for number in range(6, 12)])
    drain(settings)
    assert lag_of(settings) == 0
    assert clients(stores) == {f"c{number}": 1 for number in range(6)}
    assert audited(settings, stores).records == 6
    found = account(settings)
    assert (found.produced, found.indexed, found.lag, found.lost) == (6, 6, 0, [])


def test_aborted_records_alone_soon_cause_no_lag(settings: Settings, stores: Stores) -> None:
    Transactions(settings).abort([view(number, f"c{number}") for number in range(6)])
    (metrics,) = drain(settings)
    assert (metrics.messages, metrics.waiting, metrics.contiguity.violations) == (0, 0, 0)
    assert lag_of(settings) == 0
    assert clients(stores) == {}


def test_an_open_transaction_is_no_lag_and_is_read_once_it_is_committed(settings: Settings, stores: Stores) -> None:
    send(settings, [view(1)])
    shop = Transactions(settings)
    shop.begin([view(2)])
    assert lag_of(settings) == 1
    drain(settings)
    assert (lag_of(settings), clients(stores)) == (0, {"c1": 1})
    shop._producer.commit_transaction(30)
    drain(settings)
    assert (lag_of(settings), clients(stores)) == (0, {"c1": 2})
    audited(settings, stores)


def test_markers_are_not_committed_over_while_something_before_them_is_incomplete(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    Transactions(settings).commit([view(1)])
    with open_lane(settings, lane=0, lanes=1, owner="a") as lane:
        batch = lane.fetch()
        assert batch is not None
        monkeypatch.setattr(lane._pool, "drain", lambda: None)
        lane.finish()
    assert {entry.committed for entry in topics.lag(settings.kafka())} == {None}


def test_a_compacted_topic_is_read_to_its_end(settings: Settings, stores: Stores) -> None:
    configure(
        settings,
        {
            "cleanup.policy": "compact",
            "segment.ms": "100",
            "min.cleanable.dirty.ratio": "0.01",
            "max.compaction.lag.ms": "100",
        },
    )
    for number in range(5):
        send(settings, [view(number)])
        time.sleep(0.2)
    drain(settings)
    assert lag_of(settings) == 0
    # Only the newest record of a key stays, and the segment that is written to.
    for number in range(5, 12):
        send(settings, [view(number)])
        time.sleep(0.2)
    until = time.monotonic() + 60
    while account_of_records(settings) >= 12 and time.monotonic() < until:
        time.sleep(1)
    drain(settings)
    assert lag_of(settings) == 0


def configure(settings: Settings, config: dict[str, str]) -> None:
    admin = AdminClient(client_config(settings.kafka()))
    entries = [ConfigEntry(k, v, incremental_operation=AlterConfigOpType.SET) for k, v in config.items()]
    resource = ConfigResource(ResourceType.TOPIC, settings.topic, incremental_configs=entries)
    for future in admin.incremental_alter_configs([resource]).values():
        future.result()


def account_of_records(settings: Settings) -> int:
    return sum(1 for _ in reading.read_all(settings.kafka()))


# --- Retention ---


def test_what_retention_removed_before_a_run_is_kept_with_its_ranges(settings: Settings, stores: Stores) -> None:
    send(settings, [view(number) for number in range(4)])
    (entry,) = [entry for entry in topics.lag(settings.kafka()) if entry.high]
    drain(settings)
    send(settings, [view(number) for number in range(4, 9)])
    remove_before(settings, {entry.partition: 7})
    assert sum(entry.lost for entry in topics.lag(settings.kafka())) == 3
    (metrics,) = drain(settings)
    assert (metrics.messages, metrics.lost) == (2, {entry.partition: 3})
    (lost,) = lost_records(stores.mongodb)
    assert (lost.partition, lost.first, lost.last, str(lost)) == (
        entry.partition,
        4,
        6,
        f"partition {entry.partition}: 4..6",
    )
    assert sum(entry.lost for entry in topics.lag(settings.kafka())) == 0
    found = audited(settings, stores)
    assert (found.lost_to_retention, found.lost_ranges) == (3, [f"partition {entry.partition}: 4..6"])


def test_retention_that_removes_all_that_waits_is_counted_and_committed_over(
    settings: Settings, stores: Stores
) -> None:
    send(settings, [view(number) for number in range(4)])
    drain(settings)
    send(settings, [view(number) for number in range(4, 9)])
    (entry,) = [entry for entry in topics.lag(settings.kafka()) if entry.high]
    remove_before(settings, {entry.partition: 9})
    assert (lag_of(settings), sum(each.lost for each in topics.lag(settings.kafka()))) == (0, 5)
    drain(settings)
    assert sum(each.lost for each in topics.lag(settings.kafka())) == 0
    assert [(each.first, each.last) for each in lost_records(stores.mongodb)] == [(4, 8)]


def test_retention_that_overtakes_a_run_is_counted_and_the_rest_is_read(settings: Settings, stores: Stores) -> None:
    big = settings.model_copy(update={"batch_messages": 2, "prefetch_bytes": 1024 * 1024})
    # More than the client fetches ahead.
    send(settings, [view(number, note=os.urandom(200_000).hex()) for number in range(30)])
    (entry,) = [entry for entry in topics.lag(settings.kafka()) if entry.high]
    with open_lane(big, lane=0, lanes=1, owner="a") as lane:
        assert one_batch(lane)
        remove_before(settings, {entry.partition: 25})
        while one_batch(lane):
            pass
        metrics = lane.finish()
    (lost,) = lost_records(stores.mongodb)
    assert (lost.last, metrics.lost) == (24, {entry.partition: lost.last - lost.first + 1})
    assert metrics.messages == 30 - metrics.lost[entry.partition]
    assert clients(stores) == {"c1": metrics.messages}
    assert lag_of(settings) == 0
    found = audited(settings, stores)
    assert found.lost_to_retention == metrics.lost[entry.partition]


# --- Partitions added ---


def add_partitions(settings: Settings, count: int) -> None:
    admin = AdminClient(client_config(settings.kafka()))
    for future in admin.create_partitions([NewPartitions(settings.topic, count)]).values():
        future.result()
    until = time.monotonic() + 30
    while topics.partition_count(settings.kafka()) < count and time.monotonic() < until:
        time.sleep(0.1)


def shopping(first: int, users: int = 24) -> list[tuple[bytes, bytes, Any]]:
    """Two ads and an order of each user."""
    found = [view(number, f"u{number % users}") for number in range(first, first + 2 * users)]
    for number in range(first, first + users):
        client = f"u{number % users}"
        checkout = {
            "token": f"t{number}",
            "currencyCode": "EUR",
            "totalPrice": {"amount": 5.0, "currencyCode": "EUR"},
            "lineItems": [{"quantity": 1, "variant": {"price": {"amount": 5.0}, "product": {"id": "p1"}}}],
        }
        payload = {
            "id": f"o{number}",
            "name": "checkout_completed",
            "clientId": client,
            "timestamp": AT,
            "data": {"checkout": checkout},
            "context": {"document": {"location": {"href": "https://s.example/"}}},
        }
        found.append(record(f"s1:{client}", payload, source="pixel"))
    return found


def test_partitions_added_excuse_the_order_of_moved_users_and_nothing_else(settings: Settings, stores: Stores) -> None:
    send(settings, shopping(0))
    drain(settings)
    add_partitions(settings, 6)
    # The check of the topic by a tick of the sensor.
    verified(settings.kafka(), stores)
    send(settings, shopping(1000))
    # The new partitions first, so that their newer records reach the stages before older ones of the others.
    with open_lane(settings, lane=1, lanes=2, owner="a") as lane:
        while one_batch(lane):
            pass
        lane.finish()
    drain(settings)
    flush(stores)
    found = audit(settings)
    assert [str(difference) for difference in found.differences] == []
    assert found.not_judged == 0
    moved = moved_users_of(stores, settings)
    assert 0 < len(moved) < 24
    assert all(
        any(user.split(":")[1] in str(each) or each.store == "attributions" for user in moved) for each in found.excused
    )
    # A difference that does not depend on the order is not excused, and none of a user who has not moved.
    stayed = next(f"s1:u{number}" for number in range(24) if f"s1:u{number}" not in moved)
    customers = stores.mongodb.collection(CUSTOMERS)
    customers.update_one({"_id": sorted(moved)[0]}, {"$inc": {"events": 1}})
    customers.update_one({"_id": stayed}, {"$set": {"last_ad.campaign": "other"}})
    customers.update_one({"_id": sorted(moved)[1]}, {"$set": {"last_ad.campaign": "other"}})
    again = audit(settings)
    assert sorted((each.id, each.path) for each in again.differences) == sorted(
        [(sorted(moved)[0], "events"), (stayed, "last_ad.campaign")]
    )
    assert (sorted(moved)[1], "last_ad.campaign") in {(each.id, each.path) for each in again.excused}


def moved_users_of(stores: Stores, settings: Settings) -> frozenset[str]:
    stores.elasticsearch.refresh()
    events = {hit["_id"]: hit["_source"] for hit in stores.elasticsearch.scan("events-")}
    kept = known(stores.mongodb)
    assert kept is not None
    return moved_users(events, kept.changes)


def test_a_user_who_continues_in_two_partitions_is_not_excused() -> None:
    def event(client: str, partition: int, offset: int) -> dict[str, Any]:
        return {"shop_id": "s", "client_id": client, "kafka": {"partition": partition, "offset": offset}}

    changes = [PartitionChange(3, 0, {"0": 0, "1": 0, "2": 0}), PartitionChange(6, 1, {"0": 10, "1": 10, "2": 10})]
    events = {
        "moved-1": event("moved", 0, 9),
        "moved-2": event("moved", 4, 0),
        "spread-1": event("spread", 0, 9),
        "spread-2": event("spread", 1, 10),
        "spread-3": event("spread", 2, 12),
        "stayed": event("stayed", 1, 12),
    }
    assert moved_users(events, changes) == {"s:moved"}
    assert moved_users(events, changes[:1]) == frozenset()


def test_partitions_that_are_added_under_a_run_are_the_next_runs(settings: Settings, stores: Stores) -> None:
    send(settings, shopping(0))
    small = settings.model_copy(update={"batch_messages": 10})
    with open_lane(small, lane=0, lanes=1, owner="a") as lane:
        assert one_batch(lane)
        add_partitions(settings, 6)
        send(settings, shopping(1000))
        lane._watch._looked_at = float("-inf")
        while one_batch(lane):
            pass
        # The run ended though messages wait: the next run has all partitions.
        assert lane.finish().waiting > 0
    drain(settings)
    assert lag_of(settings) == 0
    assert clients(stores) == {f"u{number}": 6 for number in range(24)}
