"""Report for runs that ended before they reported their commits: killed, terminated or failed.

The committed offsets carry a note that names the run and its range (`stream/commit_notes.py`). The run that takes the
lane next counts the events of that range in the event history, by day, and reports them for the earlier run. If its
report is interrupted, the next run completes it, and repeats nothing that Dagster already shows.

If it is unknown which runs those were (another program set the group's offsets, the topic is a new log, or Dagster's
runs were deleted), the next run reports the days of the event history that Dagster does not show at all.

A run that has given its lane back reports for itself until Dagster shows that it has ended. A run that has lost its
lane can no longer report, whatever state Dagster shows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b

import dagster as dg
from sqlalchemy.exc import OperationalError

from truepixel_dagster.asset_keys import AD_LEADS, ATTRIBUTIONS, CUSTOMERS, EVENTS, PRODUCT_STATS_BUFFER
from truepixel_dagster.events.pixel_payload import CHECKOUT_COMPLETED
from truepixel_dagster.events.webhook import ORDER_CREATED, ORDER_PAID
from truepixel_dagster.instance.run_events import as_event
from truepixel_dagster.pipeline.runner import LaneRunner
from truepixel_dagster.rebuild.history import WITH_AD, WITH_ORDER, Query, all_of, beyond
from truepixel_dagster.stages.index import EVENTS as INDEX
from truepixel_dagster.stores.elasticsearch import ElasticsearchStore
from truepixel_dagster.stores.errors import Unavailable
from truepixel_dagster.stream.commit_notes import Span, read_note
from truepixel_dagster.stream.topics import PartitionLag

ENDED_EARLY = (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
# The range that a report covers. It distinguishes the report from the run's own, and from one for another partition.
OFFSETS_TAG = "truepixel/offsets"
UNITS = {EVENTS: "events", AD_LEADS: "events with an ad", ATTRIBUTIONS: "sightings of orders", CUSTOMERS: "events"}
SIGHTINGS: Query = all_of({"terms": {"name": [CHECKOUT_COMPLETED, ORDER_CREATED, ORDER_PAID]}}, WITH_ORDER)
# A store does not answer, or a frozen worker has locked Dagster's storage.
NOT_NOW = (Unavailable, OperationalError)
_WHOLE: Query = {"match_all": {}}
OF_ASSET: Mapping[str, Query] = {EVENTS: _WHOLE, AD_LEADS: WITH_AD, ATTRIBUTIONS: SIGHTINGS, CUSTOMERS: _WHOLE}

Spans = Mapping[int, Span]


def report_for_others(instance: dg.DagsterInstance, lane: LaneRunner) -> Iterator[str]:
    """Report the commits that earlier runs could not report; yield a line about each run.

    Arguments:
        instance: Dagster's instance.
        lane: The lane that this run holds, before its first commit.
    """
    unknown = []
    for run_id, spans in _by_run(lane.unreported).items():
        run = instance.get_run_by_id(run_id)
        if run is None:
            unknown.append(run_id)
            continue
        if not run.is_success:
            if not run.is_finished and any(span.handed_over for span in spans.values()):
                continue
            try:
                count = _report(instance, run, spans, lane.elasticsearch)
            except NOT_NOW as error:
                yield f"the commits of run {run_id[:8]} could not be reported; the next run tries again: {error}"
                continue
            yield f"run {run_id[:8]} ended before it reported its commits: {count} materializations added"
        lane.reported(run_id)
    if unknown:
        yield from _report_for_unknown(instance, lane, unknown)


def are_unreported(instance: dg.DagsterInstance, partitions: Sequence[PartitionLag]) -> frozenset[int]:
    """Return the partitions in which a run that has ended committed records without reporting them."""
    spans = {entry.partition: read_note(entry.note) for entry in partitions if entry.committed is not None}
    wanted = sorted({span.run for own in spans.values() for span in own})
    if not wanted:
        return frozenset()
    runs = {run.run_id: run for run in instance.get_runs(dg.RunsFilter(run_ids=wanted))}

    def is_unreported(span: Span) -> bool:
        run = runs.get(span.run)
        # A run that handed its lane over and is unknown now most likely succeeded and was pruned since.
        return not span.handed_over if run is None else run.status in ENDED_EARLY

    return frozenset(partition for partition, own in spans.items() if any(map(is_unreported, own)))


def _by_run(unreported: Mapping[int, Sequence[Span]]) -> dict[str, dict[int, Span]]:
    found: dict[str, dict[int, Span]] = {}
    for partition, spans in unreported.items():
        for span in spans:
            found.setdefault(span.run, {})[partition] = span
    return found


def _report(instance: dg.DagsterInstance, run: dg.DagsterRun, spans: Spans, store: ElasticsearchStore) -> int:
    place = place_of(spans)
    known = _reported(instance, run.run_id, place)
    count = 0
    for materialization in _materializations(store, run, spans, place):
        if (materialization.asset_key, materialization.partition) not in known:
            instance.report_dagster_event(as_event(run, materialization), run_id=run.run_id)
            count += 1
    return count


def _report_for_unknown(instance: dg.DagsterInstance, lane: LaneRunner, unknown: Sequence[str]) -> Iterator[str]:
    """Report for runs that Dagster no longer lists: the days that no other run has reported."""
    try:
        count = _report_days(instance, lane.elasticsearch)
    except NOT_NOW as error:
        yield f"the search for days that Dagster does not show failed; the next run tries again: {error}"
        return
    if count:
        yield f"runs that Dagster no longer lists had not reported their writes: {count} materializations added"
    lane.reported(*unknown)


def _report_days(instance: dg.DagsterInstance, store: ElasticsearchStore) -> int:
    """Report, without a run, the days of the event history that Dagster does not show; return their number."""
    days = store.counts_by_day(f"{INDEX}-", _WHOLE, OF_ASSET)
    common: dict[str, dg.MetadataValue] = {
        "written by": dg.TextMetadataValue("stream"),
        "counted from": dg.TextMetadataValue("the event history: the runs that wrote it are unknown"),
    }
    count = 0
    for asset, unit in UNITS.items():
        shown = instance.get_materialized_partitions(dg.AssetKey(asset))
        for day in sorted(days[asset].keys() - shown):
            metadata = {**common, unit: dg.IntMetadataValue(days[asset][day])}
            instance.report_runless_asset_event(dg.AssetMaterialization(asset, partition=day, metadata=metadata))
            count += 1
    return count


def place_of(spans: Spans) -> str:
    """Return a hash that identifies a range: a tag may neither be long nor contain the characters of its text."""
    return blake2b(_offsets(spans).encode(), digest_size=16).hexdigest()


def _offsets(spans: Spans) -> str:
    return ", ".join(f"{partition}/{span.first}..{span.end - 1}" for partition, span in sorted(spans.items()))


def _reported(instance: dg.DagsterInstance, run_id: str, place: str) -> set[tuple[dg.AssetKey, str | None]]:
    """Return the assets and days that the run reported, or that were reported for this range, and that Dagster shows.

    With SQLite, Dagster writes a run's events to one file and what it shows of assets to another. A process killed
    between the two writes leaves a report that nobody sees.
    """
    found: set[tuple[dg.AssetKey, str | None]] = set()
    cursor, more = None, True
    while more:
        page = instance.get_records_for_run(run_id, cursor, dg.DagsterEventType.ASSET_MATERIALIZATION, limit=1000)
        cursor, more = page.cursor, page.has_more
        for record in page.records:
            known = record.asset_materialization
            if known is not None and (known.tags or {}).get(OFFSETS_TAG, place) == place:
                found.add((known.asset_key, known.partition))
    shown = {asset: instance.get_materialized_partitions(asset) for asset, _ in found}
    return {(asset, day) for asset, day in found if day is None or day in shown[asset]}


def _materializations(
    store: ElasticsearchStore, run: dg.DagsterRun, spans: Spans, place: str
) -> Iterator[dg.AssetMaterialization]:
    query = beyond({p: span.first - 1 for p, span in spans.items()}, {p: span.end - 1 for p, span in spans.items()})
    days = store.counts_by_day(f"{INDEX}-", query or _WHOLE, OF_ASSET)
    common: dict[str, dg.MetadataValue] = {
        "written by": dg.TextMetadataValue("stream"),
        "reported for": dg.MetadataValue.dagster_run(run.run_id),
        "offsets": dg.TextMetadataValue(_offsets(spans)),
        "counted from": dg.TextMetadataValue("the event history: the run ended before it reported"),
    }
    tags = {OFFSETS_TAG: place}
    for asset, unit in UNITS.items():
        for day, count in days[asset].items():
            metadata = {**common, unit: dg.IntMetadataValue(count)}
            yield dg.AssetMaterialization(asset_key=asset, partition=day, metadata=metadata, tags=tags)
    counted = sum(days[CUSTOMERS].values())
    if counted:
        metadata = {**common, "events counted": dg.IntMetadataValue(counted)}
        yield dg.AssetMaterialization(asset_key=PRODUCT_STATS_BUFFER, metadata=metadata, tags=tags)
