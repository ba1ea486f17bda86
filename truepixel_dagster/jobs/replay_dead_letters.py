"""The job that has dead letters come back: what `truepixel dead-letters replay` does, as a run."""

from datetime import datetime, timezone
from typing import Optional

import dagster as dg
import msgspec

from truepixel_dagster.jobs.letters import parse_since
from truepixel_dagster.jobs.letters_replay import replay
from truepixel_dagster.jobs.plainly import plainly
from truepixel_dagster.settings import load_settings
from truepixel_dagster.stream.dead_letters import STAGES


class Which(dg.Config):
    """Which letters: of one stage, written since a time (ISO 8601) or within an age (2h, 3d); all by default."""

    stage: Optional[str] = None  # noqa: UP045 (Dagster reads the annotation, on Python 3.10 too)
    since: Optional[str] = None  # noqa: UP045


@dg.op(
    out=dg.Out(dg.Nothing),
    description="Runs the dead letters that wait on from the stage that refused them; each is applied exactly once.",
)
def replay_letters(context: dg.OpExecutionContext, config: Which) -> None:
    """Replay, and report the counts as metadata."""
    if config.stage not in (None, *STAGES):
        raise dg.Failure(description=f"stage {config.stage!r} is none of {', '.join(STAGES)}", allow_retries=False)
    with plainly(also=(ValueError,)):
        since = parse_since(config.since, datetime.now(timezone.utc)) if config.since else None
        result = replay(load_settings(), stage=config.stage, since=since)
    counts = {name.replace("_", " "): count for name, count in msgspec.to_builtins(result).items()}
    context.add_output_metadata(counts)


@dg.job(
    description="Has dead letters come back after what refused them was put right. Twice does no harm.",
    executor_def=dg.in_process_executor,
    tags={"dagster/retry_on_asset_or_op_failure": "false", "dagster/max_retries": "0"},
)
def replay_dead_letters() -> None:
    """One op."""
    replay_letters()
