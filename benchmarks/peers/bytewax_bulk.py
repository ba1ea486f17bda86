"""Bytewax, our stages in bulk: a Kafka source, and a sink that runs them: `python -m benchmarks.peers.bytewax_bulk`.

As in its documentation, the offsets are kept in recovery partitions on the disk, from which the next execution
continues, and not in a consumer group. They are committed to the group only at the end for the audit, unmeasured.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, closing
from typing import Any

import bytewax.operators as op
from bytewax.connectors.kafka import operators as kop
from bytewax.dataflow import Dataflow
from bytewax.outputs import DynamicSink, StatelessSinkPartition

from benchmarks.peers.bytewax import drain, message_of
from benchmarks.peers.stages import Stages, Stopwatch
from truepixel_dagster.dead_letters.topic import DeadLetters
from truepixel_dagster.events.event import Message
from truepixel_dagster.resources import open_stores
from truepixel_dagster.settings import Settings, load_settings


class StagesPartition(StatelessSinkPartition):  # type: ignore[misc]
    """Pass one worker's batches through all stages, with its own stores."""

    def __init__(self, settings: Settings, watch: Stopwatch, done: dict[int, int]) -> None:
        self._stack = ExitStack()
        self._letters = self._stack.enter_context(closing(DeadLetters(settings.kafka(), settings.dead_letter_bytes)))
        self._stages = Stages(settings, self._stack.enter_context(open_stores(settings)), self._letters)
        self._watch = watch
        self._done = done

    def write_batch(self, items: Sequence[Message]) -> None:
        """Write a batch; return when it is stored."""
        self._stages.run(items)
        self._letters.flush()
        self._done.update((item.origin.partition, item.origin.offset + 1) for item in items)

    def close(self) -> None:
        """Close the stores."""
        self._stack.close()


class StagesSink(DynamicSink):  # type: ignore[misc]
    """Let every worker write the records that it has read itself, so that each partition stays in order."""

    def __init__(self, settings: Settings, watch: Stopwatch) -> None:
        self._settings = settings
        self._watch = watch
        self.done: dict[int, int] = {}

    def build(self, step_id: str, worker_index: int, worker_count: int) -> StagesPartition:  # noqa: ARG002
        """Return the part of one worker."""
        return StagesPartition(self._settings, self._watch, self.done)


def flow(settings: Settings, sink: StagesSink, watch: Stopwatch) -> Dataflow:
    """Build the dataflow from Kafka to the stores, until the end of the topic."""

    def messages(batch: list[Any]) -> list[Message]:
        watch.received()
        return [message_of(record) for record in batch]

    dataflow = Dataflow("truepixel")
    brokers = settings.kafka_bootstrap.split(",")
    source = kop.input(
        "events", dataflow, brokers=brokers, topics=[settings.topic], tail=False, batch_size=settings.batch_messages
    )
    op.raises("errors", source.errs)
    op.output("stages", op.flat_map_batch("messages", source.oks, messages), sink)
    return dataflow


def main() -> None:
    """Drain the topic."""
    settings, watch = load_settings(), Stopwatch()
    sink = StagesSink(settings, watch)
    drain(settings, watch, flow(settings, sink, watch), sink.done)


if __name__ == "__main__":
    main()
