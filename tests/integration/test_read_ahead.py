"""A lane reads its next micro-batch, and runs its stage 1, ahead; it commits only what it has processed."""

from __future__ import annotations

import pytest

from tests.integration.driving import audited, drain, one_batch, send
from truepixel_dagster.local.traffic import FIRST, traffic
from truepixel_dagster.pipeline.lane_claim import open_lane
from truepixel_dagster.resources import Stores
from truepixel_dagster.settings import Settings
from truepixel_dagster.stages import ad_lead
from truepixel_dagster.stream.consumer import EventConsumer
from truepixel_dagster.stream.errors import KafkaUnavailable
from truepixel_dagster.stream.micro_batch import MicroBatch
from truepixel_dagster.stream.topics import lag

MESSAGES, BATCH = 650, 100


@pytest.fixture
def waiting(settings: Settings) -> Settings:
    """Six full micro-batches and half of one that wait."""
    records = traffic(MESSAGES, seed=4, shops=3, profile=FIRST)
    send(settings, ((entry.key, entry.value, entry.headers) for entry in records))
    return settings.model_copy(update={"batch_messages": BATCH})


def _committed(settings: Settings) -> int:
    return sum(entry.committed or 0 for entry in lag(settings.kafka()))


def test_full_micro_batches_that_wait_are_read_ahead_and_the_last_one_is_not(waiting: Settings, stores: Stores) -> None:
    (run,) = drain(waiting)
    assert run.messages == MESSAGES
    # The first has none before it, and beside the last full one only half of one waits.
    assert run.read_ahead == MESSAGES // BATCH - 1
    audited(waiting, stores)


def test_a_run_that_ends_leaves_what_it_read_ahead_to_the_next_one(waiting: Settings, stores: Stores) -> None:
    with open_lane(waiting, lane=0, lanes=1, owner="first") as lane:
        lane.plan(10)
        assert one_batch(lane)
        assert one_batch(lane)
        assert lane._ahead._read is not None
        run = lane.finish()
    assert (run.batches, run.messages, run.waiting) == (2, 2 * BATCH, MESSAGES - 2 * BATCH)
    assert _committed(waiting) == 2 * BATCH
    (rest,) = drain(waiting)
    assert rest.messages == MESSAGES - 2 * BATCH
    # Stage 1 had run ahead: the next run recognizes its events.
    assert 0 < rest.redelivered <= BATCH
    audited(waiting, stores)


def test_a_run_reads_no_more_ahead_than_it_has_planned(waiting: Settings, stores: Stores) -> None:
    with open_lane(waiting, lane=0, lanes=1, owner="first") as lane:
        lane.plan(2)
        assert one_batch(lane)
        assert one_batch(lane)
        run = lane.finish()
    assert run.read_ahead == 1
    (rest,) = drain(waiting)
    assert rest.redelivered == 0
    audited(waiting, stores)


def test_a_duplicate_in_the_next_micro_batch_stays_the_duplicate(settings: Settings, stores: Stores) -> None:
    records = [(entry.key, entry.value, entry.headers) for entry in traffic(200, seed=4, profile=FIRST, duplicates=0)]
    send(settings, [*records, *records, *records])
    (run,) = drain(settings.model_copy(update={"batch_messages": 200}))
    assert (run.batches, run.read_ahead, run.redelivered) == (3, 2, 0)
    assert run.duplicates == 2 * run.indexed
    audited(settings, stores)


def test_a_failure_commits_nothing_that_was_read_ahead(
    waiting: Settings, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("stage 2 failed")

    with open_lane(waiting, lane=0, lanes=1, owner="failing") as lane, monkeypatch.context() as patched:
        lane.plan(10)
        assert one_batch(lane)
        patched.setattr(ad_lead, "run", broken)
        with pytest.raises(RuntimeError, match="stage 2 failed"):
            one_batch(lane)
        assert lane._ahead._read is not None
        assert lane.fetch() is None
    assert _committed(waiting) <= BATCH
    drain(waiting)
    audited(waiting, stores)


def test_a_read_ahead_that_fails_stops_the_lane_at_its_own_micro_batch(
    waiting: Settings, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch = EventConsumer.fetch
    fetched: list[MicroBatch | None] = []

    def failing(self: EventConsumer) -> MicroBatch | None:
        if len(fetched) == 2:
            raise KafkaUnavailable("no answer")
        fetched.append(fetch(self))
        return fetched[-1]

    with monkeypatch.context() as patched:
        patched.setattr(EventConsumer, "fetch", failing)
        with open_lane(waiting, lane=0, lanes=1, owner="failing") as lane:
            lane.plan(10)
            assert one_batch(lane)
            assert one_batch(lane)
            with pytest.raises(KafkaUnavailable, match="no answer"):
                one_batch(lane)
    assert _committed(waiting) <= 2 * BATCH
    drain(waiting)
    audited(waiting, stores)


def test_large_micro_batches_are_read_one_by_one(waiting: Settings, stores: Stores) -> None:
    (run,) = drain(waiting.model_copy(update={"batch_bytes": 100 * 1024}))
    assert run.messages == MESSAGES
    assert run.read_ahead == 0
    audited(waiting, stores)
