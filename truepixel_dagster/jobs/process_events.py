"""The job that drains a lane: plan → slots → fetch, five stages, commit → report.

Rising priorities along the stages have the executor take one micro-batch to its commit before it fetches the next.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from truepixel_dagster.asset_keys import (
    AD_LEADS,
    ATTRIBUTIONS,
    CUSTOMERS,
    EVENTS,
    KAFKA_TOPIC,
    LANE_TAG,
    LANES_TAG,
    PRODUCT_STATS_BUFFER,
)
from truepixel_dagster.jobs.lane_run import (
    Known,
    LaneRun,
    LaneStopped,
    Led,
    Slot,
    Sorted,
    TooManyDeadLetters,
    open_lane,
)
from truepixel_dagster.jobs.slot_values import slot_values
from truepixel_dagster.jobs.tally import Tally, peak_memory
from truepixel_dagster.settings import load_settings
from truepixel_dagster.stores.errors import Unavailable
from truepixel_dagster.stores.leases import LaneLost
from truepixel_dagster.stream.errors import KafkaUnavailable

LANE = {"lane_run"}
LATENCIES = "attribution latencies (ms)"
EXPECTED = (Unavailable, KafkaUnavailable, LaneLost, LaneStopped, TooManyDeadLetters)


@contextmanager
def _plainly() -> Iterator[None]:
    """An error that operators know is shown by its message alone; nothing is gained by trying the op again."""
    try:
        yield
    except EXPECTED as error:
        raise dg.Failure(description=str(error), allow_retries=False) from error


def _priority(value: int) -> dict[str, str]:
    return {"dagster/priority": str(value)}


@dg.op(out=dg.DynamicOut(int), required_resource_keys=LANE, description="How many micro-batches this run may drain.")
def plan(context: dg.OpExecutionContext) -> Iterator[dg.DynamicOutput[int]]:
    """Plan a slot for each micro-batch that lies there."""
    with _plainly():
        for line in _lane(context).warnings():
            context.log.warning(line)
        count = _lane(context).slots()
    for number in range(count):
        yield dg.DynamicOutput(number, mapping_key=f"s{number:03d}")


@dg.op(
    out=dg.Out(Slot, is_required=False),
    required_resource_keys=LANE,
    tags=_priority(0),
    description="The next micro-batch: at most 512 messages and 32 MiB; skipped when the lane is idle or stopped.",
)
def fetch(context: dg.OpExecutionContext, number: int) -> Iterator[dg.Output[Slot]]:
    """Fetch and decode; what cannot be understood becomes a dead letter."""
    context.log.debug("slot %d", number)
    with _plainly():
        fetched = _lane(context).fetch()
    if fetched is not None:
        yield dg.Output(fetched)


@dg.op(
    required_resource_keys=LANE,
    tags=_priority(1),
    description="Stage 1: the event history in Elasticsearch. Replays run on, duplicates stop here.",
)
def index(context: dg.OpExecutionContext, slot: Slot) -> Known:
    """Stage 1."""
    with _plainly():
        return _lane(context).index(slot)


@dg.op(required_resource_keys=LANE, tags=_priority(2), description="Stage 2: the touches of every user in MongoDB.")
def ad_lead(context: dg.OpExecutionContext, known: Known) -> Led:
    """Stage 2."""
    with _plainly():
        return _lane(context).ad_lead(known)


@dg.op(required_resource_keys=LANE, tags=_priority(3), description="Stage 3: which ads led to which order.")
def attribution(context: dg.OpExecutionContext, led: Led) -> Sorted:
    """Stage 3."""
    with _plainly():
        return _lane(context).attribution(led)


@dg.op(
    out=dg.Out(dg.Nothing),
    required_resource_keys=LANE,
    tags=_priority(4),
    description="Stage 4: customers in MongoDB, in the background.",
)
def customer(context: dg.OpExecutionContext, done: Sorted) -> None:
    """Stage 4, handed to the pool; waits only when the pool is full."""
    with _plainly():
        _lane(context).customer(done)


@dg.op(
    out=dg.Out(dg.Nothing),
    required_resource_keys=LANE,
    tags=_priority(4),
    description="Stage 5: product statistics and weekly visitors in Redis, in the background.",
)
def product_stats(context: dg.OpExecutionContext, done: Sorted) -> None:
    """Stage 5, handed to the pool; waits only when the pool is full."""
    with _plainly():
        _lane(context).product_stats(done)


@dg.op(
    ins={"customers": dg.In(dg.Nothing), "products": dg.In(dg.Nothing)},
    required_resource_keys=LANE,
    tags=_priority(5),
    description="Commit the offsets whose every stage has landed, never past a gap.",
)
def commit(context: dg.OpExecutionContext, slot: Slot) -> int:
    """Commit."""
    with _plainly():
        _lane(context).commit(slot)
    return len(slot.batch.messages)


@dg.op(required_resource_keys=LANE, description="Wait for the background stages, commit, and report what was written.")
def report(context: dg.OpExecutionContext, messages: list[int]) -> int:
    """One materialization for each asset and day that was written, and the run's figures beside the lag."""
    with _plainly():
        tally = _lane(context).finish()
        waiting = _lane(context).waiting()
    for materialization in materializations(tally):
        context.log_event(materialization)
    context.log_event(observed(tally, waiting))
    return sum(messages)


def materializations(tally: Tally) -> Iterator[dg.AssetMaterialization]:
    """What a run wrote: one for each asset and day, however many micro-batches it took."""
    ranges: dict[str, dg.MetadataValue] = {"offsets": offsets(tally)} if tally.ranges else {}
    units = {EVENTS: "events", AD_LEADS: "events with an ad", ATTRIBUTIONS: "sightings of orders", CUSTOMERS: "events"}
    for asset, unit in units.items():
        for day, count in tally.by_day(asset).items():
            counts: dict[str, dg.MetadataValue] = {unit: dg.IntMetadataValue(count)}
            written: dict[str, dg.MetadataValue] = {"written by": dg.TextMetadataValue("stream")}
            own = ranges if asset == EVENTS else {}
            yield dg.AssetMaterialization(asset_key=asset, partition=day, metadata={**written, **counts, **own})
    if tally.counted:
        yield dg.AssetMaterialization(asset_key=PRODUCT_STATS_BUFFER, metadata={"events counted": tally.counted})


def offsets(tally: Tally) -> dg.TableMetadataValue:
    """The offsets that a run went through, each with the command that goes through them again."""
    rows = [
        dg.TableRecord(
            {
                "partition": r.partition,
                "first": r.first,
                "last": r.last,
                "again": f"truepixel replay --partition {r.partition} --offsets {r.first}:{r.last}",
            }
        )
        for _, r in sorted(tally.ranges.items())
    ]
    return dg.MetadataValue.table(rows)


def observed(tally: Tally, waiting: int) -> dg.AssetObservation:
    """A run's figures, on the topic: an asset without partitions plots them by time.

    Arguments:
        tally: What the run counted.
        waiting: Messages left in the lane.
    """
    figures: dict[str, int | float] = {
        "messages": tally.messages,
        "micro-batches": tally.batches,
        "messages per minute": round(tally.per_minute),
        "messages left waiting": waiting,
        "indexed": tally.indexed,
        "duplicates": tally.duplicates,
        "replays": tally.replays,
        "dead letters": sum(tally.dead_letters.values()),
        "users touched": tally.touched,
        "orders": tally.orders,
        "status changes": tally.statuses,
        "attribution p50 (ms)": round(tally.latency(50), 1),
        "attribution p95 (ms)": round(tally.latency(95), 1),
        "peak memory (MiB)": round(peak_memory() / 2**20, 1),
    }
    figures |= {f"{stage} (s)": round(seconds, 3) for stage, seconds in sorted(tally.stage_seconds.items())}
    latencies = dg.JsonMetadataValue([round(latency, 1) for latency in tally.latencies])
    ranges = {"offsets": offsets(tally)} if tally.ranges else {}
    return dg.AssetObservation(asset_key=KAFKA_TOPIC, metadata={**figures, LATENCIES: latencies, **ranges})


def _lane(context: dg.OpExecutionContext) -> LaneRun:
    lane: LaneRun = context.resources.lane_run
    return lane


@dg.graph(description="One micro-batch through the five stages.")
def slot(number: int) -> int:
    """Fetch → index → ad_lead → attribution → customer and product_stats → commit."""
    fetched = fetch(number)
    done = attribution(ad_lead(index(fetched)))
    return commit(fetched, customers=customer(done), products=product_stats(done))  # type: ignore[no-any-return]


@dg.resource
def lane_run(context: dg.InitResourceContext) -> Iterator[LaneRun]:
    """The lane that the run's tags name; without tags the first of the lanes that the settings ask for."""
    settings = load_settings()
    run = context.run
    tags = run.tags if run else {}
    lanes = int(tags.get(LANES_TAG, settings.lanes))
    with open_lane(settings, lane=int(tags.get(LANE_TAG, 0)), lanes=lanes, owner=run.run_id if run else "-") as lane:
        yield lane


@dg.job(
    description="Drains one lane of the topic: micro-batches through the five stages into the stores.",
    executor_def=dg.in_process_executor,
    resource_defs={"lane_run": lane_run, "io_manager": slot_values},
    config={"loggers": {"console": {"config": {"log_level": "WARNING"}}}},
    # Without this a permanent failure is retried for ever: the sensor decides when a lane runs again.
    tags={"dagster/retry_on_asset_or_op_failure": "false", "dagster/max_retries": "0"},
)
def process_events() -> None:
    """The stream's job."""
    report(plan().map(slot).collect())
