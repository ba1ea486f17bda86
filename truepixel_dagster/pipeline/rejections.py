"""Turn a lane's rejected records into dead letters, unless so many clients fail at once that it is an outage.

A rejected record stays rejected until its dead letter is reprocessed, even if its batch is processed again
(`dead_letters/refusals.py`).
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

from truepixel_dagster.dead_letters import policy
from truepixel_dagster.dead_letters.refusals import Refusals
from truepixel_dagster.dead_letters.topic import DeadLetters
from truepixel_dagster.events.decode import Undecodable
from truepixel_dagster.events.event import Event, Message
from truepixel_dagster.events.origin import Origin
from truepixel_dagster.pipeline.batches import FetchedBatch
from truepixel_dagster.pipeline.invariants import Contiguity
from truepixel_dagster.pipeline.run_metrics import RunMetrics
from truepixel_dagster.resources import Stores
from truepixel_dagster.stages import customer
from truepixel_dagster.stages.refused import Refused
from truepixel_dagster.stages.stage import CUSTOMER, DECODE, IN_BACKGROUND, ORDERS
from truepixel_dagster.stores import mongodb
from truepixel_dagster.stores.redis.leases import Lease
from truepixel_dagster.stream.micro_batch import MicroBatch


class TooManyDeadLetters(Exception):
    """Most clients of a batch would have dead letters: this is an outage or a bad deploy, not bad data."""


class Rejections:
    """Write the dead letters of a lane. Safe to use from several threads.

    Arguments:
        share: The share of failing clients above which a failure is an outage.
        stores: Hold the clients' profiles and the applied offsets.
        lease: The lane's lease: a run that has lost it writes nothing.
        refusals: The lane's earlier rejections.
        dead_letters: The topic of dead letters.
        metrics: Counts them.
        metrics_lock: Held while something is counted.
        contiguity: Checks that no record is skipped.
    """

    def __init__(
        self,
        share: float,
        stores: Stores,
        lease: Lease,
        refusals: Refusals,
        dead_letters: DeadLetters,
        metrics: RunMetrics,
        metrics_lock: threading.Lock,
        contiguity: Contiguity,
    ) -> None:
        self._share = share
        self._stores = stores
        self._lease = lease
        self._refusals = refusals
        self._dead_letters = dead_letters
        self._metrics = metrics
        self._metrics_lock = metrics_lock
        self._contiguity = contiguity
        self._writing = threading.Lock()

    def earlier(self, stage: str, events: Sequence[Event]) -> tuple[Refused, ...]:
        """Return the events that a stage rejected earlier, with the original reason."""
        return self._refusals.among(stage, events)

    def unreadable(self, batch: MicroBatch, unreadable: Sequence[Undecodable]) -> None:
        """Write the dead letters of messages that could not be decoded.

        Raises:
            TooManyDeadLetters: There are too many dead letters.
            KafkaError, LaneLost, Unavailable: A dead letter cannot be written.
        """
        if not unreadable:
            return
        new = [item for item in unreadable if self._refusals.reason(DECODE, item.message.origin) is None]
        self._check_clients(batch.messages, {item.message.origin: item.reason for item in new})
        self._write(DECODE, [(item.message, item.reason) for item in unreadable])

    def rejected(
        self, stage: str, fetched: FetchedBatch, refused: Sequence[Refused], earlier: Sequence[Refused] = ()
    ) -> None:
        """Write the dead letters of events that a stage rejects now or rejected earlier.

        Raises:
            TooManyDeadLetters: There are too many new dead letters.
            KafkaError, LaneLost, Unavailable: A dead letter cannot be written.
        """
        if not refused and not earlier:
            return
        self._check_clients(fetched.batch.messages, {item.event.origin: item.reason for item in refused})
        by_origin = {message.origin: message for message in fetched.messages}
        # A record's newest dead letter counts, and reprocessing one of stage customer covers one of orders.
        with self._writing:
            kept = [item for item in refused if not self._stays_with_customer(stage, item.event.origin)]
            self._write(stage, [(by_origin[item.event.origin], item.reason) for item in (*kept, *earlier)])

    def not_counted_yet(self, refused: Sequence[Refused]) -> Sequence[Refused]:
        """Return the events that no earlier run of the batch passed to the counters.

        The others have already passed stages 2 and 3, and reprocessing a dead letter would count them again.
        """
        if not refused:
            return ()
        offsets = self._stores.redis.applied(sorted({item.event.origin.partition for item in refused}))
        profiles = self._stores.mongodb.read(mongodb.CUSTOMERS, {item.event.user for item in refused})
        return [
            item
            for item in refused
            if item.event.origin.offset > offsets[item.event.origin.partition]
            and not customer.is_applied(profiles.get(item.event.user, {}), item.event.origin)
        ]

    def _stays_with_customer(self, stage: str, origin: Origin) -> bool:
        return stage == ORDERS and self._refusals.reason(CUSTOMER, origin) is not None

    def _write(self, stage: str, rejected: Sequence[tuple[Message, str]]) -> None:
        if not rejected:
            return
        # A worker that lost its lane must not reject what the new one accepts.
        self._lease.confirm()
        self._refusals.mark(stage, {message.origin: reason for message, reason in rejected})
        for message, reason in rejected:
            self._dead_letters.send(message, error=reason, stage=stage)
        with self._metrics_lock:
            self._metrics.dead_letters[stage] += len(rejected)
        # Product statistics count events that stage customer rejects, too.
        past = {ORDERS: (), CUSTOMER: (CUSTOMER,)}.get(stage, IN_BACKGROUND)
        self._contiguity.dealt_with((message.origin for message, _ in rejected), past)

    def _check_clients(self, received: Sequence[Message], refused: Mapping[Origin, str]) -> None:
        if len(refused) <= policy.FLOOR:
            return
        bad = [message for message in received if message.origin in refused]
        clients, failing = policy.failing(received, bad)
        if policy.is_outage(clients, failing, self._share, self._known):
            example = next(iter(refused.values()))
            raise TooManyDeadLetters(
                f"{len(failing)} of {len(clients)} clients of a batch would have dead letters, such as: {example}. That"
                " looks like an outage or a bad deploy, so nothing was committed. Correct the cause, or if the records"
                " really are bad, set TRUEPIXEL_DEAD_LETTER_SHARE=1"
            )

    def _known(self, clients: AbstractSet[str]) -> AbstractSet[str] | None:
        """Return the clients that have a profile; None if there are no profiles yet."""
        store = self._stores.mongodb
        found = frozenset(store.ids(mongodb.CUSTOMERS, {"_id": {"$in": sorted(clients)}}))
        is_new = not found and next(store.ids(mongodb.CUSTOMERS, {}), None) is None
        return None if is_new else found
