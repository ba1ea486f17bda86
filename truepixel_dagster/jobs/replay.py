"""The job that passes ranges of Kafka through the stages again, as `truepixel replay` does."""

from datetime import datetime, timezone

import dagster as dg
import msgspec
from pydantic import Field

from truepixel_dagster.dead_letters.inspect import parse_since
from truepixel_dagster.jobs.expected_errors import expected_errors
from truepixel_dagster.jobs.rebuilding import log_progress
from truepixel_dagster.settings import load_settings
from truepixel_dagster.stages.stage import NAMES

# The launchpad omits nulls. Of these values, only that of `since` differs from omitting it.
_EXAMPLE = {"since": "1h", "until": "0m", "partition": -1, "offsets": "", "stages": list(NAMES)}


class Which(dg.Config):
    """Either a time range (since, until) or a range of one partition's offsets (partition, offsets)."""

    since: str = Field("", description="records written to Kafka since this time (ISO 8601, UTC) or age (2h, 3d)")
    until: str = Field("", description="and before this time or age; now by default")
    partition: int = Field(-1, description="instead of since and until: records of this partition; -1 for none")
    offsets: str = Field("", description="with partition: FIRST:LAST, both included, such as 1200:1711")
    stages: list[str] = Field(
        default=[], description=f"only these stages, such as [index, customer]; all by default: {', '.join(NAMES)}"
    )


@dg.op(
    out=dg.Out(dg.Nothing),
    description="Passes a range of Kafka through the stages again, outside the stream's group; it may be repeated.",
)
def replay_range(context: dg.OpExecutionContext, config: Which) -> None:
    """Replay a range, and report what each stage changed."""
    # Import pandas in replays only.
    from truepixel_dagster.rebuild.context import rebuilding
    from truepixel_dagster.rebuild.replay import replay, stages_of, where_of

    now = datetime.now(timezone.utc)
    with expected_errors(also=(ValueError,)):
        since = parse_since(config.since, now) if config.since else None
        until = parse_since(config.until, now) if config.until else None
        with rebuilding(load_settings()) as tools:
            partition = config.partition if config.partition >= 0 else None
            where = where_of(tools, since=since, until=until, partition=partition, offsets=config.offsets or None)
            result = replay(tools, where, stages_of(config.stages), log_progress(context.log.info))
    context.add_output_metadata(
        {"records": result.records, "events": result.events, "older events": result.older}
        | {f"changed by {stage}": done.changed + done.removed for stage, done in result.stages.items()}
        | {"stages": dg.JsonMetadataValue(msgspec.to_builtins(result.stages))}
    )


@dg.job(
    description=(
        "Passes a range of Kafka through the stages again: by time, or by the offsets that a run of process_events"
        " reports. It corrects wrong documents and changes no others."
    ),
    executor_def=dg.in_process_executor,
    config={"ops": {"replay_range": {"config": _EXAMPLE}}},
    tags={"dagster/retry_on_asset_or_op_failure": "false", "dagster/max_retries": "0"},
)
def replay() -> None:
    """Run the op."""
    replay_range()
