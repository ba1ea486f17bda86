"""Build events of a run that another process reports.

Private: the form of a materialization in a run's event. The public way, `report_runless_asset_event`, reports
without a run, so that the UI does not show which run wrote a day.
"""

from __future__ import annotations

import dagster as dg
from dagster._core.events import StepMaterializationData


def as_event(run: dg.DagsterRun, materialization: dg.AssetMaterialization) -> dg.DagsterEvent:
    """Return the event of a run's materialization."""
    kind = dg.DagsterEventType.ASSET_MATERIALIZATION.value
    return dg.DagsterEvent(kind, run.job_name, event_specific_data=StepMaterializationData(materialization))
