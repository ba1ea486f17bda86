"""Define the asset of people: clients, customers, addresses and orders joined into persons, for all of time."""

import dagster as dg

from truepixel_dagster import asset_keys as keys
from truepixel_dagster.answers import tables
from truepixel_dagster.assets.kafka_topic import OWNERS
from truepixel_dagster.assets.storage import in_lake
from truepixel_dagster.jobs.lake import reported


@dg.multi_asset(
    name="rebuild_people",
    specs=[
        dg.AssetSpec(
            keys.PEOPLE,
            deps=[keys.ATTRIBUTIONS, keys.CUSTOMERS],
            description=f"{tables.PEOPLE.says} Parquet `{tables.PEOPLE.path}` in the lake, by shop.",
            group_name="truepixel",
            owners=OWNERS,
            kinds={"parquet"},
            metadata=in_lake(tables.PEOPLE),
        )
    ],
)
def people(context: dg.AssetExecutionContext) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Join the persons of every shop again."""
    from truepixel_dagster.rebuild.lake import make
    from truepixel_dagster.rebuild.people import ALWAYS, PEOPLE_MAKER

    return reported(context, lambda tools, progress: make(tools, PEOPLE_MAKER, [ALWAYS], progress))
