"""The collector on the genuine servers: what it takes, from whom, and what comes to stand on the topic."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.integration.collectors import (
    DOMAIN,
    SHOP,
    Running,
    connect,
    on_topic,
    running,
    signed,
    with_app_secret,
)
from tests.integration.driving import drain, flush
from tests.integration.test_cli import truepixel
from tests.integration.test_pipeline import completed, order, pixel
from truepixel_dagster.events.event import iso
from truepixel_dagster.resources import Stores
from truepixel_dagster.settings import Settings

PAID: dict[str, Any] = {"financial_status": "paid", "source_name": "web", "total_price": "20.00"}


def ago(minutes: float) -> str:
    return iso(int((time.time() - minutes * 60) * 1000))


@pytest.fixture
def served(settings: Settings, tmp_path: Path) -> Settings:
    connect(settings)
    return with_app_secret(settings, tmp_path)


@pytest.fixture
def collector(served: Settings) -> Iterator[Running]:
    with running(served) as found:
        yield found


def test_a_signed_webhook_comes_to_stand_on_the_topic_byte_by_byte(served: Settings, collector: Running) -> None:
    body = b'{"id": 1,  "note_attributes": [{"name": "client_id", "value": "c-1"}], "x": "\xc3\xa9\\u00e9"}\n'
    answer = collector.webhook("orders/create", body)
    assert (answer.status, answer.body) == (200, b"")
    (record,) = on_topic(served)
    assert (record.key, record.value) == (f"{SHOP}:c-1".encode(), body)
    assert record.headers["source"] == b"webhook"
    assert record.headers["topic"] == b"orders/create"
    assert record.headers["shop_domain"] == DOMAIN.encode()
    assert len(record.headers["event_id"]) == 36
    assert record.headers["received_at"].endswith(b"Z")


def test_an_order_by_http_is_in_the_report(served: Settings, stores: Stores, collector: Running) -> None:
    visit = pixel("v1", at=ago(60), query="?utm_source=google&utm_medium=cpc&gclid=G")
    done = completed("v2", "token-1", at=ago(5))
    for event in (visit, done):
        answer = collector.pixel({**event, "clientId": "c-1"})
        assert (answer.status, answer.json) == (200, {"accepted": 1, "dropped": 0, "rejected": []})
    bought = order(7, "token-1", created_at=ago(4), updated_at=ago(4), **PAID)
    assert collector.webhook("ORDERS_CREATE", bought).status == 200
    # Shopify's retry has the same id; a second delivery changes no figure.
    body = msgspec.json.encode(bought)
    headers = signed("orders/create", body)
    again = [collector.ask("POST", "/v1/webhooks", body, headers).status for _ in range(2)]
    assert again == [200, 200]
    assert collector.end() == 0
    drain(served)
    flush(stores)
    stores.elasticsearch.refresh()
    found = json.loads(truepixel(served, "report", "--shop", SHOP, "--json", "--last", "2d", "--by", "channel"))
    assert found["orders"] == 1
    (source,) = found["sources"]
    assert (source["gross"], source["currency"]) == (2000, "USD")
    assert source["channel"] == "paid_search"
