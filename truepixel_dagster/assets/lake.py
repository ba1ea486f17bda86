"""Define the tables of the lake: Parquet by day and shop, computed from the stores, from imports and other tables."""

from collections.abc import Sequence

import dagster as dg

from truepixel_dagster import asset_keys as keys
from truepixel_dagster.answers import tables
from truepixel_dagster.answers.rates import STANDS_DAYS
from truepixel_dagster.assets.rebuilt import rebuilt
from truepixel_dagster.assets.storage import in_lake
from truepixel_dagster.jobs.lake import made


def _table(
    key: str, deps: Sequence[str | dg.AssetDep], table: tables.LakeTable, more: str = "", kind: str = "parquet"
) -> dg.AssetsDefinition:
    """Return an asset that computes the days of a table."""

    @rebuilt(
        key,
        deps=deps,
        description=f"{table.says}{more} Parquet `{table.path}` in the lake, by the shop's day.",
        kind=kind,
        metadata=in_lake(table),
    )
    def asset(context: dg.AssetExecutionContext) -> dg.MaterializeResult:  # type: ignore[type-arg]
        return made(context, key)

    return asset


_STANDING = dg.AssetDep(keys.RATES, partition_mapping=dg.TimeWindowPartitionMapping(start_offset=-STANDS_DAYS))

lake_events = _table(keys.LAKE_EVENTS, [keys.EVENTS], tables.EVENTS)
lake_orders = _table(keys.LAKE_ORDERS, [keys.ATTRIBUTIONS], tables.ORDERS, " Their credits are in `credits`.")
lake_customers = _table(keys.LAKE_CUSTOMERS, [keys.CUSTOMERS], tables.CUSTOMERS)
lake_product_stats = _table(keys.LAKE_PRODUCT_STATS, [keys.PRODUCT_STATS], tables.PRODUCT_STATS)
ad_spend = _table(keys.AD_SPEND, [], tables.AD_SPEND)
rates = _table(keys.RATES, [], tables.RATES)
marketing_daily = _table(
    keys.MARKETING_DAILY,
    [keys.LAKE_EVENTS, keys.LAKE_ORDERS, keys.JOURNEYS, keys.AD_SPEND, _STANDING],
    tables.MARKETING_DAILY,
)
funnel_daily = _table(keys.FUNNEL_DAILY, [keys.LAKE_EVENTS, keys.LAKE_ORDERS], tables.FUNNEL_DAILY)

lake_tables = [
    lake_events,
    lake_orders,
    lake_customers,
    lake_product_stats,
    ad_spend,
    rates,
    marketing_daily,
    funnel_daily,
]
