"""Quix Streams with our own stages in one batching sink, at each checkpoint: `python -m benchmarks.peers.quix_bulk`.

As in its documentation for external stores, the records of a partition are collected in memory between checkpoints; at
a checkpoint the sink writes them, and then the framework commits their offsets.
"""

from __future__ import annotations

from contextlib import closing
from typing import Any

from quixstreams import Application
from quixstreams.sinks import BatchingSink, SinkBatch

from benchmarks.peers.stages import Stages, Stopwatch
from truepixel_dagster.dead_letters.topic import DeadLetters
from truepixel_dagster.events.event import Message
from truepixel_dagster.events.origin import Origin
from truepixel_dagster.resources import open_stores
from truepixel_dagster.settings import Settings, load_settings
from truepixel_dagster.stream.topics import lag


class StagesSink(BatchingSink):  # type: ignore[misc]
    """Write a checkpoint's records of a partition in chunks, each through all stages."""

    def __init__(self, settings: Settings, stages: Stages, letters: DeadLetters, watch: Stopwatch) -> None:
        super().__init__()
        self._chunk = settings.batch_messages
        self._stages = stages
        self._letters = letters
        self._watch = watch

    def add(self, *record: Any, **fields: Any) -> None:
        """Add a record to the next checkpoint."""
        self._watch.received()
        super().add(*record, **fields)

    def write(self, batch: SinkBatch) -> None:
        """Write a partition's records; an error keeps their offsets from being committed."""
        for chunk in batch.iter_chunks(n=self._chunk):
            self._stages.run([_message(batch, item) for item in chunk])
        self._letters.flush()


def _message(batch: SinkBatch, item: Any) -> Message:
    origin = Origin(batch.topic, batch.partition, item.offset)
    return Message(origin, item.key, item.value, tuple(item.headers or ()), item.timestamp)


def main() -> None:
    """Drain the topic."""
    settings, watch = load_settings(), Stopwatch()
    waiting = sum(entry.lag for entry in lag(settings.kafka()))
    app = Application(
        broker_address=settings.kafka_bootstrap,
        consumer_group=settings.group,
        auto_offset_reset="earliest",
        processing_guarantee="at-least-once",
        auto_create_topics=False,
        state_dir=settings.data_dir / "quix",
        loglevel="WARNING",
    )
    with open_stores(settings) as stores, closing(DeadLetters(settings.kafka(), settings.dead_letter_bytes)) as letters:
        stages = Stages(settings, stores, letters)
        frame = app.dataframe(app.topic(settings.topic, value_deserializer="bytes", key_deserializer="bytes"))
        frame.sink(StagesSink(settings, stages, letters, watch))
        app.run(count=waiting, collect=False)
        watch.report(waiting)


if __name__ == "__main__":
    main()
