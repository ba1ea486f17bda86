"""The job that drains a lane: plan → slots → fetch, five stages, commit → report.

Rising priorities along the stages have the executor take one micro-batch to its commit before it fetches the next.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from typing import TypeVar

import dagster as dg

from truepixel_dagster.asset_keys import AFTER_TAG, LANE_TAG, LANES_TAG
from truepixel_dagster.instance.executor import long_run_executor
from truepixel_dagster.jobs.plainly import plainly
from truepixel_dagster.jobs.run_report import materializations, observed, outcome, summary
from truepixel_dagster.jobs.unreported import report_for_others
from truepixel_dagster.pipeline.batches import AttributedBatch, FetchedBatch, IndexedBatch, TouchedBatch
from truepixel_dagster.pipeline.lane_claim import LaneClaim, claim_lane
from truepixel_dagster.pipeline.rejections import TooManyDeadLetters
from truepixel_dagster.pipeline.runner import LaneRunner, LaneStopped
from truepixel_dagster.settings import load_settings
from truepixel_dagster.stores.leases import LaneBusy, LaneLost
from truepixel_dagster.text import printable

TOLD_EVERY = 60.0
LANE = {"lane_run"}
DEFAULT_OUTPUT = "result"
EXPECTED_HERE = (LaneBusy, LaneLost, LaneStopped, TooManyDeadLetters)
Work = TypeVar("Work", FetchedBatch, IndexedBatch, TouchedBatch, AttributedBatch)


def _plainly() -> AbstractContextManager[None]:
    return plainly(also=EXPECTED_HERE)


def _priority(value: int) -> dict[str, str]:
    return {"dagster/priority": str(value)}


def _after(
    priority: int, description: str, *others: str
) -> Callable[[Callable[[dg.OpExecutionContext], None]], dg.OpDefinition]:
    """An op of a slot that follows `before` and others; only that they are through goes from one to the next."""

    def op(work: Callable[[dg.OpExecutionContext], None]) -> dg.OpDefinition:
        def compute(context: dg.OpExecutionContext, _: object) -> Iterator[dg.Output[None]]:
            with _plainly():
                work(context)
            yield dg.Output(None)

        # Not by `dg.op`: of a function that it decorates, Dagster reads the signature again for each step.
        return dg.OpDefinition(
            compute,
            name=work.__name__,
            ins={name: dg.In(dg.Nothing) for name in ("before", *others)},
            outs={DEFAULT_OUTPUT: dg.Out(dg.Nothing)},
            required_resource_keys=LANE,
            tags=_priority(priority),
            description=description,
        )

    return op


class BatchHandoff:
    """A lane, and the micro-batch that it is at: what one op leaves for the next.

    The lane is opened and taken by the op that asks first: what an op fails by is told better than why a resource did.
    Ops are in Dagster's order and hand nothing to it: a value in its hands is two more events and two type checks.

    Arguments:
        opening: Opens the lane, without taking it.
        until_the_end: Gives it back when the run ends.
    """

    def __init__(self, opening: Callable[[], AbstractContextManager[LaneClaim]], until_the_end: ExitStack) -> None:
        self._opening = opening
        self._until_the_end = until_the_end
        self._coming: LaneClaim | None = None
        self._lane: LaneRunner | None = None
        self._slot = ""
        self._work: object = None
        self._told_at = time.monotonic()

    def is_due(self) -> bool:
        """Return whether the run has logged no progress for a minute."""
        due = time.monotonic() - self._told_at >= TOLD_EVERY
        if due:
            self._told_at = time.monotonic()
        return due

    @property
    def coming(self) -> LaneClaim:
        """The lane from before it is ours."""
        if self._coming is None:
            self._coming = self._until_the_end.enter_context(self._opening())
        return self._coming

    @property
    def lane(self) -> LaneRunner:
        """The lane, ours."""
        if self._lane is None:
            self._lane = self._until_the_end.enter_context(self.coming.taken())
        return self._lane

    @property
    def failed(self) -> bool:
        """Whether the lane was taken, and then stopped by a failure."""
        return self._lane is not None and self._lane.failure is not None

    def store(self, context: dg.OpExecutionContext, work: object) -> None:
        """Leave something for the slot's next op."""
        self._slot, self._work = str(context.get_mapping_key()), work

    def load(self, context: dg.OpExecutionContext, kind: type[Work]) -> Work:
        """What the slot's last op has left.

        Raises:
            DagsterInvariantViolationError: It is another slot's, or of another kind.
        """
        if self._slot != context.get_mapping_key() or not isinstance(self._work, kind):
            raise dg.DagsterInvariantViolationError(f"{context.op_handle} is not the next op of slot {self._slot}")
        return self._work


@dg.op(
    out=dg.DynamicOut(dg.Nothing),
    required_resource_keys=LANE,
    description="How many micro-batches this run may drain.",
)
def plan(context: dg.OpExecutionContext) -> Iterator[dg.DynamicOutput[None]]:
    """Plan a slot for each micro-batch that lies there, and then take the lane: none waits for the planning."""
    with _plainly():
        for line in _hand(context).coming.warnings():
            context.log.warning(printable(line))
        count = _hand(context).coming.slots()
    for number in range(count):
        yield dg.DynamicOutput(None, mapping_key=f"s{number:03d}")
    with _plainly():
        _lane(context).plan(count)
        for line in (*_lane(context).warnings(), *report_for_others(context.instance, _lane(context))):
            context.log.warning(printable(line))


@dg.op(
    ins={"planned": dg.In(dg.Nothing)},
    out=dg.Out(dg.Nothing, is_required=False),
    required_resource_keys=LANE,
    tags=_priority(0),
    description="The next micro-batch: at most 512 messages and 32 MiB; skipped when the lane is idle or stopped.",
)
def fetch(context: dg.OpExecutionContext) -> Iterator[dg.Output[None]]:
    """Fetch and decode; what cannot be understood becomes a dead letter."""
    with _plainly():
        fetched = _lane(context).fetch()
    if fetched is not None:
        _hand(context).store(context, fetched)
        yield dg.Output(None)


@_after(1, "Stage 1: the event history in Elasticsearch. Replays run on, duplicates stop here.")
def index(context: dg.OpExecutionContext) -> None:
    """Stage 1."""
    _hand(context).store(context, _lane(context).index(_hand(context).load(context, FetchedBatch)))


@_after(2, "Stage 2: the touches of every user in MongoDB.")
def ad_lead(context: dg.OpExecutionContext) -> None:
    """Stage 2."""
    _hand(context).store(context, _lane(context).ad_lead(_hand(context).load(context, IndexedBatch)))


@_after(3, "Stage 3: which ads led to which order.")
def attribution(context: dg.OpExecutionContext) -> None:
    """Stage 3."""
    _hand(context).store(context, _lane(context).attribution(_hand(context).load(context, TouchedBatch)))


@_after(4, "Stage 4: customers in MongoDB, in the background.")
def customer(context: dg.OpExecutionContext) -> None:
    """Stage 4, handed to the pool; waits only when the pool is full."""
    _lane(context).customer(_hand(context).load(context, AttributedBatch))


@_after(4, "Stage 5: product statistics and weekly visitors in Redis, in the background.")
def product_stats(context: dg.OpExecutionContext) -> None:
    """Stage 5, handed to the pool; waits only when the pool is full."""
    _lane(context).product_stats(_hand(context).load(context, AttributedBatch))


@_after(5, "Commit the offsets whose every stage has landed, never past a gap.", "beside")
def commit(context: dg.OpExecutionContext) -> None:
    """Commit."""
    _lane(context).commit(_hand(context).load(context, AttributedBatch).fetched)
    _hand(context).store(context, None)
    if _hand(context).is_due():
        context.log.info(printable(f"so far {summary(_lane(context).metrics)}"))


@dg.op(
    ins={"committed": dg.In(dg.Nothing)},
    out=dg.Out(dg.Nothing),
    required_resource_keys=LANE,
    description="Wait for the background stages, commit, and report what was written.",
)
def report(context: dg.OpExecutionContext) -> None:
    """One materialization for each asset and day that was written, and the run's figures beside the lag."""
    with _plainly():
        metrics = _lane(context).finish()
    context.log.info(printable(outcome(metrics)))
    for materialization in materializations(metrics):
        context.log_event(materialization)
    context.log_event(observed(metrics))


def _hand(context: dg.OpExecutionContext) -> BatchHandoff:
    hand: BatchHandoff = context.resources.lane_run
    return hand


def _lane(context: dg.OpExecutionContext) -> LaneRunner:
    return _hand(context).lane


@dg.graph(description="One micro-batch through the five stages.", ins={"planned": dg.GraphIn()})
def slot(planned: object) -> object:
    """Fetch → index → ad_lead → attribution → customer and product_stats → commit."""
    done = attribution(ad_lead(index(fetch(planned))))
    return commit(before=customer(done), beside=product_stats(done))


@dg.resource
def lane_run(context: dg.InitResourceContext) -> Iterator[BatchHandoff]:
    """The lane that the run's tags name; without tags the first of the lanes that the settings ask for."""
    run = context.run
    tags = run.tags if run else {}
    lane, owner = int(tags.get(LANE_TAG, 0)), run.run_id if run else "-"
    with ExitStack() as until_the_end:

        def opening() -> AbstractContextManager[LaneClaim]:
            settings = load_settings()
            lanes = int(tags.get(LANES_TAG, settings.lanes))
            return claim_lane(settings, lane=lane, lanes=lanes, owner=owner, after=tags.get(AFTER_TAG))

        hand = BatchHandoff(opening, until_the_end)
        yield hand
        if hand.failed and context.instance is not None:
            # Its last op has not come about: what it did until then counts all the same.
            context.instance.report_runless_asset_event(observed(hand.lane.metrics))


@dg.job(
    description="Drains one lane of the topic: micro-batches through the five stages into the stores.",
    executor_def=long_run_executor,
    resource_defs={"lane_run": lane_run},
    config={"loggers": {"console": {"config": {"log_level": "WARNING"}}}},
    # Without this a permanent failure is retried for ever: the sensor decides when a lane runs again.
    tags={"dagster/retry_on_asset_or_op_failure": "false", "dagster/max_retries": "0"},
)
def process_events() -> None:
    """The stream's job."""
    report(plan().map(slot).collect())
