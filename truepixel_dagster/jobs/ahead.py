"""The next micro-batch on its way to the event history while the stages of the one before go on.

Stage 1 rests on nothing that earlier micro-batches leave, so that it alone may run ahead: an event that is in the
history and got no further is a replay when it is met again. Python runs one thread at a time; what is gained is the
time in which the stages, or Dagster between them, would wait for Elasticsearch.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

from truepixel_dagster.events.decode import Undecodable
from truepixel_dagster.events.event import Event, Message
from truepixel_dagster.stages.index import Indexed
from truepixel_dagster.stream.micro_batch import MicroBatch


class Fetched(NamedTuple):
    """A micro-batch, its messages as they may be read, what they mean, and when it came (by `time.perf_counter`)."""

    batch: MicroBatch
    messages: tuple[Message, ...]
    events: tuple[Event, ...]
    unreadable: tuple[Undecodable, ...]
    at: float


class Coming(NamedTuple):
    """A micro-batch that is being fetched and indexed; the results are None where the lane is idle."""

    fetched: Future[Fetched | None]
    indexed: Future[Indexed | None]


class Ahead:
    """Fetches, decodes and indexes one micro-batch at a time, in one thread and in order.

    What a step raises, its result raises.

    Arguments:
        fetch: The next micro-batch; None when the lane is idle.
        read: A micro-batch's messages as they may be read, and what they mean.
        index: Stage 1.
    """

    def __init__(
        self,
        fetch: Callable[[], MicroBatch | None],
        read: Callable[[MicroBatch], tuple[tuple[Message, ...], list[Event | Undecodable]]],
        index: Callable[[tuple[Event, ...]], Indexed],
    ) -> None:
        self._fetch = fetch
        self._read = read
        self._index = index
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ahead")
        self._coming: Coming | None = None

    def begin(self) -> None:
        """Begin with the next micro-batch, unless that has begun."""
        self._coming = self._coming or self._started()

    def take(self) -> Coming:
        """The next micro-batch, begun now if it was not before."""
        coming, self._coming = self._coming or self._started(), None
        return coming

    def close(self) -> None:
        """End the thread; what has begun is waited for, what has not is dropped."""
        self._thread.shutdown(cancel_futures=True)

    def _started(self) -> Coming:
        fetched = self._thread.submit(self._fetched)
        return Coming(fetched, self._thread.submit(self._indexed, fetched))

    def _fetched(self) -> Fetched | None:
        batch = self._fetch()
        if batch is None:
            return None
        at = time.perf_counter()
        messages, decoded = self._read(batch)
        events = tuple(item for item in decoded if isinstance(item, Event))
        return Fetched(batch, messages, events, tuple(item for item in decoded if isinstance(item, Undecodable)), at)

    def _indexed(self, fetched: Future[Fetched | None]) -> Indexed | None:
        found = fetched.result()
        return self._index(found.events) if found else None
