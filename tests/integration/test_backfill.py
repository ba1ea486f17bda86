"""A day corrected through the API of Dagster's UI, while webserver and daemon run and events of that day arrive."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import pytest

from tests.integration.driving import audited, drain, flush, record, send
from tests.integration.test_pipeline import pixel
from truepixel_dagster.asset_keys import ATTRIBUTIONS, CUSTOMERS, PRODUCT_STATS, WEEKLY_VISITORS
from truepixel_dagster.audit.audit import audit
from truepixel_dagster.local.demo import dagster_dev, free_port, producing
from truepixel_dagster.local.graphql import GraphQL
from truepixel_dagster.local.traffic import FIRST, traffic
from truepixel_dagster.resources import Stores
from truepixel_dagster.settings import Settings
from truepixel_dagster.stores import mongodb
from truepixel_dagster.stores.elasticsearch import Action
from truepixel_dagster.stream.topics import lag

DAY = "2026-01-05"


def delete_day(stores: Stores) -> None:
    stores.elasticsearch.refresh()
    for name in ("attributions", "product-stats-"):
        hits = [
            hit
            for hit in stores.elasticsearch.scan(name)
            if (hit["_source"].get("day") or hit["_source"]["occurred_at"])[:10] == DAY
        ]
        assert hits
        stores.elasticsearch.bulk([Action("delete", hit["_index"], hit["_id"]) for hit in hits])
    within = {"$gte": DAY, "$lt": f"{DAY}T~"}
    seen = {"$or": [{"first_seen": within}, {"last_seen": within}]}
    assert stores.mongodb.collection(mongodb.CUSTOMERS).delete_many(seen).deleted_count > 100


@pytest.fixture
def api(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[GraphQL]:
    """Dagster's webserver and daemon, with the sensor and the schedules on."""
    monkeypatch.setenv("TRUEPIXEL_EVENT_RETENTION_MONTHS", "600")
    port = free_port(0)
    with dagster_dev(settings, port, writable=True):
        api = GraphQL(f"http://127.0.0.1:{port}")
        api.wait()
        yield api


def test_a_deleted_day_is_backfilled_by_the_uis_api_while_its_events_arrive(
    settings: Settings, stores: Stores, api: GraphQL
) -> None:
    records = list(traffic(8000, seed=3, shops=3, span=timedelta(hours=23), profile=FIRST))
    send(settings, [(r.key, r.value, r.headers) for r in records[:2000]])
    drain(settings)
    flush(stores)
    delete_day(stores)
    assert len(audit(settings).differences) > 100
    with producing(settings, iter(records[2000:]), rate=40):
        before = sum(entry.high for entry in lag(settings.kafka()))
        done = api.backfill([ATTRIBUTIONS, CUSTOMERS, PRODUCT_STATS], [DAY])
        assert sum(entry.high for entry in lag(settings.kafka())) > before
    assert {status["assetKey"]["path"][0] for status in done} == {ATTRIBUTIONS, CUSTOMERS, PRODUCT_STATS}
    assert all(status["numPartitionsFailed"] == 0 for status in done)
    end = time.monotonic() + 180
    while any(entry.lag for entry in lag(settings.kafka())) and time.monotonic() < end:
        time.sleep(1)
    audited(settings, stores)


def test_the_current_week_is_backfilled_before_its_last_days(settings: Settings, stores: Stores, api: GraphQL) -> None:
    now = datetime.now(timezone.utc)
    send(settings, [record("s:c", pixel("seen", at=now.strftime("%Y-%m-%dT%H:%M:%S.000Z")))])
    drain(settings)
    flush(stores)
    monday = (now - timedelta(days=now.weekday())).date().isoformat()
    (done,) = api.backfill([WEEKLY_VISITORS], [monday])
    assert (done["numPartitionsMaterialized"], done["numPartitionsFailed"]) == (1, 0)
    stores.elasticsearch.refresh()
    (week,) = stores.elasticsearch.scan("weekly-visitors")
    assert (week["_source"]["visitors"], week["_source"]["exact"]) == (1, True)
