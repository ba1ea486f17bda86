"""Drives the pipeline in tests: sends records, drains lanes in a bare loop, and compares with the oracle."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import msgspec
import pytest

from truepixel_dagster.audit.audit import Audit, audit
from truepixel_dagster.flush import flush_product_stats, flush_weekly_visitors
from truepixel_dagster.instance.process import environment
from truepixel_dagster.pipeline.lane_claim import open_lane
from truepixel_dagster.pipeline.run_metrics import RunMetrics
from truepixel_dagster.pipeline.runner import LaneRunner
from truepixel_dagster.resources import Stores
from truepixel_dagster.settings import Settings
from truepixel_dagster.stages.attribution_document import ATTRIBUTIONS
from truepixel_dagster.stores.elasticsearch import Action
from truepixel_dagster.stream.producer import EventProducer
from truepixel_dagster.stream.topics import lag


def set_environment(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    """Let the commands, assets and jobs that run in this process use these settings."""
    for name, value in environment(settings).items():
        if name.startswith("TRUEPIXEL_"):
            monkeypatch.setenv(name, value)


def send(settings: Settings, records: Iterable[tuple[bytes | None, bytes | None, Any]]) -> None:
    with EventProducer(settings.kafka()) as producer:
        for key, value, headers in records:
            producer.send(key, value, headers)


def record(key: str, value: Any, **headers: str) -> tuple[bytes, bytes, Any]:
    raw = value if isinstance(value, bytes) else msgspec.json.encode(value)
    return key.encode(), raw, tuple((name, text.encode()) for name, text in headers.items())


def one_batch(lane: LaneRunner) -> bool:
    """Bring one micro-batch through all stages, as the ops do; return whether there was one."""
    batch = lane.fetch()
    if batch is None:
        return False
    done = lane.attribution(lane.ad_lead(lane.index(batch)))
    lane.customer(done)
    lane.product_stats(done)
    lane.commit(batch)
    return True


def drain(settings: Settings, *, lanes: int = 1) -> list[RunMetrics]:
    metrics = []
    for lane in range(lanes):
        with open_lane(settings, lane=lane, lanes=lanes, owner=f"test-{lane}") as run:
            while one_batch(run):
                pass
            metrics.append(run.finish())
    return metrics


def committed(settings: Settings) -> dict[int, int]:
    """Return the committed offset of each partition."""
    return {entry.partition: entry.committed or 0 for entry in lag(settings.kafka())}


def all_committed(settings: Settings) -> int:
    """Return the sum of the partitions' committed offsets."""
    return sum(committed(settings).values())


def flush(stores: Stores) -> None:
    flush_product_stats(stores.redis, stores.elasticsearch)
    flush_weekly_visitors(stores.redis, stores.elasticsearch)


def audited(settings: Settings, stores: Stores) -> Audit:
    """Flush and audit; every difference is in the assertion's message."""
    flush(stores)
    found = audit(settings)
    assert not found.differences, "\n".join(str(difference) for difference in found.differences[:40])
    return found


def days_with_orders(stores: Stores) -> list[str]:
    """Return the days with attributed orders, in order."""
    stores.elasticsearch.refresh()
    return sorted({_day(hit) for hit in stores.elasticsearch.scan(ATTRIBUTIONS)})


def delete_orders(stores: Stores, days: Collection[str]) -> None:
    """Delete the attributions of some days, as an operator's mistake would."""
    hits = [hit for hit in stores.elasticsearch.scan(ATTRIBUTIONS) if _day(hit) in days]
    assert hits
    stores.elasticsearch.bulk([Action("delete", hit["_index"], hit["_id"]) for hit in hits])
    stores.elasticsearch.refresh()


def _day(hit: Any) -> str:
    return str(hit["_source"]["occurred_at"])[:10]
