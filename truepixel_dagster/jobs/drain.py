"""Process the topic through Dagster without a daemon: one run after the other for each lane, until the lag is 0."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from truepixel_dagster.asset_keys import LANE_TAG, LANES_TAG, TRIGGER_TAG
from truepixel_dagster.instance.history import check_history
from truepixel_dagster.instance.process import ended, execute, make_history
from truepixel_dagster.redis_state import check_applied
from truepixel_dagster.resources import missing_servers, open_stores
from truepixel_dagster.settings import Settings
from truepixel_dagster.source_log import checked
from truepixel_dagster.stores.epoch import StateLost
from truepixel_dagster.stores.errors import AccessDenied, Unavailable
from truepixel_dagster.stream.lane import partitions_of
from truepixel_dagster.stream.topics import PartitionLag, lag

MAX_FAILURES = 3


class DrainFailed(Exception):
    """Runs failed; the message names the log that says why."""


def drain(settings: Settings, on_lag: Callable[[int], None]) -> None:
    """Run lanes until the lag is 0.

    Arguments:
        settings: The pipeline's settings.
        on_lag: Called with the lag, a few times a second.

    Raises:
        AccessDenied: A store denies access.
        DrainFailed: A lane failed three times in a row.
        HistoryUnavailable: Dagster's own storage does not answer.
        KafkaUnavailable: Kafka does not answer.
        LogChanged: The topic is not the log that was processed.
    """
    check_history(settings)
    make_history(settings)
    failures = 0
    while True:
        waiting = lag(settings.kafka())
        on_lag(sum(entry.lag for entry in waiting))
        _check_log(settings, waiting)
        # A run counts what retention has removed, and commits past it.
        behind = {entry.partition for entry in waiting if entry.lag or entry.lost}
        shares = {lane: partitions_of(lane, settings.lanes, len(waiting)) for lane in range(settings.lanes)}
        lanes = [lane for lane, partitions in shares.items() if behind.intersection(partitions)]
        if not lanes:
            return
        # Otherwise one run after the other would be denied, and only their logs would say why.
        for error in missing_servers(settings):
            if isinstance(error, AccessDenied):
                raise error
        if _run_lanes(settings, lanes, on_lag):
            failures = 0
            continue
        failures += 1
        if failures == MAX_FAILURES:
            raise DrainFailed(
                f"runs failed {failures} times in a row. The end of {_log(settings, lanes[0])} has the reason. Correct"
                " the cause and run `truepixel drain` again: it continues at the committed offsets"
            )
        time.sleep(2**failures)


def _check_log(settings: Settings, partitions: Sequence[PartitionLag]) -> None:
    """Raise what a lane would raise about the topic and Redis; runs report other errors of the stores."""
    with open_stores(settings) as stores, suppress(Unavailable):
        try:
            log = checked(settings.kafka(), stores, partitions)
            check_applied(settings.kafka(), stores, log.committed(), log.base)
        except StateLost as lost:
            raise DrainFailed(str(lost)) from None


def _run_lanes(settings: Settings, lanes: Sequence[int], on_lag: Callable[[int], None]) -> bool:
    tags = {LANES_TAG: str(settings.lanes), TRIGGER_TAG: "drain"}
    runs = [execute(settings, "process_events", {**tags, LANE_TAG: str(lane)}, _log(settings, lane)) for lane in lanes]
    with ended(runs):
        while any(run.poll() is None for run in runs):
            time.sleep(0.5)
            on_lag(sum(entry.lag for entry in lag(settings.kafka())))
    return all(run.returncode == 0 for run in runs)


def _log(settings: Settings, lane: int) -> Path:
    return settings.data_dir / "logs" / f"drain-lane-{lane}.log"
