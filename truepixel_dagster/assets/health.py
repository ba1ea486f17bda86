"""Define the checks of the pipeline's health, which run by schedule or by hand."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import dagster as dg

from truepixel_dagster.asset_keys import (
    ANSWERS_SUM,
    AUDIT,
    CUSTOMERS,
    HEALTH,
    JOURNEYS_MATCH,
    LAKE,
    PRODUCT_STATS,
    WEEKLY_VISITORS,
)
from truepixel_dagster.assets.kafka_topic import OWNERS
from truepixel_dagster.jobs.expected_errors import expected_errors
from truepixel_dagster.lake.errors import LakeError, QueryRefused
from truepixel_dagster.resources import open_stores
from truepixel_dagster.settings import load_settings
from truepixel_dagster.text import printable

if TYPE_CHECKING:
    from truepixel_dagster.health.verdict import Verdict
    from truepixel_dagster.rebuild.context import RebuildContext

SHOWN = 50
# The data written so far is correct, but an operator should look soon.
WARN = dg.AssetCheckSeverity.WARN


health = dg.AssetSpec(
    HEALTH,
    deps=[CUSTOMERS, PRODUCT_STATS, WEEKLY_VISITORS, *LAKE],
    description=(
        "The checks of everything that the pipeline produces, every hour, and the audit every night. A failed check"
        " shows the next step. Never materialized, so that a result stays visible until the check runs again."
    ),
    group_name="truepixel",
    owners=OWNERS,
    kinds={"dagster"},
)


@dg.asset_check(
    asset=HEALTH,
    name=AUDIT,
    description=(
        "Every store holds the documents that an independent oracle computes from the topic: events, touches,"
        " attributions, customers, product statistics, visitors and dead letters, up to the committed offsets."
    ),
)
def audit() -> dg.AssetCheckResult:
    """Audit the pipeline while it runs."""
    from truepixel_dagster.audit.audit import audit as run_audit

    with expected_errors():
        found = run_audit(load_settings())
    return dg.AssetCheckResult(
        passed=not found.differences,
        description=(
            f"{len(found.differences)} differences; `truepixel audit` lists them all" if found.differences else None
        ),
        metadata={
            "records": found.records,
            "differences": len(found.differences),
            "events not judged": found.not_judged,
            "differences excused": len(found.excused),
            "lost to retention": found.lost_to_retention,
            "ranges lost to retention": dg.JsonMetadataValue(found.lost_ranges[:SHOWN]),
            "examples": dg.JsonMetadataValue([printable(str(difference)) for difference in found.differences[:SHOWN]]),
        },
    )


@dg.asset_check(
    asset=HEALTH,
    name=JOURNEYS_MATCH,
    description="Journeys by person equal the stream's attributions if all touches of an order are of its own client.",
)
def journeys_match() -> dg.AssetCheckResult:
    """Compare journeys with attributions."""
    from truepixel_dagster.health.journeys import journeys_match as look
    from truepixel_dagster.rebuild.lake import making

    def looking() -> "Verdict":
        with making(load_settings()) as tools:
            return look(tools)

    return _judge(looking)


@dg.asset_check(
    asset=HEALTH,
    name=ANSWERS_SUM,
    description="For every shop, day and model, marketing_daily and credits sum to the attributions.",
)
def answers_sum() -> dg.AssetCheckResult:
    """Compare the tables with the attributions."""
    from truepixel_dagster.health.lake import answers_sum as look

    return _judge(lambda: look(load_settings()))


def _judge(
    look: Callable[[], "Verdict"], severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR
) -> dg.AssetCheckResult:
    with expected_errors(also=(LakeError, QueryRefused)):
        found = look()
    return dg.AssetCheckResult(
        passed=found.passed, severity=severity, description=found.description or None, metadata=found.figures
    )


def _with_history(look: Callable[["RebuildContext"], "Verdict"]) -> Callable[[], "Verdict"]:
    from truepixel_dagster.rebuild.context import rebuilding

    def looking() -> "Verdict":
        with rebuilding(load_settings()) as context:
            return look(context)

    return looking


@dg.asset_check(
    asset=HEALTH,
    description="Every Kafka record below the committed offsets is indexed, a duplicate, or a dead letter.",
)
def records_accounted() -> dg.AssetCheckResult:
    """Find unaccounted records."""
    from truepixel_dagster.health.records import records_accounted as look

    return _judge(_with_history(look))


@dg.asset_check(
    asset=HEALTH,
    description="The share of the last hour's records that became dead letters is at most"
    " TRUEPIXEL_ALERT_DEAD_LETTER_SHARE.",
)
def dead_letter_share() -> dg.AssetCheckResult:
    """Check the share of dead letters."""
    from truepixel_dagster.health.flow import dead_letter_share as look

    return _judge(lambda: look(load_settings(), time.time()), WARN)


@dg.asset_check(asset=HEALTH, description="Every order in the event history has its attribution.")
def orders_attributed() -> dg.AssetCheckResult:
    """Find orders without an attribution."""
    from truepixel_dagster.health.orders import orders_attributed as look

    return _judge(_with_history(look))


@dg.asset_check(asset=HEALTH, description="By each of the five models, an order's credits sum to its value and net.")
def credits_sum() -> dg.AssetCheckResult:
    """Find orders whose credits do not sum up."""
    from truepixel_dagster.health.orders import credits_sum as look

    return _judge(_with_history(look))


@dg.asset_check(
    asset=HEALTH,
    description="The counters of a random shop and day equal the counts of the event history.",
)
def counters_match() -> dg.AssetCheckResult:
    """Compare counters with the event history."""
    from truepixel_dagster.health.counters import counters_match as look
    from truepixel_dagster.health.counters import sample

    return _judge(_with_history(lambda context: look(context, sample(context))))


@dg.asset_check(
    asset=HEALTH,
    description="No counter and no open claim has waited in Redis for longer than TRUEPIXEL_ALERT_BUFFER seconds.",
)
def buffer_age() -> dg.AssetCheckResult:
    """Check the age of the oldest counter."""
    from truepixel_dagster.health.counters import buffer_age as look

    def looking() -> "Verdict":
        settings = load_settings()
        with open_stores(settings) as stores:
            return look(settings, stores, time.time())

    return _judge(looking, WARN)


@dg.asset_check(
    asset=HEALTH,
    description="No more than TRUEPIXEL_ALERT_LAG messages wait, and none longer than TRUEPIXEL_ALERT_WAITING seconds.",
)
def lag() -> dg.AssetCheckResult:
    """Check the lag."""
    from truepixel_dagster.health.flow import keeps_up

    return _judge(lambda: keeps_up(load_settings(), time.time()), WARN)


@dg.asset_check(
    asset=HEALTH,
    description="In the last seven days, retention removed no record before it was read.",
)
def read_in_time() -> dg.AssetCheckResult:
    """Find records that retention removed before they were read."""
    from truepixel_dagster.health.flow import read_in_time as look

    return _judge(lambda: look(load_settings(), time.time()))


@dg.asset_check(
    asset=HEALTH,
    description="No day of the lake's tables is stale: since it was materialized, its sources have not changed.",
)
def days_fresh() -> dg.AssetCheckResult:
    """Find stale days."""
    from truepixel_dagster.health.lake import days_fresh as look

    return _judge(lambda: look(load_settings()), WARN)


health_checks = [
    records_accounted,
    dead_letter_share,
    orders_attributed,
    credits_sum,
    counters_match,
    buffer_age,
    lag,
    read_in_time,
    days_fresh,
]
