"""What is checked of the assets, by the clock or by hand."""

import dagster as dg

from truepixel_dagster.asset_keys import AUDIT, EVENTS
from truepixel_dagster.audit.audit import audit as run_audit
from truepixel_dagster.flush import FlushRefused
from truepixel_dagster.settings import load_settings
from truepixel_dagster.stores.errors import Unavailable
from truepixel_dagster.stream.errors import KafkaError

SHOWN = 50


@dg.asset_check(
    asset=EVENTS,
    name=AUDIT,
    description=(
        "Every store holds what the topic says it should, by an independent oracle: events, touches, attributions,"
        " customers, product statistics, visitors and dead letters, up to the committed offsets."
    ),
)
def audit() -> dg.AssetCheckResult:
    """Audit the pipeline while it works."""
    try:
        found = run_audit(load_settings())
    except (Unavailable, KafkaError, FlushRefused) as error:
        raise dg.Failure(description=str(error), allow_retries=False) from error
    return dg.AssetCheckResult(
        passed=not found.differences,
        description=(
            f"{len(found.differences)} differences; `truepixel audit` lists them all" if found.differences else None
        ),
        metadata={
            "records": found.records,
            "differences": len(found.differences),
            "events not judged": found.not_judged,
            "examples": dg.JsonMetadataValue([str(difference) for difference in found.differences[:SHOWN]]),
        },
    )
