"""The job that processes Shopify's requests about personal data, as `truepixel privacy run` does."""

import dagster as dg
import msgspec

from truepixel_dagster.jobs.expected_errors import expected_errors
from truepixel_dagster.settings import load_settings
from truepixel_dagster.text import printable


@dg.op(
    out=dg.Out(dg.Nothing),
    description="Answers data requests and redacts customers and shops, in the order of the requests.",
)
def do_requests(context: dg.OpExecutionContext) -> None:
    """Process the requests, and report the result of each without personal data."""
    # Import pandas in this run only.
    from truepixel_dagster.privacy.requests import LeftOver, run

    outcomes = []
    with expected_errors(also=(LeftOver, OSError)):
        for outcome in run(load_settings(), lambda line: context.log.info(printable(line))):
            outcomes.append(outcome)
            context.log.info(printable(f"{outcome.topic} ({outcome.id}) is done: {outcome.documents}"))
    context.add_output_metadata(
        {"requests done": len(outcomes), "requests": dg.JsonMetadataValue(msgspec.to_builtins(outcomes))}
    )


@dg.job(
    description="Answers data requests and redacts customers and shops. The next run continues what was interrupted.",
    executor_def=dg.in_process_executor,
    tags={"dagster/retry_on_asset_or_op_failure": "false", "dagster/max_retries": "0"},
)
def privacy() -> None:
    """Run the op."""
    do_requests()
