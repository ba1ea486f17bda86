"""Deliveries of Pub/Sub and EventBridge through a running collector to the real topic."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.integration.collectors import (
    DOMAIN,
    SHOP,
    Answered,
    Running,
    connect,
    on_topic,
    running,
    signed,
)
from tests.unit.collector.test_bridge import ACCOUNT, ATTRIBUTES, AUDIENCE, GOOGLE, OTHER
from tests.waiting import until
from truepixel_dagster.settings import Settings

API_KEY = "an-api-key"


@pytest.fixture(scope="module")
def keys() -> Iterator[str]:
    """Return the address of a server that publishes public keys as Google does."""

    class Keys(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({GOOGLE.key_id: GOOGLE.public}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Keys)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/certs"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def bridged(settings: Settings, tmp_path: Path, keys: str) -> Settings:
    connect(settings)
    (tmp_path / "keys").write_text(f"{API_KEY}\n")
    update = {
        "collector_pubsub_audience": AUDIENCE,
        "collector_pubsub_account": ACCOUNT,
        "collector_google_keys_url": keys,
        "collector_eventbridge_keys_file": str(tmp_path / "keys"),
    }
    return settings.model_copy(update=update)


@pytest.fixture
def collector(bridged: Settings) -> Iterator[Running]:
    with running(bridged) as found:
        yield found


def attributes(**changed: str) -> dict[str, str]:
    return {**ATTRIBUTES, **{f"X-Shopify-{name.replace('_', '-')}": value for name, value in changed.items()}}


def push(collector: Running, body: bytes, token: str | None = None, **changed: str) -> Answered:
    message = {"data": base64.b64encode(body).decode(), "attributes": attributes(**changed), "messageId": "1"}
    sent = msgspec.json.encode({"message": message, "subscription": "projects/p/subscriptions/s"})
    bearer = GOOGLE.token() if token is None else token
    return collector.ask("POST", "/v1/pubsub", sent, {"Authorization": f"Bearer {bearer}"})


def event(collector: Running, payload: Any, key: str = API_KEY, **changed: str) -> Answered:
    detail = {"payload": payload, "metadata": attributes(**changed)}
    sent = msgspec.json.encode({"version": "0", "detail-type": "shopifyWebhook", "detail": detail})
    return collector.ask("POST", "/v1/eventbridge", sent, {"X-Api-Key": key})


def test_a_push_of_pubsub_is_the_record_that_a_webhook_would_be(bridged: Settings, collector: Running) -> None:
    body = b'{"id": 1,  "note_attributes": [{"name": "client_id", "value": "c-1"}]}\n'
    assert push(collector, body).status == 200
    (record,) = on_topic(bridged)
    assert (record.key, record.value) == (f"{SHOP}:c-1".encode(), body)
    assert record.headers["source"] == b"webhook"
    assert record.headers["topic"] == b"orders/create"
    assert record.headers["event_id"] == b"w-1"
    assert record.headers["shop_domain"] == DOMAIN.encode()


def test_an_event_of_eventbridge_is_that_record_too(bridged: Settings, collector: Running) -> None:
    assert event(collector, {"id": 1, "checkout_token": "token-1"}).status == 200
    (record,) = on_topic(bridged)
    assert (record.key, json.loads(record.value)["id"]) == (f"{SHOP}:token-1".encode(), 1)
    assert record.headers["topic"] == b"orders/create"


def test_nothing_is_written_without_a_token_or_a_key(bridged: Settings, collector: Running) -> None:
    for token in ("", "a.b.c", OTHER.token(), GOOGLE.token(aud="https://another.example")):
        assert push(collector, b'{"id": 1}', token).status == 401
    for key in ("", "another"):
        assert event(collector, {"id": 1}, key).status == 401
    # Neither proof is valid at the other endpoint, and a webhook's signature at neither of them.
    assert collector.ask("POST", "/v1/pubsub", b"{}", {"X-Api-Key": API_KEY}).status == 401
    bearer = {"Authorization": f"Bearer {GOOGLE.token()}"}
    assert collector.ask("POST", "/v1/eventbridge", b"{}", bearer).status == 401
    assert collector.ask("POST", "/v1/pubsub", b"{}", signed("orders/create", b"{}")).status == 401
    assert on_topic(bridged) == []
    found = collector.metrics()
    assert found['events_total{outcome="unsigned",source="pubsub"}'] == 6
    assert found['events_total{outcome="unsigned",source="eventbridge"}'] == 3


def test_deliveries_are_refused_for_the_same_reasons_as_webhooks(bridged: Settings, collector: Running) -> None:
    assert push(collector, b"{}", Shop_Domain="who.myshopify.com").status == 404
    assert event(collector, {"id": 7, "myshopify_domain": DOMAIN}, Topic="shop/update").status == 403
    assert push(collector, b"{}", Topic="").status == 400
    assert collector.ask("POST", "/v1/eventbridge", b"{}", {"X-Api-Key": API_KEY}).status == 400
    assert on_topic(bridged) == []
    gone = b'{"shop_id": 99, "shop_domain": "gone.myshopify.com"}'
    assert push(collector, gone, Topic="shop/redact", Shop_Domain="gone.myshopify.com").status == 200
    (record,) = on_topic(bridged)
    assert record.key == b"99:privacy"


def test_a_new_key_counts_without_a_restart(bridged: Settings, collector: Running) -> None:
    assert event(collector, {"id": 1}, "newer").status == 401
    Path(bridged.collector_eventbridge_keys_file or "").write_text(f"newer\n{API_KEY}\n")
    until(lambda: event(collector, {"id": 1}, "newer").status == 200)
    assert event(collector, {"id": 2}).status == 200


def test_without_their_settings_the_endpoints_do_not_exist_and_without_googles_keys_nothing_is_lost(
    bridged: Settings,
) -> None:
    off = {"collector_pubsub_audience": None, "collector_eventbridge_keys_file": None}
    with running(bridged.model_copy(update=off)) as collector:
        assert [push(collector, b"{}").status, event(collector, {}).status] == [404, 404]
    with running(bridged.model_copy(update={"collector_google_keys_url": "http://127.0.0.1:9/"})) as collector:
        answer = push(collector, b'{"id": 1}')
        assert (answer.status, int(answer.headers["retry-after"]) >= 1) == (503, True)
