"""The audit judges what it can while the stream continues, and finds manipulated documents."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import dagster as dg
import pytest

from tests.integration.driving import drain, one_batch, record, send
from truepixel_dagster.assets.health import audit as audit_check
from truepixel_dagster.audit.audit import audit
from truepixel_dagster.local.traffic import traffic
from truepixel_dagster.pipeline.lane_claim import open_lane
from truepixel_dagster.resources import Stores
from truepixel_dagster.settings import Settings


def send_traffic(settings: Settings, events: int, seed: int, malformed: float = 0.005) -> None:
    records = traffic(events, seed=seed, shops=4, malformed=malformed)
    send(settings, ((entry.key, entry.value, entry.headers) for entry in records))


def test_an_audit_in_the_middle_of_a_lane_finds_no_difference(settings: Settings) -> None:
    send_traffic(settings, 2000, seed=1)
    with open_lane(settings, lane=0, lanes=1, owner="test") as lane:
        for _ in range(3):
            one_batch(lane)
        lane._pool.drain()
        lane._commits.drain()
        lane._commits.commit()
        # A batch that is applied and not committed.
        batch = lane.fetch()
        assert batch is not None
        done = lane.attribution(lane.ad_lead(lane.index(batch)))
        lane.customer(done)
        lane.product_stats(done)
        lane._pool.drain()
        found = audit(settings)
        assert found.differences == []
        assert found.not_judged > 0
        assert found.events > 500
        lane.commit(batch)


def test_an_audit_since_a_time_judges_only_later_records(settings: Settings, stores: Stores) -> None:
    send_traffic(settings, 1500, seed=1)
    time.sleep(0.05)
    since = int(time.time() * 1000)
    time.sleep(0.05)
    send_traffic(settings, 1500, seed=2)
    drain(settings)
    assert audit(settings).not_judged == 0
    found = audit(settings, since=since)
    assert found.differences == []
    assert found.records <= 1500
    assert found.not_judged > 1000
    assert found.events > 1000


def rewrite(stores: Stores, indices: str, **changes: Any) -> None:
    hit = next(iter(stores.elasticsearch.scan(indices)))
    stores.elasticsearch.client.index(index=hit["_index"], id=hit["_id"], document={**hit["_source"], **changes})


def remove(stores: Stores, name: str) -> None:
    hit = next(iter(stores.elasticsearch.scan(name)))
    stores.elasticsearch.client.delete(index=hit["_index"], id=hit["_id"])


TAMPERING: dict[str, Callable[[Stores], Any]] = {
    "events": lambda stores: rewrite(stores, "events-", name="x"),
    "attributions": lambda stores: remove(stores, "attributions"),
    "product_stats": lambda stores: rewrite(stores, "product-stats-", views=99),
    "weekly_visitors": lambda stores: rewrite(stores, "weekly-visitors", visitors=9999),
    "ad_leads": lambda stores: stores.mongodb.collection("ad_leads").update_one({}, {"$pop": {"touches": 1}}),
    "customers": lambda stores: stores.mongodb.collection("customers").update_one({}, {"$inc": {"events": 1}}),
}


@pytest.mark.parametrize("store", TAMPERING)
def test_an_audit_finds_what_was_tampered_with(settings: Settings, stores: Stores, store: str) -> None:
    send_traffic(settings, 500, seed=3)
    drain(settings)
    assert audit(settings).differences == []
    stores.elasticsearch.refresh()
    TAMPERING[store](stores)
    assert {difference.store for difference in audit(settings).differences} == {store}


def test_the_asset_check_fails_for_a_difference_and_says_which(
    settings: Settings, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("truepixel_dagster.assets.health.load_settings", lambda: settings)
    at = datetime.now(timezone.utc) - timedelta(hours=1)
    viewed = {"id": "e1", "name": "page_viewed", "clientId": "c", "timestamp": at.isoformat(), "type": "standard"}
    send(settings, [record("shop:c", viewed)])
    drain(settings)
    assert check().passed
    stores.mongodb.collection("customers").update_one({}, {"$inc": {"events": 1}})
    failed = check()
    assert not failed.passed
    assert "customers 'shop:c': events is 2" in str(failed.metadata["examples"].value)


def check() -> dg.AssetCheckResult:
    found = audit_check()
    assert isinstance(found, dg.AssetCheckResult)
    return found
