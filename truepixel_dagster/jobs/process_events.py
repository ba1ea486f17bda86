"""The job that drains a lane: plan → for each planned batch fetch, five stages, commit → report.

Later ops have higher priorities: the executor commits one micro-batch before it fetches the next.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from typing import TypeVar

import dagster as dg

from truepixel_dagster.asset_keys import AFTER_TAG, LANE_TAG, LANES_TAG
from truepixel_dagster.instance.executor import long_run_executor
from truepixel_dagster.jobs.expected_errors import expected_errors
from truepixel_dagster.jobs.run_report import materializations, observed, outcome, summary
from truepixel_dagster.jobs.unreported import report_for_others
from truepixel_dagster.pipeline.batches import AttributedBatch, FetchedBatch, IndexedBatch, TouchedBatch
from truepixel_dagster.pipeline.lane_claim import LaneClaim, claim_lane
from truepixel_dagster.pipeline.lane_guard import LaneStopped
from truepixel_dagster.pipeline.rejections import TooManyDeadLetters
from truepixel_dagster.pipeline.runner import LaneRunner
from truepixel_dagster.settings import load_settings
from truepixel_dagster.stores.redis.leases import LaneBusy, LaneLost
from truepixel_dagster.text import printable

LOG_PROGRESS_SECONDS = 60.0
LANE = {"lane_run"}
DEFAULT_OUTPUT = "result"
LANE_ERRORS = (LaneBusy, LaneLost, LaneStopped, TooManyDeadLetters)
Batch = TypeVar("Batch", FetchedBatch, IndexedBatch, TouchedBatch, AttributedBatch)


def _lane_errors() -> AbstractContextManager[None]:
    return expected_errors(also=LANE_ERRORS)


def _priority(value: int) -> dict[str, str]:
    return {"dagster/priority": str(value)}


def _after(
    priority: int, description: str, *others: str
) -> Callable[[Callable[[dg.OpExecutionContext], None]], dg.OpDefinition]:
    """Return a decorator that makes an op of `batch`: it starts when `before` and `others` are complete."""

    def op(work: Callable[[dg.OpExecutionContext], None]) -> dg.OpDefinition:
        def compute(context: dg.OpExecutionContext, _: object) -> Iterator[dg.Output[None]]:
            with _lane_errors():
                work(context)
            yield dg.Output(None)

        # `dg.op` would cost more: Dagster inspects the signature of a decorated function again for each step.
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
    """Hold the run's lane and its current micro-batch, which each op passes to the next.

    The first op that needs the lane claims it, because Dagster reports the failure of an op better than that of a
    resource. Dagster orders the ops but does not carry the data: each value would cost two more events and two type
    checks.

    Arguments:
        claiming: Claims the lane.
        until_the_end: Gives the lane back when the run ends.
    """

    def __init__(self, claiming: Callable[[], AbstractContextManager[LaneClaim]], until_the_end: ExitStack) -> None:
        self._claiming = claiming
        self._until_the_end = until_the_end
        self._claim: LaneClaim | None = None
        self._lane: LaneRunner | None = None
        self._planned_batch = ""
        self._batch: object = None
        self._logged_at = time.monotonic()

    def is_due(self) -> bool:
        """Return whether the run has logged no progress for a minute."""
        due = time.monotonic() - self._logged_at >= LOG_PROGRESS_SECONDS
        if due:
            self._logged_at = time.monotonic()
        return due

    @property
    def claim(self) -> LaneClaim:
        """Return the claim to the lane; this run may still wait for it."""
        if self._claim is None:
            self._claim = self._until_the_end.enter_context(self._claiming())
        return self._claim

    @property
    def lane(self) -> LaneRunner:
        """Return the lane, which this run holds."""
        if self._lane is None:
            self._lane = self._until_the_end.enter_context(self.claim.taken())
        return self._lane

    @property
    def failed(self) -> bool:
        """Return whether this run took the lane and a failure stopped it."""
        return self._lane is not None and self._lane.failure is not None

    def store(self, context: dg.OpExecutionContext, batch: object) -> None:
        """Store the micro-batch for the next op."""
        self._planned_batch, self._batch = str(context.get_mapping_key()), batch

    def load(self, context: dg.OpExecutionContext, kind: type[Batch]) -> Batch:
        """Return the micro-batch that the previous op stored.

        Raises:
            DagsterInvariantViolationError: It belongs to another planned batch, or another stage stored it.
        """
        if self._planned_batch != context.get_mapping_key() or not isinstance(self._batch, kind):
            raise dg.DagsterInvariantViolationError(
                f"{context.op_handle} is not the next op of planned batch {self._planned_batch}"
            )
        return self._batch


@dg.op(
    out=dg.DynamicOut(dg.Nothing),
    required_resource_keys=LANE,
    description="Plans the micro-batches that this run may process, and takes the lane.",
)
def plan(context: dg.OpExecutionContext) -> Iterator[dg.DynamicOutput[None]]:
    """Plan the micro-batches that are waiting, then take the lane: planning before it shortens the handover."""
    with _lane_errors():
        for line in _handoff(context).claim.warnings():
            context.log.warning(printable(line))
        count = _handoff(context).claim.planned_batches()
    for number in range(count):
        yield dg.DynamicOutput(None, mapping_key=f"{number:03d}")
    with _lane_errors():
        for line in (*_lane(context).warnings(), *report_for_others(context.instance, _lane(context))):
            context.log.warning(printable(line))


@dg.op(
    ins={"planned": dg.In(dg.Nothing)},
    out=dg.Out(dg.Nothing, is_required=False),
    required_resource_keys=LANE,
    tags=_priority(0),
    description="Fetches the next micro-batch (by default at most 512 messages and 32 MiB) and decodes it; skips the"
    " planned batch if the lane is idle or stopped.",
)
def fetch(context: dg.OpExecutionContext) -> Iterator[dg.Output[None]]:
    """Fetch and decode; messages that cannot be decoded become dead letters."""
    with _lane_errors():
        fetched = _lane(context).fetch()
    if fetched is not None:
        _handoff(context).store(context, fetched)
        yield dg.Output(None)


@_after(1, "Stage 1: writes the event history in Elasticsearch. Redeliveries continue, duplicates stop here.")
def index(context: dg.OpExecutionContext) -> None:
    """Run stage 1."""
    _handoff(context).store(context, _lane(context).index(_handoff(context).load(context, FetchedBatch)))


@_after(2, "Stage 2: writes each user's touches to MongoDB.")
def ad_lead(context: dg.OpExecutionContext) -> None:
    """Run stage 2."""
    _handoff(context).store(context, _lane(context).ad_lead(_handoff(context).load(context, IndexedBatch)))


@_after(3, "Stage 3: attributes orders to touches.")
def attribution(context: dg.OpExecutionContext) -> None:
    """Run stage 3."""
    _handoff(context).store(context, _lane(context).attribution(_handoff(context).load(context, TouchedBatch)))


@_after(4, "Stage 4: writes customers to MongoDB, in the background.")
def customer(context: dg.OpExecutionContext) -> None:
    """Submit stage 4 to the background pool; wait only if the pool is full."""
    _lane(context).customer(_handoff(context).load(context, AttributedBatch))


@_after(4, "Stage 5: counts product statistics and weekly visitors in Redis, in the background.")
def product_stats(context: dg.OpExecutionContext) -> None:
    """Submit stage 5 to the background pool; wait only if the pool is full."""
    _lane(context).product_stats(_handoff(context).load(context, AttributedBatch))


@_after(5, "Commits the offsets that have completed every stage, never past a gap.", "beside")
def commit(context: dg.OpExecutionContext) -> None:
    """Commit; log the progress once a minute."""
    _lane(context).commit(_handoff(context).load(context, AttributedBatch).fetched)
    _handoff(context).store(context, None)
    if _handoff(context).is_due():
        context.log.info(printable(f"so far {summary(_lane(context).metrics)}"))


@dg.op(
    ins={"committed": dg.In(dg.Nothing)},
    out=dg.Out(dg.Nothing),
    required_resource_keys=LANE,
    description="Waits for the background stages, commits, and reports what was written.",
)
def report(context: dg.OpExecutionContext) -> None:
    """Report one materialization for each asset and day that was written, and the run's figures."""
    with _lane_errors():
        metrics = _lane(context).finish()
    context.log.info(printable(outcome(metrics)))
    for materialization in materializations(metrics):
        context.log_event(materialization)
    context.log_event(observed(metrics))


def _handoff(context: dg.OpExecutionContext) -> BatchHandoff:
    handoff: BatchHandoff = context.resources.lane_run
    return handoff


def _lane(context: dg.OpExecutionContext) -> LaneRunner:
    return _handoff(context).lane


@dg.graph(description="Passes one micro-batch through the five stages.", ins={"planned": dg.GraphIn()})
def batch(planned: object) -> object:
    """Fetch → index → ad_lead → attribution → customer and product_stats → commit."""
    done = attribution(ad_lead(index(fetch(planned))))
    return commit(before=customer(done), beside=product_stats(done))


@dg.resource
def lane_run(context: dg.InitResourceContext) -> Iterator[BatchHandoff]:
    """Claim the lane that the run's tags name; without tags, lane 0 of the number of lanes in the settings."""
    run = context.run
    tags = run.tags if run else {}
    lane, owner = int(tags.get(LANE_TAG, 0)), run.run_id if run else "-"
    with ExitStack() as until_the_end:

        def claiming() -> AbstractContextManager[LaneClaim]:
            settings = load_settings()
            lanes = int(tags.get(LANES_TAG, settings.lanes))
            return claim_lane(settings, lane=lane, lanes=lanes, owner=owner, after=tags.get(AFTER_TAG))

        handoff = BatchHandoff(claiming, until_the_end)
        yield handoff
        if handoff.failed and context.instance is not None:
            # A failed run skips its op `report`: report here what it did before the failure.
            context.instance.report_runless_asset_event(observed(handoff.lane.metrics))


@dg.job(
    description="Drains one lane of the topic: passes its micro-batches through the five stages into the stores.",
    executor_def=long_run_executor,
    resource_defs={"lane_run": lane_run},
    config={"loggers": {"console": {"config": {"log_level": "WARNING"}}}},
    # The sensor decides when a lane runs again; Dagster would retry a permanent failure without end.
    tags={"dagster/retry_on_asset_or_op_failure": "false", "dagster/max_retries": "0"},
)
def process_events() -> None:
    """Plan, process the planned batches, report."""
    report(plan().map(batch).collect())
