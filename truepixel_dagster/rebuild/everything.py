"""Materialize every table of the lake in one go, as Dagster's schedules do over a night."""

from __future__ import annotations

from collections.abc import Sequence

from truepixel_dagster import asset_keys
from truepixel_dagster.answers.tables import COHORTS
from truepixel_dagster.lake.files import Written
from truepixel_dagster.rebuild.answers import MAKERS
from truepixel_dagster.rebuild.cohorts import make_cohorts
from truepixel_dagster.rebuild.lake import Tools, refresh
from truepixel_dagster.rebuild.people import ALWAYS, PEOPLE_MAKER
from truepixel_dagster.rebuild.stats import Progress, silent

#: The figures of a cohort change until its last customers have reached the last age.
COHORT_MONTHS = 8


def refresh_everything(tools: Tools, days: Sequence[str], progress: Progress = silent) -> Written:
    """Write people, the stale days of every table, and the cohorts of the last months and of those without any.

    Arguments:
        tools: What makers need.
        days: The days to check, in ISO form and in order.
        progress: Called with the progress.

    Raises:
        LakeError, OSError, Unavailable: As for `make`.
    """
    done = refresh(tools, {asset_keys.PEOPLE: PEOPLE_MAKER}, [ALWAYS], progress)
    done += refresh(tools, MAKERS, days, progress)
    months = sorted({f"{day[:7]}-01" for day in days})
    due = {*months[-COHORT_MONTHS:], *set(months).difference(tools.lake.days(COHORTS))}
    return done + make_cohorts(tools, sorted(due), progress=progress)
