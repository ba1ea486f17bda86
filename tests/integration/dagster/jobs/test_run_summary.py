"""The line in which a run reports what it committed."""

from __future__ import annotations

import pytest

from truepixel_dagster.jobs.run_report import outcome, summary
from truepixel_dagster.pipeline.run_metrics import RunMetrics
from truepixel_dagster.stream.micro_batch import OffsetRange


def metrics(*partitions: int, messages: int = 4497) -> RunMetrics:
    ranges = {number: OffsetRange("events", number, 0, 9) for number in partitions}
    return RunMetrics(started=100.0, ended=131.2, messages=messages, ranges=ranges)


@pytest.mark.parametrize(
    ("partitions", "said"),
    [
        ((1,), "4,497 messages of partition 1 in 31 s"),
        ((2, 0, 1), "4,497 messages of partitions 0–2 in 31 s"),
        ((6, 0, 3), "4,497 messages of partitions 0, 3 and 6 in 31 s"),
        ((), "4,497 messages in 31 s"),
    ],
)
def test_partitions_are_named_in_words(partitions: tuple[int, ...], said: str) -> None:
    assert summary(metrics(*partitions)) == said


def test_the_outcome_omits_counts_of_zero() -> None:
    done = metrics(0, messages=1)
    assert outcome(done) == "committed 1 message of partition 0 in 31 s"
    done.indexed, done.orders = 1, 1
    done.dead_letters.update({"decode": 1200})
    said = "committed 1 message of partition 0 in 31 s: 1 events indexed, 1 orders, 1,200 dead letters"
    assert outcome(done) == said
