"""The storefront by HTTP: a visit from an ad and an order, through the collector and the pipeline, to its credit."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from tests.integration.driving import drain, flush
from truepixel_dagster.events.event import iso
from truepixel_dagster.local.connected import Connected, connect, start_collector
from truepixel_dagster.local.demo import free_port
from truepixel_dagster.local.storefront.pages import serving
from truepixel_dagster.local.storefront.shop import STOREFRONT
from truepixel_dagster.resources import Stores
from truepixel_dagster.settings import Settings

CLIENT = "3f0c1f5e-0d1c-4a53-9a31-6f0a4a3c8c11"
BROWSER = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36"
)


@pytest.fixture
def connected(settings: Settings) -> Iterator[Connected]:
    found = start_collector(settings, free_port(0), connect(settings, [STOREFRONT]))
    yield found
    found.program.end()


@pytest.fixture
def shop(settings: Settings, connected: Connected) -> Iterator[str]:
    with serving(settings, connected, free_port(0)) as address:
        yield address


def test_an_order_by_hand_is_credited_to_the_ad_of_its_visit(shop: str, settings: Settings, stores: Stores) -> None:
    found = requests.get(f"{shop}/api/shop", timeout=10).json()
    pixel(found, "page_viewed", f"{shop}/?utm_source=google&utm_medium=cpc&utm_campaign=spring_sale&gclid=a1", {})
    placed = requests.post(f"{shop}/api/orders", json=checkout(), timeout=10).json()
    pixel(found, "checkout_started", f"{shop}/", placed["started"])
    pixel(found, "checkout_completed", f"{shop}/", placed["completed"])
    assert requests.get(f"{shop}/api/orders/{placed['order']}", timeout=10).json()["order"] is None
    drain(settings)
    flush(stores)
    order = requests.get(f"{shop}/api/orders/{placed['order']}", timeout=10).json()["order"]
    assert order["value"] == "123.00 USD"
    (credit,) = order["credits"]["last_click"]
    assert (credit["channel"], credit["platform"], credit["campaign"]) == ("paid_search", "google", "spring_sale")
    assert credit["amount"] == "123.00 USD"
    report = requests.get(f"{shop}/api/report", params={"shop": STOREFRONT.id}, timeout=10).json()
    assert report["shops"] == [STOREFRONT.id]
    assert report["rows"] == [
        {"cells": ["google", "spring_sale", "USD"], "figures": ["1", "1", "0", "123.00", "0.00", "123.00"]}
    ]


def test_the_pages_are_served_to_this_machine_alone_and_may_load_nothing_from_elsewhere(shop: str) -> None:
    for path in ("/", "/orders/1", "/report", "/static/shop.js", "/static/pictures.svg"):
        assert requests.get(shop + path, timeout=10).status_code == 200, path
    policy = requests.get(shop, timeout=10).headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'self'")
    assert requests.get(shop, headers={"Host": "evil.example"}, timeout=10).status_code == 400
    # A form of another site's page can send this type without being asked for leave.
    as_text = requests.post(f"{shop}/api/orders", "{}", headers={"Content-Type": "text/plain"}, timeout=10)
    assert as_text.status_code == 415


@pytest.mark.parametrize(
    "body",
    [{}, {"cart": [], "client_id": "c"}, {"cart": [{"handle": "nothing", "quantity": 1}], "client_id": "c"}, [1]],
)
def test_an_order_of_what_is_not_sold_says_why(shop: str, body: Any) -> None:
    answer = requests.post(f"{shop}/api/orders", json=body, timeout=10)
    assert answer.status_code == 400
    assert answer.json()["reason"]


def test_an_unreachable_collector_is_named_to_the_buyer(shop: str, connected: Connected) -> None:
    connected.program.end()
    answer = requests.post(f"{shop}/api/orders", json=checkout(), timeout=10)
    assert answer.status_code == 503
    assert "the collector is unreachable" in answer.json()["reason"]


def checkout() -> dict[str, Any]:
    cart = [{"handle": "linen-shirt", "quantity": 2}]
    return {"cart": cart, "client_id": CLIENT, "landing": "/?utm_source=google", "referrer": ""}


def pixel(found: dict[str, Any], name: str, url: str, data: dict[str, Any]) -> None:
    """Send an event as the page's pixel.js does."""
    event: dict[str, Any] = {
        "id": f"sh-{uuid.uuid4()}",
        "name": name,
        "clientId": CLIENT,
        "timestamp": iso(int(time.time() * 1000)),
        "type": "standard",
        "data": data,
        "context": {
            "document": {"location": {"href": url}, "referrer": "", "title": "Corner Shop"},
            "navigator": {"userAgent": BROWSER},
        },
    }
    answer = requests.post(
        f"{found['collector']}/v1/pixel",
        params={"token": found["token"]},
        json=[event],
        headers={"Origin": "null", "User-Agent": BROWSER},
        timeout=10,
    )
    assert (answer.status_code, answer.json()["accepted"]) == (200, 1), answer.text
