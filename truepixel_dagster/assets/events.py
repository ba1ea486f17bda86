"""Define the asset of the event history, which the stream writes and a materialization reads from Kafka again."""

import dagster as dg

from truepixel_dagster.asset_keys import EVENTS, KAFKA_TOPIC
from truepixel_dagster.assets.rebuilt import rebuilt
from truepixel_dagster.assets.storage import in_index
from truepixel_dagster.jobs.rebuilding import rebuilding


@rebuilt(
    EVENTS,
    deps=[KAFKA_TOPIC],
    description=(
        "Every event once, with its raw payload and the origin of its Kafka record: Elasticsearch"
        " `<namespace>-events-YYYY.MM`, by the day on which it happened. Runs of process_events write it."
        " Materializing a day indexes it from Kafka again; events whose records retention has removed are decoded"
        " again from their documents."
    ),
    kind="elasticsearch",
    metadata=in_index("events"),
)
def events(context: dg.AssetExecutionContext) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Index days again."""
    from truepixel_dagster.rebuild.events import rebuild_days

    return rebuilding(context, rebuild_days)
