"""The exporter's figures of the health checks while one of them is evaluated again."""

from __future__ import annotations

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationPlanned
from dagster._core.events import DagsterEvent

from truepixel_dagster.exporter.history import History

HEALTH, CHECK = dg.AssetKey("health"), "lag"


def test_a_check_that_is_evaluated_again_keeps_its_last_result() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        history = History(lambda: instance, "tests")
        assert history._latest(instance) == {}
        instance.report_runless_asset_event(dg.AssetCheckEvaluation(HEALTH, CHECK, passed=False, metadata={}))
        begin(instance)
        evaluation, _ = history._latest(instance)[CHECK]
        assert evaluation.passed is False


def begin(instance: dg.DagsterInstance) -> None:
    """Plan an evaluation of the check that may never happen."""
    planned = AssetCheckEvaluationPlanned(asset_key=HEALTH, check_name=CHECK)
    kind = dg.DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED.value
    event = DagsterEvent(event_type_value=kind, job_name="check_health", event_specific_data=planned)
    instance.report_dagster_event(event, run_id="again")
