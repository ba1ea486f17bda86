"""A lane commits in parallel with its micro-batches: a slow commit delays none, a failed one stops the lane."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

import pytest

from tests.integration.driving import audited, drain, one_batch, send
from truepixel_dagster.local.traffic import FIRST, traffic
from truepixel_dagster.pipeline.lane_claim import open_lane
from truepixel_dagster.pipeline.lane_guard import LaneStopped
from truepixel_dagster.pipeline.runner import LaneRunner
from truepixel_dagster.resources import Stores
from truepixel_dagster.settings import Settings
from truepixel_dagster.stream.consumer import EventConsumer
from truepixel_dagster.stream.errors import KafkaUnavailable
from truepixel_dagster.stream.topics import lag

MESSAGES, BATCH = 600, 100


@pytest.fixture
def waiting(settings: Settings) -> Settings:
    """Six small micro-batches that wait."""
    send(
        settings,
        ((entry.key, entry.value, entry.headers) for entry in traffic(MESSAGES, seed=4, shops=3, profile=FIRST)),
    )
    return settings.model_copy(update={"batch_messages": BATCH})


def test_the_commit_after_a_slow_one_includes_all_batches_since(
    waiting: Settings, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, begun, gate, made = EventConsumer.commit, threading.Event(), threading.Event(), []

    def slow(
        self: EventConsumer, offsets: Mapping[int, int], guard: Callable[[], None], notes: Mapping[int, str]
    ) -> None:
        made.append(dict(offsets))
        begun.set()
        assert gate.wait(60)
        commit(self, offsets, guard, notes)

    monkeypatch.setattr(EventConsumer, "commit", slow)
    with open_lane(waiting, lane=0, lanes=1, owner="slow") as lane:
        for number in range(MESSAGES // BATCH):
            assert one_batch(lane)
            if number < 2:
                # The second batch commits the first one's offsets at the latest.
                lane._pool.drain()
        assert begun.wait(60)
        assert len(made) == 1
        assert sum(entry.committed or 0 for entry in lag(waiting.kafka())) == 0
        gate.set()
        lane.finish()
    assert sum(entry.committed or 0 for entry in lag(waiting.kafka())) == MESSAGES
    assert len(made) < MESSAGES // BATCH
    audited(waiting, stores)


def test_a_commit_that_failed_stops_the_lane_at_the_next_one(
    waiting: Settings, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise KafkaUnavailable("no acknowledgement")

    with monkeypatch.context() as patched:
        patched.setattr(EventConsumer, "commit", broken)
        with open_lane(waiting, lane=0, lanes=1, owner="failing") as lane:
            # The second batch commits the first one's offsets at the latest, and the third gets the failure.
            with pytest.raises(KafkaUnavailable, match="no acknowledgement"):
                _batches(lane, 3)
            with pytest.raises(LaneStopped):
                lane.finish()
    assert sum(entry.committed or 0 for entry in lag(waiting.kafka())) == 0
    drain(waiting)
    audited(waiting, stores)


def _batches(lane: LaneRunner, count: int) -> None:
    """Process batches one after the other, and try each one's commit before the next."""
    for _ in range(count):
        one_batch(lane)
        lane._pool.drain()
        lane._commits._thread._queues[0].join()
