"""The job that reprocesses dead letters, as `truepixel dead-letters replay` does."""

from datetime import datetime, timezone

import dagster as dg
import msgspec
from pydantic import Field

from truepixel_dagster.dead_letters.inspect import WAITING, Listed, Wanted, as_row, parse_since
from truepixel_dagster.dead_letters.reprocess import plan, reopen, replay
from truepixel_dagster.dead_letters.topic import parse_origin
from truepixel_dagster.jobs.expected_errors import expected_errors
from truepixel_dagster.settings import Settings, load_settings
from truepixel_dagster.stages.stage import REJECTING

SHOWN = 50


class Which(dg.Config):
    """Select dead letters: those that match every given value; all by default."""

    stage: str = Field("", description=f"dead letters of this stage: {', '.join(REJECTING)}")
    since: str = Field("", description="dead letters written since this time (ISO 8601, UTC) or age (2h, 3d)")
    shop: str = Field("", description="dead letters of this shop")
    origins: list[str] = Field(default=[], description="dead letters of these records, as topic/partition/offset")
    error: str = Field("", description="dead letters with this text in their error")
    dry_run: bool = Field(False, description="reprocess nothing; the run's metadata show what would be reprocessed")
    reopen: bool = Field(False, description="first reopen those that were given up")


@dg.op(
    out=dg.Out(dg.Nothing),
    description="Reprocesses the waiting dead letters from the stage that rejected them; each is applied exactly once.",
)
def replay_letters(context: dg.OpExecutionContext, config: Which) -> None:
    """Reprocess them, and report the counts as metadata."""
    if config.stage not in ("", *REJECTING):
        raise dg.Failure(
            description=f"stage {config.stage!r} is not one of {', '.join(REJECTING)}", allow_retries=False
        )
    with expected_errors(also=(ValueError,)):
        settings = load_settings()
        wanted = _wanted(config, settings)
        if config.dry_run:
            ready, in_flight, given_up = plan(settings, **wanted)
            rows = [as_row(Listed(dead_letter, WAITING)) for dead_letter in ready[:SHOWN]]
            counts = {"would replay": len(ready), "in flight": in_flight, "given up": given_up}
            context.add_output_metadata({**counts, "letters": dg.JsonMetadataValue(rows)})
            return
        reopened = reopen(settings, **wanted) if config.reopen else 0
        result = replay(settings, **wanted)
    counts = {name.replace("_", " "): count for name, count in msgspec.to_builtins(result).items()}
    context.add_output_metadata({**counts, "reopened": reopened})


def _wanted(config: Which, settings: Settings) -> Wanted:
    since = parse_since(config.since, datetime.now(timezone.utc)) if config.since else None
    origins = set()
    for text in config.origins:
        origin = parse_origin(text, settings.topic)
        if origin is None:
            raise ValueError(f"{text[:100]!r} is not topic/partition/offset")
        origins.add(origin)
    return {
        "stage": config.stage or None,
        "since": since,
        "shop": config.shop or None,
        "origins": origins,
        "error": config.error or None,
    }


@dg.job(
    description="Reprocesses dead letters after their cause was corrected. Running it twice is harmless: a dead letter"
    " that is rejected as before uses no try.",
    executor_def=dg.in_process_executor,
    tags={"dagster/retry_on_asset_or_op_failure": "false", "dagster/max_retries": "0"},
)
def replay_dead_letters() -> None:
    """Run the op."""
    replay_letters()
