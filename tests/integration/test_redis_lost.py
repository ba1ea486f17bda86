"""Redis that lost its data, all or some: noticed before anything is written or committed, and rebuilt exactly."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
import redis

from tests.integration.driving import audited, committed, drain, flush, one_batch, record, send
from tests.integration.test_cli import truepixel
from tests.integration.test_dead_letters import accept, refuse
from tests.integration.test_pipeline import pixel
from truepixel_dagster.audit.audit import audit
from truepixel_dagster.dead_letters.reprocess import replay as replay_letters
from truepixel_dagster.local.traffic import FIRST, traffic
from truepixel_dagster.pipeline.lane_claim import open_lane
from truepixel_dagster.pipeline.lane_guard import LaneStopped
from truepixel_dagster.pipeline.runner import LaneRunner
from truepixel_dagster.rebuild import weekly_visitors
from truepixel_dagster.rebuild.context import rebuilding
from truepixel_dagster.rebuild.redis import restore
from truepixel_dagster.resources import Stores, open_stores
from truepixel_dagster.settings import Settings
from truepixel_dagster.stores.epoch import StateLost
from truepixel_dagster.stores.mongodb import AD_LEADS, CUSTOMERS
from truepixel_dagster.stores.redis.leases import LaneLost


@pytest.fixture
def busy(settings: Settings) -> Settings:
    """Settings of small micro-batches, with traffic waiting."""
    send(settings, ((entry.key, entry.value, entry.headers) for entry in traffic(700, seed=9, shops=3, profile=FIRST)))
    return settings.model_copy(update={"batch_messages": 256})


def keys(settings: Settings, stores: Stores) -> list[str]:
    return list(stores.redis.client.scan_iter(f"{settings.namespace}:*"))


def emptied(settings: Settings, stores: Stores) -> None:
    """Empty Redis as FLUSHALL does, but only this test's namespace."""
    found = keys(settings, stores)
    assert found
    stores.redis.client.delete(*found)


def copied(settings: Settings, stores: Stores) -> Callable[[], None]:
    """Copy the contents of Redis; the returned function replaces the later contents by that copy."""
    client = stores.redis.client
    where = client.connection_pool.connection_kwargs
    raw = redis.Redis(where["host"], where["port"])  # dumps are no text
    dumps = {key: raw.dump(key) for key in keys(settings, stores) if ":lease:" not in key}

    def put_back() -> None:
        client.delete(*keys(settings, stores))
        for key, value in dumps.items():
            assert value is not None
            raw.restore(key, 0, value)

    return put_back


def product_stats(stores: Stores) -> dict[str, Any]:
    stores.elasticsearch.refresh()
    return {hit["_id"]: hit["_source"] for hit in stores.elasticsearch.scan("product-stats-")}


@contextmanager
def noticed(said: str = "lost its data") -> Iterator[None]:
    with pytest.raises(StateLost, match=re.escape(said)) as caught:
        yield
    line = str(caught.value)
    assert "\n" not in line
    assert "`truepixel restore-redis`" in line


def test_the_first_start_of_an_installation_without_an_epoch_raises_no_alarm(busy: Settings, stores: Stores) -> None:
    drain(busy)
    # An earlier version left no epoch anywhere.
    stores.redis.client.delete(f"{busy.namespace}:identity")
    stores.mongodb.delete("identities", {})
    with rebuilding(busy):
        pass
    send(busy, [record("s:c", pixel("late"))])
    drain(busy)
    with open_stores(busy) as again:
        audited(busy, again)


def test_two_that_start_at_once_without_an_epoch_agree_on_one(settings: Settings) -> None:
    with open_stores(settings) as one, open_stores(settings) as other:
        assert one.redis.expected_epoch().value
        assert one.redis.expected_epoch() == other.redis.expected_epoch()
        one.redis.verify()
        other.redis.verify()


def test_a_start_that_died_between_redis_and_mongodb_raises_no_alarm(settings: Settings) -> None:
    with open_stores(settings) as died:
        died.redis.begin_epoch("only-in-redis")
    with open_stores(settings) as stores:
        stores.redis.verify()
        assert stores.redis.expected_epoch().value == "only-in-redis"


@pytest.mark.parametrize("flushed", [False, True])
def test_a_lane_that_starts_on_an_emptied_redis_stops_before_it_reads(
    busy: Settings, stores: Stores, flushed: bool
) -> None:
    drain(busy)
    if flushed:
        flush(stores)
    emptied(busy, stores)
    before = committed(busy)
    send(busy, [record("s:c", pixel("late"))])
    with noticed():
        drain(busy)
    assert committed(busy) == before
    assert not [key for key in keys(busy, stores) if ":buffer:" in key or ":applied" in key]


def test_a_lane_under_way_neither_counts_nor_commits_when_redis_is_emptied(busy: Settings, stores: Stores) -> None:
    with open_lane(busy, lane=0, lanes=1, owner="test") as lane:
        assert one_batch(lane)
        lane._pool.drain()
        lane._commits.drain()
        emptied(busy, stores)
        before = committed(busy)
        with noticed():
            one_batch(lane)
            lane.finish()
        assert committed(busy) == before
    assert not [key for key in keys(busy, stores) if ":buffer:" in key or ":applied" in key]


def test_what_was_counted_and_not_committed_when_redis_is_emptied_is_not_committed(
    busy: Settings, stores: Stores
) -> None:
    with open_lane(busy, lane=0, lanes=1, owner="test") as lane:
        batch = lane.fetch()
        assert batch is not None
        done = lane.attribution(lane.ad_lead(lane.index(batch)))
        lane.customer(done)
        lane.product_stats(done)
        lane._pool.drain()
        emptied(busy, stores)
        with noticed():
            lane.commit(batch)
            lane.finish()
    assert set(committed(busy).values()) == {0}


def test_the_heartbeat_notices_it_by_itself(busy: Settings, stores: Stores) -> None:
    with open_lane(busy.model_copy(update={"lease": 3.0}), lane=0, lanes=1, owner="test") as lane:
        assert one_batch(lane)
        lane._pool.drain()
        lane._commits.drain()
        emptied(busy, stores)
        heartbeat = lane._lease._heartbeat
        assert heartbeat is not None
        heartbeat.join()  # it ends when it notices
        with noticed():
            lane.fetch()


def test_flush_rebuild_reprocessing_and_audit_write_nothing_on_an_emptied_redis(busy: Settings, stores: Stores) -> None:
    drain(busy)
    flush(stores)
    before = product_stats(stores)
    assert before
    emptied(busy, stores)
    with noticed(), open_stores(busy) as others:
        flush(others)
    with noticed(), rebuilding(busy):
        pass
    with noticed():
        replay_letters(busy)
    with noticed():
        audit(busy)
    assert product_stats(stores) == before


def test_a_flush_under_way_writes_no_part_of_what_an_emptied_redis_held(
    busy: Settings, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    drain(busy)
    claim = stores.redis.claim

    def emptying(*arguments: Any) -> Any:
        claims = claim(*arguments)
        emptied(busy, stores)
        return claims

    monkeypatch.setattr(stores.redis, "claim", emptying)
    with noticed():
        flush(stores)
    assert product_stats(stores) == {}


def test_a_copy_from_before_some_batches_is_noticed_by_the_committed_offsets(busy: Settings, stores: Stores) -> None:
    with open_lane(busy, lane=0, lanes=1, owner="test") as lane:
        assert one_batch(lane)
        lane.finish()
    put_back = copied(busy, stores)
    drain(busy)
    put_back()
    with noticed("it is an older copy"):
        drain(busy)
    with noticed("it is an older copy"), rebuilding(busy):
        pass


def test_a_copy_that_takes_over_under_a_lane_is_noticed_by_its_applied_offsets(busy: Settings, stores: Stores) -> None:
    with open_lane(busy, lane=0, lanes=1, owner="test") as lane:
        assert one_batch(lane)
        lane._pool.drain()
        put_back = copied(busy, stores)
        assert one_batch(lane)
        lane._pool.drain()
        lane._commits.drain()
        put_back()
        before = committed(busy)
        with noticed("it is an older copy"):
            one_batch(lane)
            lane.finish()
        assert committed(busy) == before


def test_a_copy_from_before_a_flush_is_not_flushed_again(busy: Settings, stores: Stores) -> None:
    drain(busy)
    put_back = copied(busy, stores)
    flush(stores)
    before = product_stats(stores)
    put_back()
    with open_stores(busy) as others:
        with noticed("it is an older copy"):
            flush(others)
        with noticed("it is an older copy"):
            drain(busy)
    assert product_stats(stores) == before


def test_duplicates_and_dead_letters_at_the_end_are_no_loss(settings: Settings) -> None:
    send(settings, [record("s:c", pixel("one"))])
    drain(settings)
    send(settings, [record("s:c", pixel("one")), record("s:c", b"{"), record("s:c", pixel("one"))])
    drain(settings)
    drain(settings)
    with rebuilding(settings):
        pass


def test_a_rejected_event_at_the_end_is_no_loss_before_and_after_it_is_reprocessed(
    settings: Settings, stores: Stores
) -> None:
    send(settings, [record("s:c", pixel("one"))])
    drain(settings)
    refuse(stores, AD_LEADS, "^s:c$")
    send(settings, [record("s:c", pixel("two", query="?gclid=g-1"))])
    drain(settings)
    drain(settings)
    accept(stores, AD_LEADS)
    assert replay_letters(settings).replayed == 1
    drain(settings)
    with rebuilding(settings):
        pass


def work_for_ever(lane: LaneRunner) -> None:
    while True:
        one_batch(lane)


def restored(settings: Settings, stores: Stores) -> None:
    """Restore, continue, and compare with the oracle."""
    done = restore(settings)
    assert done.reason
    assert restore(settings).reason == ""
    drain(settings)
    with open_stores(settings) as again:
        audited(settings, again)


@pytest.mark.parametrize("flushed", [False, True])
def test_an_emptied_redis_is_rebuilt_exactly(busy: Settings, stores: Stores, flushed: bool) -> None:
    drain(busy)
    if flushed:
        flush(stores)
    send(busy, ((entry.key, entry.value, entry.headers) for entry in traffic(700, seed=10, shops=3, profile=FIRST)))
    with open_lane(busy, lane=0, lanes=1, owner="test") as lane:
        assert one_batch(lane)
        lane.finish()
    emptied(busy, stores)
    restored(busy, stores)


def test_a_copy_from_before_some_batches_and_a_flush_is_rebuilt_exactly(busy: Settings, stores: Stores) -> None:
    with open_lane(busy, lane=0, lanes=1, owner="test") as lane:
        assert one_batch(lane)
        lane.finish()
    put_back = copied(busy, stores)
    drain(busy)
    flush(stores)
    put_back()
    restored(busy, stores)


def test_what_was_counted_beyond_the_committed_offsets_counts_once(busy: Settings, stores: Stores) -> None:
    with open_lane(busy, lane=0, lanes=1, owner="test") as lane:
        batch = lane.fetch()
        assert batch is not None
        done = lane.attribution(lane.ad_lead(lane.index(batch)))
        lane.customer(done)
        lane.product_stats(done)
        lane._pool.drain()
        flush(stores)
        emptied(busy, stores)
        with noticed():
            lane.commit(batch)
            lane.finish()
    restored(busy, stores)


def test_reprocessed_dead_letters_count_once_and_waiting_ones_can_be_reprocessed(
    busy: Settings, stores: Stores
) -> None:
    lenient = busy.model_copy(update={"dead_letter_share": 1.0})
    refuse(stores, CUSTOMERS, "[0-3]$")
    refuse(stores, AD_LEADS, "[4-7]$")
    drain(lenient)
    accept(stores, AD_LEADS)
    first = replay_letters(lenient)  # those of ad_lead come back, those of customer fail again
    assert first.replayed
    assert first.failed_again
    accept(stores, CUSTOMERS)
    emptied(lenient, stores)
    assert restore(lenient).letters
    second = replay_letters(lenient)
    assert second.replayed == first.failed_again - second.failed_again > 0  # what cannot be decoded fails again
    with open_stores(lenient) as again:
        audited(lenient, again)


def test_rejections_above_the_committed_offsets_are_restored(settings: Settings, stores: Stores) -> None:
    """A crash between a dead letter and its commit, and an emptied Redis: the store would accept the document now."""
    refuse(stores, AD_LEADS, "^s:c$")
    send(settings, [record("s:c", pixel("one", query="?gclid=g-1")), record("s:d", pixel("two"))])
    with open_lane(settings, lane=0, lanes=1, owner="test") as lane:
        batch = lane.fetch()
        assert batch is not None
        lane.ad_lead(lane.index(batch))
        lane._dead_letters.flush()
    accept(stores, AD_LEADS)
    emptied(settings, stores)
    assert restore(settings).refusals == 1
    drain(settings)
    assert replay_letters(settings).replayed == 1
    with open_stores(settings) as again:
        audited(settings, again)


def test_an_interrupted_restore_blocks_every_process_until_it_is_run_again(
    busy: Settings, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    drain(busy)
    emptied(busy, stores)

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(weekly_visitors, "rebuild_weeks", killed)
        with pytest.raises(KeyboardInterrupt):
            restore(busy)
    with noticed("is being rebuilt"):
        drain(busy)
    with noticed("is being rebuilt"), open_stores(busy) as others:
        flush(others)
    restored(busy, stores)


def test_a_lane_and_a_flush_that_are_live_when_it_begins_stop_and_lose_nothing(busy: Settings, stores: Stores) -> None:
    short = busy.model_copy(update={"lease": 3.0})
    with open_lane(short, lane=0, lanes=1, owner="live") as lane:
        assert one_batch(lane)
        with ThreadPoolExecutor(1) as pool:
            restoring = pool.submit(restore, short, force=True)
            with pytest.raises((StateLost, LaneLost, LaneStopped)):
                work_for_ever(lane)
            lane.close()
            assert restoring.result().reason
    drain(short)
    with open_stores(short) as again:
        audited(short, again)


def test_a_dry_run_changes_nothing_and_the_data_of_others_are_left_alone(busy: Settings, stores: Stores) -> None:
    drain(busy)
    assert restore(busy, dry_run=True).reason == ""
    emptied(busy, stores)
    planned = restore(busy, dry_run=True)
    assert planned.applied == {p: offset - 1 for p, offset in committed(busy).items() if offset}
    assert planned.days
    assert keys(busy, stores) == []
    stores.redis.client.hset(f"{busy.namespace}:identity", "epoch", "somebody-elses")
    with pytest.raises(StateLost, match="another installation"):
        restore(busy)
    assert restore(busy, force=True).reason
    drain(busy)
    with open_stores(busy) as again:
        audited(busy, again)


def test_the_command_says_what_it_did(busy: Settings, stores: Stores) -> None:
    drain(busy)
    assert "nothing to restore" in truepixel(busy, "restore-redis")
    emptied(busy, stores)
    assert "would rebuild product statistics" in truepixel(busy, "restore-redis", "--dry-run")
    assert "restore-redis" in truepixel(busy, "flush", code=1)
    send(busy, [record("s:c", pixel("late"))])
    assert "restore-redis" in truepixel(busy, "drain", code=1)
    assert "rebuilt product statistics" in truepixel(busy, "restore-redis")
    assert "nothing to restore" in truepixel(busy, "restore-redis")
