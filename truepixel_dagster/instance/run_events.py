"""Events of a run that are reported from outside of it.

Private: what a materialization is in a run's event. The public way, `report_runless_asset_event`, reports
as of no run, so that the UI does not show which run wrote a day.
"""

from __future__ import annotations

import dagster as dg
from dagster._core.events import StepMaterializationData


def as_event(run: dg.DagsterRun, materialization: dg.AssetMaterialization) -> dg.DagsterEvent:
    """Return the event of a run's materialization."""
    kind = dg.DagsterEventType.ASSET_MATERIALIZATION.value
    return dg.DagsterEvent(kind, run.job_name, event_specific_data=StepMaterializationData(materialization))
