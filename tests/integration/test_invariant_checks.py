"""A lane's report on its own order and contiguity: no violation on a healthy lane, and one for each injected fault."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import pytest

from tests.integration.driving import drain, one_batch, record, send
from tests.integration.test_pipeline import pixel
from truepixel_dagster.events.event import Event
from truepixel_dagster.local.traffic import FIRST, traffic
from truepixel_dagster.pipeline import background, runner
from truepixel_dagster.pipeline.keyed_pool import KeyedPool
from truepixel_dagster.pipeline.lane_claim import open_lane
from truepixel_dagster.pipeline.ledger import Ledger
from truepixel_dagster.pipeline.run_metrics import RunMetrics
from truepixel_dagster.settings import Settings
from truepixel_dagster.stages import customer, index
from truepixel_dagster.stream import micro_batch

Patch = pytest.MonkeyPatch


def drained(settings: Settings) -> RunMetrics:
    send(
        settings,
        [
            (r.key, r.value, r.headers)
            for r in traffic(900, seed=5, shops=2, duplicates=0.1, malformed=0.05, profile=FIRST)
        ],
    )
    (metrics,) = drain(settings.model_copy(update={"batch_messages": 100, "dead_letter_share": 1.0}))
    return metrics


def reversed_within_a_batch(patch: Patch) -> None:
    def group(events: Sequence[Event]) -> dict[str, list[Event]]:
        return {user: mine[::-1] for user, mine in micro_batch.group_by_user(events).items()}

    for module in (runner, background):
        patch.setattr(module, "group_by_user", group)


def lost_by_a_stage(patch: Patch) -> None:
    decide = index.decide

    def lose(*arguments: Any) -> index.Indexed:
        found = decide(*arguments)
        return msgspec.structs.replace(found, events=found.events[1:])

    patch.setattr(index, "decide", lose)


def test_the_invariant_checks_of_a_healthy_lane_see_every_record_and_find_no_violation(settings: Settings) -> None:
    metrics = drained(settings)
    assert metrics.duplicates > 50
    assert sum(metrics.dead_letters.values()) > 20
    assert (metrics.contiguity.checked, metrics.contiguity.violations) == (900, 0)
    processed = metrics.indexed + metrics.redelivered
    assert (metrics.order.checked, metrics.order.violations) == (2 * processed, 0)


@pytest.mark.parametrize(
    ("fault", "order", "contiguity"), [(reversed_within_a_batch, True, False), (lost_by_a_stage, False, True)]
)
def test_a_fault_shows_as_a_violation_of_its_kind(
    settings: Settings, monkeypatch: Patch, fault: Callable[[Patch], None], order: bool, contiguity: bool
) -> None:
    fault(monkeypatch)
    metrics = drained(settings)
    assert (metrics.order.violations > 0, metrics.contiguity.violations > 0) == (order, contiguity)
    assert metrics.contiguity.checked == 900


def test_a_commit_past_an_unfinished_background_stage_is_a_violation(settings: Settings, monkeypatch: Patch) -> None:
    may_continue = threading.Event()
    run = customer.run

    def slow(share: Mapping[str, Sequence[Event]], *rest: Any) -> Any:
        may_continue.wait(30)
        return run(share, *rest)

    def all_that_was_fetched(ledger: Ledger) -> dict[int, int]:
        return {partition: last + 1 for partition, last in ledger._last.items()}

    monkeypatch.setattr(customer, "run", slow)
    monkeypatch.setattr(Ledger, "committable", all_that_was_fetched)
    send(settings, [record("s:c", pixel(f"e{number}")) for number in range(5)])
    with open_lane(settings, lane=0, lanes=1, owner="test") as lane:
        assert one_batch(lane)
        lane._commits.drain()
        assert (lane.metrics.contiguity.checked, lane.metrics.contiguity.violations) == (5, 5)
        may_continue.set()
        lane.finish()


def test_a_user_on_two_workers_is_a_violation(settings: Settings, monkeypatch: Patch) -> None:
    second_is_done = threading.Event()
    run = customer.run

    def the_first_batch_last(share: Mapping[str, Sequence[Event]], *rest: Any) -> Any:
        first = min(event.origin.offset for mine in share.values() for event in mine) == 0
        if first:
            second_is_done.wait(30)
        found = run(share, *rest)
        if not first:
            threading.Timer(0.2, second_is_done.set).start()
        return found

    asked = itertools.count()

    def another_for_each_batch(pool: KeyedPool, key: str) -> int:
        # Asked twice for each batch of the user: for the share, and for the queue.
        return next(asked) // 2 % len(pool._queues) if key == "s:c" else 0

    monkeypatch.setattr(customer, "run", the_first_batch_last)
    monkeypatch.setattr(KeyedPool, "worker_of", another_for_each_batch)
    send(settings, [record("s:c", pixel(f"e{number}")) for number in range(4)])
    (metrics,) = drain(settings.model_copy(update={"batch_messages": 2}))
    assert metrics.order.violations > 0
