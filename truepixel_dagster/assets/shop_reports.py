"""Define the asset of the shops' reports: a page for each shop in the lake, with figures and a picture in the UI."""

import dagster as dg

from truepixel_dagster import asset_keys as keys
from truepixel_dagster.assets.kafka_topic import OWNERS
from truepixel_dagster.jobs.cost import Cost
from truepixel_dagster.jobs.expected_errors import expected_errors
from truepixel_dagster.jobs.rebuilding import log_progress
from truepixel_dagster.lake.errors import LakeError, QueryRefused
from truepixel_dagster.settings import load_settings
from truepixel_dagster.text import as_picture

_SHOWN = 20


@dg.multi_asset(
    name="rebuild_shop_reports",
    specs=[
        dg.AssetSpec(
            keys.SHOP_REPORTS,
            deps=[keys.MARKETING_DAILY, keys.FUNNEL_DAILY, keys.COHORTS, keys.JOURNEYS],
            description=(
                "The last 30 days of each shop as a page: summary, revenue and ROAS by channel, funnel, campaigns,"
                " cohorts and top paths. HTML `shop_reports` in the lake, by day and shop."
            ),
            group_name="truepixel",
            owners=OWNERS,
            kinds={"html"},
        )
    ],
)
def shop_reports(context: dg.AssetExecutionContext) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Write the pages of today."""
    from truepixel_dagster.rebuild.lake import making
    from truepixel_dagster.rebuild.shop_reports import figures_of, largest, make_shop_reports, page_path, picture
    from truepixel_dagster.report.drawing import NotDrawn, drawing

    cost = Cost()
    also = (LakeError, QueryRefused, NotDrawn, OSError)
    with expected_errors(". Materialize it again", also=also), making(load_settings()) as tools, drawing() as draw:
        count, best = largest(make_shop_reports(tools, draw.svg, progress=log_progress(context.log.info)), _SHOWN)
        metadata: dict[str, dg.MetadataValue] = {}
        if best and best[0].by_day:
            metadata = {
                "figures": dg.MetadataValue.table([dg.TableRecord(row) for row in figures_of(best)]),
                "preview": dg.MetadataValue.md(as_picture(draw.png(picture(best[0])))),
                "path": dg.MetadataValue.path(page_path(tools.lake, best[0])),
            }
    return dg.MaterializeResult(
        metadata={
            "pages": count,
            **metadata,
            **cost.metadata(),
        }
    )
