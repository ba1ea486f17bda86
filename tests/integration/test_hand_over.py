"""A standby run takes its lane over without a gap, never writes together with its predecessor, and follows only it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from tests.integration.driving import audited, one_batch, send
from truepixel_dagster.local.traffic import FIRST, traffic
from truepixel_dagster.pipeline.lane_claim import BATCHES_TO_GROW, claim_lane, open_lane
from truepixel_dagster.pipeline.run_metrics import RunMetrics
from truepixel_dagster.resources import Stores
from truepixel_dagster.settings import Settings
from truepixel_dagster.stores.redis.leases import LaneBusy, Lease, holders
from truepixel_dagster.stream.topics import lag

EVENTS = 1500


@pytest.fixture
def small(settings: Settings) -> Settings:
    """A short lease and small micro-batches, with traffic waiting."""
    send(
        settings, ((entry.key, entry.value, entry.headers) for entry in traffic(EVENTS, seed=4, shops=3, profile=FIRST))
    )
    return settings.model_copy(update={"lease": 3.0, "batch_messages": 100})


def run(settings: Settings, owner: str, after: str | None, batches: int) -> RunMetrics:
    """Process up to so many micro-batches as a run."""
    with open_lane(settings, lane=0, lanes=1, owner=owner, after=after) as lane:
        for _ in range(batches):
            if not one_batch(lane):
                break
        return lane.finish()


@contextmanager
def in_background(settings: Settings, stores: Stores, owner: str, after: str) -> Iterator[Future[RunMetrics]]:
    """Start a standby run, and wait until it has its place."""
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(run, settings, owner, after, 100)
        deadline = time.monotonic() + 20
        while set(next_of(settings, stores).values()) != {owner} and not future.done():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield future


def next_of(settings: Settings, stores: Stores) -> dict[int, str]:
    return holders(stores.redis.client, settings.namespace, [0, 1, 2], "next")


def holder_of(settings: Settings, stores: Stores) -> set[str]:
    return set(holders(stores.redis.client, settings.namespace, [0, 1, 2]).values())


def test_the_lane_continues_where_it_was_handed_over(small: Settings, stores: Stores) -> None:
    with open_lane(small, lane=0, lanes=1, owner="first") as first:
        with in_background(small, stores, "second", "first") as second:
            for _ in range(5):
                assert one_batch(first)
            assert holder_of(small, stores) == {"first"}
            handed = first.finish()
            taken = second.result(timeout=60)
        assert handed.waiting == EVENTS - handed.messages
    for partition, range_ in taken.ranges.items():
        assert range_.first == (handed.ranges[partition].last + 1 if partition in handed.ranges else 0)
    assert handed.messages + taken.messages == EVENTS
    assert taken.redelivered == 0
    assert next_of(small, stores) == {}
    audited(small, stores)


def test_a_standby_run_plans_its_batches_while_another_run_has_the_lane(small: Settings, stores: Stores) -> None:
    with (
        open_lane(small, lane=0, lanes=1, owner="first") as first,
        claim_lane(small, lane=0, lanes=1, owner="second", after="first") as coming,
    ):
        assert coming.planned_batches() == EVENTS // small.batch_messages + BATCHES_TO_GROW
        assert coming.warnings() == []
        assert one_batch(first)
        assert next_of(small, stores) == dict.fromkeys([0, 1, 2], "second")
        assert holder_of(small, stores) == {"first"}
        first.finish()
        with coming.taken() as second:
            assert next_of(small, stores) == {}
            assert holder_of(small, stores) == {"second"}
            while one_batch(second):
                pass
    assert sum(entry.lag for entry in lag(small.kafka())) == 0
    audited(small, stores)


def test_a_standby_run_that_ends_gives_its_place_back(small: Settings, stores: Stores) -> None:
    with open_lane(small, lane=0, lanes=1, owner="first"):
        with claim_lane(small, lane=0, lanes=1, owner="second", after="first"):
            assert next_of(small, stores) == dict.fromkeys([0, 1, 2], "second")
        assert next_of(small, stores) == {}


def test_an_idle_run_hands_over_before_its_end(small: Settings, stores: Stores) -> None:
    with open_lane(small, lane=0, lanes=1, owner="first") as first:
        while one_batch(first):
            pass
        assert holder_of(small, stores) == set()
        assert run(small, "second", "first", batches=1).messages == 0
        assert first.fetch() is None
        assert first.finish().messages == EVENTS


def test_a_standby_run_waits_for_the_run_that_its_tag_names_and_no_other(small: Settings, stores: Stores) -> None:
    with open_lane(small, lane=0, lanes=1, owner="first"), pytest.raises(LaneBusy, match="held by run first"):
        run(small, "second", after="somebody-else", batches=1)
    assert next_of(small, stores) == {}


def test_one_run_waits_at_a_time(small: Settings, stores: Stores) -> None:
    with (
        open_lane(small, lane=0, lanes=1, owner="first") as first,
        in_background(small, stores, "second", "first") as second,
    ):
        with pytest.raises(LaneBusy, match="held by run second"):
            run(small, "third", after="first", batches=1)
        first.finish()
        assert second.result(timeout=60).messages == EVENTS


def test_a_predecessor_that_dies_is_succeeded_when_its_lease_runs_out(small: Settings, stores: Stores) -> None:
    dead = Lease(stores.redis.client, small.namespace, [0, 1, 2], "dead", small.lease)
    dead.acquire()
    with in_background(small, stores, "second", "dead") as second:
        # No heartbeat and no release, as after SIGKILL.
        dead._stop.set()
        assert second.result(timeout=60).messages == EVENTS
    assert sum(entry.lag for entry in lag(small.kafka())) == 0
    audited(small, stores)


def test_two_runs_never_have_the_lane_at_once(small: Settings, stores: Stores) -> None:
    """A relay of runs with two micro-batches each: each run finds exactly the records that the one before left."""

    def leg(number: int) -> RunMetrics:
        me, after = f"run-{number}", f"run-{number - 1}" if number else None
        with open_lane(small, lane=0, lanes=1, owner=me, after=after) as lane:
            for _ in range(2):
                if one_batch(lane):
                    assert holder_of(small, stores) == {me}
            return lane.finish()

    with ThreadPoolExecutor(2) as pool:
        legs = [pool.submit(leg, 0)]
        for number in range(1, 10):
            while holder_of(small, stores) != {f"run-{number - 1}"} and not legs[-1].done():
                time.sleep(0.005)
            legs.append(pool.submit(leg, number))
        all_metrics = [future.result(timeout=60) for future in legs]
    assert sum(metrics.messages for metrics in all_metrics) == EVENTS
    assert sum(metrics.redelivered for metrics in all_metrics) == 0
    audited(small, stores)
