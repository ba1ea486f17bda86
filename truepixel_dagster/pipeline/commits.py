"""Decide which offsets of a lane are committed, when, and with which notes.

A micro-batch is committed when all of its parts have landed and no earlier record is missing (`pipeline/ledger.py`). A
commit runs in parallel with the next micro-batches; a commit that has not begun includes later ones.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping

from truepixel_dagster.dead_letters.refusals import Refusals
from truepixel_dagster.dead_letters.topic import DeadLetters
from truepixel_dagster.pipeline.invariants import Contiguity
from truepixel_dagster.pipeline.keyed_pool import KeyedPool
from truepixel_dagster.pipeline.ledger import Ledger
from truepixel_dagster.pipeline.run_metrics import RunMetrics
from truepixel_dagster.stores.redis.leases import Lease
from truepixel_dagster.stream.commit_notes import UNKNOWN, Span, read_note, write_note
from truepixel_dagster.stream.consumer import EventConsumer
from truepixel_dagster.stream.micro_batch import MicroBatch


class Commits:
    """Commit the offsets of a lane. Safe to use from several threads.

    Arguments:
        consumer: Commits the offsets.
        dead_letters: The topic of dead letters, which acknowledges them before the records' offsets are committed.
        refusals: The lane's rejections, removed once the records' offsets are committed.
        lease: The lane's lease: a run that has lost it commits nothing.
        metrics: Holds the run's ranges and the time of its last commit.
        contiguity: Checks that no record is skipped.
    """

    def __init__(
        self,
        consumer: EventConsumer,
        dead_letters: DeadLetters,
        refusals: Refusals,
        lease: Lease,
        metrics: RunMetrics,
        contiguity: Contiguity,
    ) -> None:
        self._consumer = consumer
        self._dead_letters = dead_letters
        self._refusals = refusals
        self._lease = lease
        self._metrics = metrics
        self._contiguity = contiguity
        self._ledger = Ledger()
        self._thread = KeyedPool(workers=1, pending=1)
        self._lock = threading.Lock()
        self._requested = False
        self._unlanded: dict[int, int] = {}
        self._committed: dict[int, int] = {}
        #: The ranges that earlier runs committed and may not have reported to Dagster, by partition.
        self.unreported: dict[int, tuple[Span, ...]] = {
            partition: spans for partition, note in consumer.notes.items() if (spans := read_note(note))
        }
        # Deleting the group's offsets also deletes their notes.
        self.unreported |= {p: (UNKNOWN,) for p in consumer.redelivers() if p not in consumer.notes}

    def opened(self, batch: MicroBatch) -> None:
        """Note that a micro-batch was fetched. `request` reports that its first part has landed."""
        with self._lock:
            self._ledger.opened(batch.ranges)
            self._unlanded[id(batch)] = 1

    def begun(self, batch: MicroBatch) -> None:
        """Note that one more part of a micro-batch has to land."""
        with self._lock:
            self._unlanded[id(batch)] += 1

    def landed(self, batch: MicroBatch) -> None:
        """Note that one part of a micro-batch has landed; after the last one its offsets may be committed."""
        with self._lock:
            self._unlanded[id(batch)] -= 1
            if self._unlanded[id(batch)] == 0:
                del self._unlanded[id(batch)]
                self._ledger.landed(batch.ranges)

    def request(self, batch: MicroBatch) -> None:
        """Declare that a micro-batch has no more parts, and commit contiguously what has landed.

        Raises:
            Exception: The error of an earlier commit.
        """
        self.landed(batch)
        self._thread.raise_failure()
        with self._lock:
            # A pending commit includes this one: only the commit thread waits for the coordinator, the stages do not.
            waits, self._requested = self._requested, True
        if not waits:
            self._thread.submit("", self.commit)

    def commit(self) -> None:
        """Commit now, contiguously, what has landed.

        Raises:
            KafkaUnavailable: Kafka does not acknowledge.
            LaneLost: Another run has the lane.
        """
        with self._lock:
            self._requested = False
            offsets = self._ledger.committable()
        if offsets:
            # The dead letters of what has landed are acknowledged before its offsets are committed.
            self._dead_letters.flush()
            self._contiguity.committing(offsets)
            self._committed.update(offsets)
            self._consumer.commit(offsets, guard=self._lease.confirm, notes=self._notes(offsets))
            self._metrics.committed = time.time()
            with self._lock:
                self._ledger.committed(offsets)
            self._refusals.forget(offsets)

    def drain(self) -> None:
        """Wait for the requested commits.

        Raises:
            Exception: The error of one of them.
        """
        self._thread.drain()

    def over_gaps(self) -> None:
        """Commit the offsets at a partition's end that hold no record: no record would ever land there."""
        offsets = self._consumer.without_record()
        # If something has not landed, the ledger decides how far to commit.
        if offsets and not self._ledger.pending:
            self._contiguity.without_record(offsets)
            self._contiguity.committing(offsets)
            self._consumer.commit(offsets, guard=self._lease.confirm)

    def reported(self, *run_ids: str) -> None:
        """Note that Dagster shows the commits of earlier runs: the notes beside the offsets may omit them."""
        kept = {p: tuple(span for span in spans if span.run not in run_ids) for p, spans in self.unreported.items()}
        self.unreported = kept
        # All partitions at once: a run that commits only some of them and dies would leave the rest to be reported.
        self._consumer.annotate(self._notes({}), guard=self._lease.confirm)

    def handed_over(self) -> None:
        """Note beside the offsets that this run can report its own commits, so that no other run needs to."""
        notes = self._notes(self._committed, handed_over=True)
        self._consumer.annotate(notes, guard=self._lease.confirm)

    def close(self) -> None:
        """Stop the thread; it commits nothing more."""
        self._thread.close()

    def _notes(self, offsets: Mapping[int, int], *, handed_over: bool = False) -> dict[int, str]:
        """Return the notes for the offsets: the runs that may not have reported to Dagster, this one last."""
        spans = {p: list(self.unreported.get(p, ())) for p in {*self._consumer.notes, *offsets}}
        for partition, end in offsets.items():
            first = self._metrics.ranges[partition].first
            spans[partition].append(Span(self._lease.owner, first, end, handed_over))
        return {partition: write_note(own) for partition, own in spans.items()}
