"""Guards between workers: one that has lost its lane neither writes nor commits, and two writers lose no update."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest
import redis

from tests.integration.driving import audited, committed, drain, one_batch, record, send
from tests.integration.test_pipeline import completed, pixel
from truepixel_dagster.events.origin import Origin
from truepixel_dagster.events.shop_time import ShopDays
from truepixel_dagster.local.traffic import FIRST, traffic
from truepixel_dagster.pipeline.lane_claim import open_lane
from truepixel_dagster.pipeline.lane_guard import LaneStopped
from truepixel_dagster.pipeline.runner import LaneRunner
from truepixel_dagster.resources import Stores, open_stores
from truepixel_dagster.settings import Settings
from truepixel_dagster.stages import ad_lead, attribution, customer
from truepixel_dagster.stages.settling import rules_of, settling
from truepixel_dagster.stores.errors import Unavailable
from truepixel_dagster.stores.mongodb import AD_LEADS, CUSTOMERS
from truepixel_dagster.stores.redis.leases import LaneBusy, LaneLost, Lease, lapsed

LEASE_SECONDS = 3.0


@pytest.fixture
def short(settings: Settings) -> Settings:
    """Settings of a short lease and small micro-batches, with traffic waiting."""
    send(settings, ((entry.key, entry.value, entry.headers) for entry in traffic(1500, seed=4, shops=3, profile=FIRST)))
    return settings.model_copy(update={"lease": LEASE_SECONDS, "batch_messages": 256})


@contextmanager
def a_lane(settings: Settings, owner: str) -> Iterator[LaneRunner]:
    with open_lane(settings, lane=0, lanes=1, owner=owner) as lane:
        yield lane


def freeze(lane: LaneRunner) -> None:
    """As SIGSTOP does: no heartbeat any more, while the clock continues."""
    lane._lease._stop.set()
    time.sleep(LEASE_SECONDS + 0.3)


def test_a_second_worker_learns_who_has_the_lane(short: Settings) -> None:
    with a_lane(short, "first"), pytest.raises(LaneBusy, match="held by run first"), a_lane(short, "second"):
        pass


def test_an_expired_lease_is_distinguished_from_one_that_was_given_back(short: Settings, stores: Stores) -> None:
    where = stores.redis.client, short.namespace, [0, 1, 2]
    with a_lane(short, "ended"):
        assert lapsed(*where) == frozenset()
    assert lapsed(*where) == frozenset()
    with a_lane(short, "frozen") as frozen:
        freeze(frozen)
        assert lapsed(*where) == {"frozen"}
        with a_lane(short, "next"):
            assert lapsed(*where) == frozenset()
    assert lapsed(*where) == frozenset()


def test_a_worker_suspended_beyond_its_lease_commits_nothing_more(short: Settings, stores: Stores) -> None:
    with a_lane(short, "frozen") as frozen:
        batch = frozen.fetch()
        assert batch is not None
        done = frozen.attribution(frozen.ad_lead(frozen.index(batch)))
        frozen.customer(done)
        frozen.product_stats(done)
        frozen._pool.drain()
        freeze(frozen)
        drain(short)
        after = committed(short)
        assert sum(after.values()) == 1500
        with pytest.raises(LaneLost):
            frozen.commit(batch)
        with pytest.raises(LaneStopped):
            frozen.finish()
        assert committed(short) == after
    audited(short, stores)


def test_a_worker_suspended_in_the_middle_of_a_stage_writes_nothing_more(
    short: Settings, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    decide, asleep = ad_lead.decide, threading.Event()

    def sleepy(*arguments: Any, **named: Any) -> Any:
        decided = decide(*arguments, **named)
        if threading.current_thread() is threading.main_thread() and not asleep.is_set():
            asleep.set()
            freeze(frozen)
        return decided

    monkeypatch.setattr(ad_lead, "decide", sleepy)
    with a_lane(short, "frozen") as frozen:
        batch = frozen.fetch()
        assert batch is not None
        known = frozen.index(batch)
        # It resumes between its read and its write: no other worker has changed these documents meanwhile.
        with pytest.raises(LaneLost):
            frozen.ad_lead(known)
        assert stores.mongodb.count("ad_leads") == 0
    drain(short)
    audited(short, stores)


def test_a_background_write_of_a_worker_that_lost_its_lane_is_not_made(
    short: Settings, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply, asleep = customer.apply, threading.Lock()

    def sleepy(*arguments: Any) -> Any:
        if asleep.acquire(blocking=False):
            freeze(frozen)
        return apply(*arguments)

    monkeypatch.setattr(customer, "apply", sleepy)
    with a_lane(short.model_copy(update={"pool_workers": 1}), "frozen") as frozen:
        batch = frozen.fetch()
        assert batch is not None
        done = frozen.attribution(frozen.ad_lead(frozen.index(batch)))
        frozen.customer(done)
        with pytest.raises(LaneLost):
            frozen._pool.drain()
        assert stores.mongodb.count(CUSTOMERS) == 0
    drain(short)
    audited(short, stores)


def test_a_lane_that_another_worker_took_is_noticed_before_the_commit_even_with_time_left(short: Settings) -> None:
    long = short.model_copy(update={"lease": 600.0})
    with a_lane(long, "first") as first:
        one = first.fetch()
        assert one is not None
        first._lease._client.delete(*first._lease._keys)  # as a Redis that lost its data
        with a_lane(long, "second"), pytest.raises(LaneLost, match="run second"):
            first._lease.confirm()


def work_off(lane: LaneRunner) -> None:
    while one_batch(lane):
        pass
    lane.finish()


def test_a_failed_background_write_holds_back_the_commit_and_is_the_reason_that_is_given(
    short: Settings, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    reason = Unavailable("MongoDB at nowhere: the reason")

    def failing(*arguments: Any) -> Any:
        raise reason

    with a_lane(short, "test") as lane:
        one_batch(lane)
        lane._pool.drain()
        lane._commits.commit()
        before = committed(short)
        with monkeypatch.context() as patched:
            patched.setattr(customer, "apply", failing)
            with pytest.raises(Unavailable, match="the reason"):
                work_off(lane)
        assert committed(short) == before
    drain(short)
    audited(short, stores)


def test_two_writers_of_a_document_lose_no_update(settings: Settings, stores: Stores) -> None:
    def one_more(stored: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        return {
            "shop:client": {
                **stored.get("shop:client", {}),
                "events": stored.get("shop:client", {}).get("events", 0) + 1,
            }
        }

    with open_stores(settings) as others:
        met: list[int] = []

        def interrupted(stored: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
            if len(met) < 2:  # at the creation, and at a replacement
                met.append(1)
                others.mongodb.update(CUSTOMERS, ["shop:client"], one_more)
            return one_more(stored)

        stores.mongodb.update(CUSTOMERS, ["shop:client"], interrupted)
    assert stores.mongodb.read(CUSTOMERS, ["shop:client"])["shop:client"]["events"] == 3


def test_a_document_changed_after_the_read_ahead_is_read_again(settings: Settings, stores: Stores) -> None:
    """Touches and an order that another worker writes between a micro-batch's read and its stages 2 and 3."""
    send(settings, [record("s:c", pixel("touch", query="?gclid=g-1")), record("s:c", completed("order"))])
    theirs = {"event_id": "theirs", "at": "2026-01-01T00:00:00.000Z", "ad": {"platform": "x"}}
    with open_lane(settings, lane=0, lanes=1, owner="test") as lane:
        batch = lane.fetch()
        assert batch is not None
        known = lane.index(batch)
        read = known.prefetched.result()
        assert read.leads == {}
        assert read.orders == ({"s:tok": None}, {})
        partition = batch.events[0].origin.partition
        touch = {**theirs, "partition": partition, "offset": -1}
        stores.mongodb.update(AD_LEADS, ["s:c"], lambda _: {"s:c": {"touches": [touch]}})
        other = msgspec.structs.replace(batch.events[1], origin=Origin("elsewhere", 9, 9), event_id="other")
        by = settling(rules_of(settings), {}, ShopDays(), lambda _partition, _offset: False)
        attribution.run([other], by, stores.mongodb, stores.elasticsearch)
        done = lane.attribution(lane.ad_lead(known))
        assert done.changes == {}
    (lead,) = stores.mongodb.read(AD_LEADS, ["s:c"]).values()
    assert [each["event_id"] for each in lead["touches"]] == ["theirs", "touch"]
    (document,) = attribution.read(batch.events, stores.mongodb, stores.elasticsearch).attributions.values()
    assert document is not None
    assert [each["event_id"] for each in document.source["sightings"]] == ["order", "other"]


def test_an_unreachable_redis_is_one_line_when_a_lane_is_claimed(settings: Settings) -> None:
    away = redis.Redis(port=1, retry=None)  # type: ignore[arg-type]
    with pytest.raises(Unavailable, match=r"^Redis at localhost:1 \(TRUEPIXEL_REDIS_URL\): ConnectionError"):
        Lease(away, settings.namespace, [0], "test", 10).acquire()
