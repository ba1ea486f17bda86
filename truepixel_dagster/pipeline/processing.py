"""The settings that decide how a lane processes its micro-batches."""

from __future__ import annotations

from typing import NamedTuple

from truepixel_dagster.events.sites import Sites
from truepixel_dagster.resources import sites_of
from truepixel_dagster.settings import Settings
from truepixel_dagster.stages.settling import StageRules, stage_rules_of


class Processing(NamedTuple):
    """Hold a lane's rules and bounds.

    `batch_messages` is the most records of a micro-batch, `pool_workers` the threads of the background stages,
    `pool_pending` the micro-batches that may wait for them. `dead_letter_share` is the share of failing clients above
    which a failure is an outage.
    """

    rules: StageRules
    sites: Sites
    batch_messages: int
    pool_workers: int
    pool_pending: int
    dead_letter_share: float


def processing_of(settings: Settings) -> Processing:
    """Return how a lane with these settings processes its micro-batches.

    Raises:
        SettingsError: The operator's additions to the tables of sources are invalid.
    """
    return Processing(
        stage_rules_of(settings),
        sites_of(settings),
        settings.batch_messages,
        settings.pool_workers,
        settings.pool_pending,
        settings.dead_letter_share,
    )
