"""Which run reports for which other run: the decision alone, with a real instance of Dagster."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from truepixel_dagster.asset_keys import AD_LEADS, ATTRIBUTIONS, CUSTOMERS, EVENTS
from truepixel_dagster.jobs.process_events import process_events
from truepixel_dagster.jobs.unreported import are_unreported, report_for_others
from truepixel_dagster.stores.errors import Unavailable
from truepixel_dagster.stream.commit_notes import UNKNOWN, Span, write_note
from truepixel_dagster.stream.topics import PartitionLag

STARTED = dg.DagsterRunStatus.STARTED
DAYS = {EVENTS: {"2026-01-10": 3, "2026-01-11": 1}, AD_LEADS: {}, ATTRIBUTIONS: {}, CUSTOMERS: {"2026-01-10": 4}}


class Lane:
    """A lane's records of the runs before it."""

    def __init__(self, *spans: Span) -> None:
        self.unreported = {0: spans}
        self.settled: list[str] = []
        self.elasticsearch: Any = self
        self.away = False

    def counts_by_day(self, *_: object) -> dict[str, dict[str, int]]:
        if self.away:
            raise Unavailable("away")
        return DAYS

    def reported(self, *run_ids: str) -> None:
        self.settled.extend(run_ids)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as opened:
        yield opened


def run(instance: dg.DagsterInstance, ended: str = "") -> str:
    made = instance.create_run_for_job(process_events, status=STARTED)
    if ended == "failed":
        instance.report_run_failed(made)
    elif ended == "canceled":
        instance.report_run_canceled(made)
    return made.run_id


def count(instance: dg.DagsterInstance, run_id: str) -> int:
    return len(instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION).records)


def lines_of_reports(instance: dg.DagsterInstance, lane: Lane) -> list[str]:
    return list(report_for_others(instance, lane))  # type: ignore[arg-type]


@pytest.mark.parametrize("how", ["failed", "canceled", ""])
def test_the_commits_of_a_run_that_lost_its_lane_are_reported_once(instance: dg.DagsterInstance, how: str) -> None:
    dead = run(instance, how)
    for _ in range(2):
        lane = Lane(Span(dead, 3, 7))
        assert len(lines_of_reports(instance, lane)) == 1
        assert lane.settled == [dead]
        # Two days of events, one of customers, and the buffer.
        assert count(instance, dead) == 4


def test_two_ranges_of_a_run_are_two_reports(instance: dg.DagsterInstance) -> None:
    dead = run(instance, "failed")
    lines_of_reports(instance, Lane(Span(dead, 3, 7)))
    lines_of_reports(instance, Lane(Span(dead, 7, 9)))
    assert count(instance, dead) == 8


def test_a_run_that_handed_over_reports_for_itself_until_it_has_ended(instance: dg.DagsterInstance) -> None:
    alive = run(instance)
    lane = Lane(Span(alive, 3, 7, handed_over=True))
    assert lines_of_reports(instance, lane) == lane.settled == []
    dead = run(instance, "failed")
    lane = Lane(Span(dead, 3, 7, handed_over=True))
    assert (len(lines_of_reports(instance, lane)), lane.settled) == (1, [dead])


def test_a_report_that_cannot_be_counted_waits_for_the_next_run(instance: dg.DagsterInstance) -> None:
    dead = run(instance, "failed")
    lane = Lane(Span(dead, 3, 7))
    lane.away = True
    (line,) = lines_of_reports(instance, lane)
    assert "the next run tries again: away" in line
    assert lane.settled == []


def shown(instance: dg.DagsterInstance, asset: str) -> set[str]:
    return instance.get_materialized_partitions(dg.AssetKey(asset))


@pytest.mark.parametrize("unknown", [UNKNOWN, Span("deleted", 3, 7), Span("deleted", 3, 7, handed_over=True)])
def test_the_days_of_unknown_runs_that_are_not_shown_are_reported(instance: dg.DagsterInstance, unknown: Span) -> None:
    event = dg.AssetMaterialization(EVENTS, partition="2026-01-10")
    instance.report_runless_asset_event(event)
    lane = Lane(unknown)
    (line,) = lines_of_reports(instance, lane)
    # The other day of events, and the only day of customers.
    assert "2 materializations added" in line
    assert lane.settled == [unknown.run]
    assert (shown(instance, EVENTS), shown(instance, CUSTOMERS)) == ({"2026-01-10", "2026-01-11"}, {"2026-01-10"})
    assert lines_of_reports(instance, Lane(unknown)) == []


def test_days_that_cannot_be_queried_now_wait_for_the_next_run(instance: dg.DagsterInstance) -> None:
    lane = Lane(UNKNOWN)
    lane.away = True
    (line,) = lines_of_reports(instance, lane)
    assert "the next run tries again: away" in line
    assert (lane.settled, shown(instance, EVENTS)) == ([], set())


def test_a_report_that_was_killed_between_two_files_of_sqlite_is_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dagster writes a run's events to one file, and then the assets' state to another one."""
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        dead = run(instance, "failed")
        with monkeypatch.context() as killed:

            def kill(*_: object) -> None:
                raise KeyboardInterrupt

            killed.setattr(instance.event_log_storage, "index_transaction", kill)
            with pytest.raises(KeyboardInterrupt):
                lines_of_reports(instance, Lane(Span(dead, 3, 7)))
        assert (count(instance, dead), shown(instance, EVENTS)) == (1, set())
        lines_of_reports(instance, Lane(Span(dead, 3, 7)))
        assert shown(instance, EVENTS) == set(DAYS[EVENTS])


def test_partitions_whose_run_ended_early_owe_a_report(instance: dg.DagsterInstance) -> None:
    dead, alive = run(instance, "failed"), run(instance)
    pruned, deleted = Span("pruned", 0, 5, handed_over=True), Span("deleted", 0, 5)
    owing = [write_note([Span(dead, 0, 5)]), write_note([Span(alive, 0, 5), deleted]), "", "somebody else's"]
    others = [write_note([Span(alive, 0, 5)]), write_note([pruned]), write_note([])]
    partitions = [PartitionLag(number, 0, 5, 5, 0, note=note) for number, note in enumerate([*owing, *others])]
    assert are_unreported(instance, partitions) == {0, 1, 2, 3}
    # A partition without a commit owes no report.
    assert are_unreported(instance, [PartitionLag(0, 0, 5, None, 5)]) == frozenset()
