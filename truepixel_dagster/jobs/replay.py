"""The job that runs ranges of Kafka through the stages again: what `truepixel replay` does, as a run."""

from datetime import datetime, timezone
from typing import Optional

import dagster as dg
import msgspec
from pydantic import Field

from truepixel_dagster.dead_letters.inspect import parse_since
from truepixel_dagster.jobs.plainly import plainly
from truepixel_dagster.jobs.rebuilding import telling
from truepixel_dagster.settings import load_settings

# Dagster reads the annotations, on Python 3.10 too.
_Text = Optional[str]  # noqa: UP045


class Which(dg.Config):
    """Either a time range or offsets of one partition."""

    since: _Text = Field(None, description="written to Kafka at this time (ISO 8601, UTC) or within this age (2h, 3d)")
    until: _Text = Field(None, description="and before this time or age; now by default")
    partition: Optional[int] = Field(None, description="or: of this partition")  # noqa: UP045
    offsets: _Text = Field(None, description="FIRST:LAST, both included")
    stages: list[str] = Field(default=[], description="only these stages, in their order; all by default")


@dg.op(
    out=dg.Out(dg.Nothing),
    description="Runs a range of Kafka through the stages again, outside of the stream's group; twice is harmless.",
)
def replay_range(context: dg.OpExecutionContext, config: Which) -> None:
    """Replay, and report what each stage had to change."""
    # Only a replay pays for pandas.
    from truepixel_dagster.rebuild.context import rebuilding
    from truepixel_dagster.rebuild.replay import replay, stages_of, where_of

    now = datetime.now(timezone.utc)
    with plainly(also=(ValueError,)):
        since = parse_since(config.since, now) if config.since else None
        until = parse_since(config.until, now) if config.until else None
        with rebuilding(load_settings()) as tools:
            where = where_of(tools, since=since, until=until, partition=config.partition, offsets=config.offsets)
            result = replay(tools, where, stages_of(config.stages), telling(context.log.info))
    context.add_output_metadata(
        {"records": result.records, "events": result.events, "older events": result.older}
        | {f"changed by {stage}": done.changed + done.removed for stage, done in result.stages.items()}
        | {"stages": dg.JsonMetadataValue(msgspec.to_builtins(result.stages))}
    )


@dg.job(
    description=(
        "Runs a range of Kafka through the stages again: by time, or by the offsets that a run of process_events"
        " reports. It corrects what is wrong and changes nothing else."
    ),
    executor_def=dg.in_process_executor,
    tags={"dagster/retry_on_asset_or_op_failure": "false", "dagster/max_retries": "0"},
)
def replay() -> None:
    """One op."""
    replay_range()
