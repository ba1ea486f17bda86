"""The built pixels in Chromium, on pages that stand in for Shopify's, against the collector and the whole pipeline."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from playwright.sync_api import Browser, Page

from tests.browser.storefront import BUILT, CLIENT, EMAIL, Storefront, serving
from tests.integration.collectors import (
    SHOP,
    TOKEN,
    Found,
    Running,
    connect,
    on_topic,
    running,
    with_app_secret,
)
from tests.integration.driving import audited, drain
from tests.integration.test_collector import PAID, ago
from tests.integration.test_pipeline import order
from tests.waiting import until
from truepixel_dagster.resources import Stores
from truepixel_dagster.settings import Settings

AD = "/?utm_source=google&utm_medium=cpc&utm_campaign=spring&gclid=G-1"
PIXELS = ("custom", "app")
# Its own user agent makes a headless browser a bot, whose visits do not count.
PERSON = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"


@pytest.fixture
def served(settings: Settings, tmp_path: Path) -> Settings:
    connect(settings)
    return with_app_secret(settings, tmp_path)


@pytest.fixture
def collector(served: Settings) -> Iterator[Running]:
    with running(served) as found:
        yield found


@contextmanager
def shop(kind: str, port: int, browser: Browser) -> Iterator[tuple[Storefront, Page]]:
    """A storefront and a visitor's browser."""
    with serving(Storefront(kind, port, TOKEN)) as storefront:
        visitor = browser.new_context(user_agent=PERSON)
        try:
            yield storefront, visitor.new_page()
        finally:
            visitor.close()


def records(settings: Settings) -> list[Found]:
    return [record for record in on_topic(settings) if record.headers["source"] == b"pixel"]


def pixels(settings: Settings) -> list[dict[str, Any]]:
    """The pixel's events on the topic. One that was sent again has the same id, and stage 1 drops it."""
    events = (msgspec.json.decode(record.value) for record in records(settings))
    return list({event["id"]: event for event in events}.values())


def arrive(settings: Settings, *names: str) -> None:
    """Wait until these events have come, and no others."""
    until(lambda: len(pixels(settings)) >= len(names))
    assert Counter(event["name"] for event in pixels(settings)) == Counter(names)


def attribution(stores: Stores) -> dict[str, Any]:
    """The document of the only order."""
    stores.elasticsearch.refresh()
    found: dict[str, Any]
    search = stores.elasticsearch.client.search(index=stores.elasticsearch.index("attributions"))
    (found,) = (hit["_source"] for hit in search["hits"]["hits"])
    return found


def assert_credited_to_the_ad(stores: Stores) -> None:
    found = attribution(stores)
    assert (found["value_from"], found["value"]) == ("webhook", {"amount": 2000, "currency": "USD"})
    (credit,) = found["credits"]["last_click"]
    wanted = {"platform": "google", "channel": "paid_search", "campaign": "spring", "amount": 2000}
    assert credit == credit | wanted
    (touch,) = found["touches"]
    assert (touch["ad"]["click_id"], touch["ad"]["click_id_type"]) == ("G-1", "gclid")


def opens(page: Page, address: str, **options: Any) -> None:
    """Open a page and stay until the collector has answered its first event."""
    path = address.partition("?")[0]
    with page.expect_response(
        lambda response: "/v1/pixel" in response.url and path in (response.request.post_data or "")
    ):
        page.goto(address, **options)


def buys(storefront: Storefront, page: Page, *, to_the_end: bool) -> None:
    """A visitor comes from an ad, views a hat and buys two."""
    opens(page, storefront.url + AD, referer="https://www.google.com/")
    opens(page, f"{storefront.url}/products/hat")
    page.get_by_role("button").click()
    until(lambda: len(storefront.attributes) == 2)
    if to_the_end:
        opens(page, f"{storefront.url}/checkout")
        opens(page, f"{storefront.url}/thank-you")


VISIT = ("page_viewed", "page_viewed", "product_viewed", "product_added_to_cart")
PURCHASE = ("page_viewed", "checkout_started", "page_viewed", "checkout_completed")


@pytest.mark.parametrize("kind", PIXELS)
def test_a_purchase_is_credited_to_the_ad(
    served: Settings, stores: Stores, collector: Running, browser: Browser, kind: str
) -> None:
    with shop(kind, collector.port, browser) as (storefront, page):
        buys(storefront, page, to_the_end=True)
        arrive(served, *VISIT, *PURCHASE)
    assert {record.key for record in records(served)} == {f"{SHOP}:{CLIENT}".encode()}
    bought = order(7, "token-1", created_at=ago(0), updated_at=ago(0), **{**PAID, "total_price": "20.00"})
    assert collector.webhook("orders/create", bought).status == 200
    drain(served)
    assert_credited_to_the_ad(stores)
    audited(served, stores)


def test_without_checkout_events_the_carts_attributes_lead_from_the_order_to_the_ad(
    served: Settings, stores: Stores, collector: Running, browser: Browser
) -> None:
    with shop("app", collector.port, browser) as (storefront, page):
        buys(storefront, page, to_the_end=False)
        arrive(served, *VISIT)
        assert storefront.attributes["__truepixel_landing"] == AD
        notes = storefront.notes
    bought = order(7, "token-9", note_attributes=notes, created_at=ago(0), updated_at=ago(0), **PAID)
    assert collector.webhook("orders/create", bought).status == 200
    drain(served)
    assert_credited_to_the_ad(stores)
    audited(served, stores)


@pytest.mark.parametrize("kind", PIXELS)
def test_without_consent_nothing_that_identifies_the_visitor_leaves_the_browser(
    served: Settings, collector: Running, browser: Browser, kind: str
) -> None:
    with shop(kind, collector.port, browser) as (storefront, page):
        storefront.allowed = False
        sent: list[str] = []
        page.context.on("request", lambda request: sent.append(f"{request.url} {request.post_data}"))
        opens(page, storefront.url + AD)
        page.get_by_role("button").click()
        opens(page, f"{storefront.url}/thank-you")
        names = ("page_viewed", "product_added_to_cart", "page_viewed", "checkout_completed")
        arrive(served, *names)
        posted = [text for text in sent if "/v1/pixel" in text]
        assert posted
        for identifying in (CLIENT, EMAIL, "G-1", "Lovelace", "Main St", "15550100"):
            assert not any(identifying in text for text in posted)
        assert {record.key for record in records(served)} == {f"{SHOP}:".encode()}
        assert storefront.attributes == {}
        assert page.evaluate("localStorage.length + sessionStorage.length") == 0
        # The visitor changes their mind: from now on the pixel says who it is, and then no longer.
        page.evaluate("decide(true)")
        page.evaluate("publish([['page_viewed', {}]])")
        page.wait_for_function("localStorage.length === 1")
        page.evaluate("decide(false)")
        page.evaluate("publish([['page_viewed', {}]])")
        page.wait_for_function("localStorage.length === 0")
        arrive(served, *names, "page_viewed", "page_viewed")
    assert [event.get("clientId") for event in pixels(served)].count(CLIENT) == 1


def test_the_collector_drops_events_without_consent_if_it_is_set_to(served: Settings, browser: Browser) -> None:
    with (
        running(served.model_copy(update={"collector_consent": "drop"})) as collector,
        shop("custom", collector.port, browser) as (storefront, page),
    ):
        storefront.allowed = False
        page.goto(storefront.url)
        until(lambda: collector.metrics().get('events_total{outcome="dropped",source="pixel"}') == 1)
    assert records(served) == []


@pytest.mark.parametrize("kind", PIXELS)
def test_events_wait_for_an_unreachable_collector_and_count_once(
    served: Settings, stores: Stores, browser: Browser, kind: str
) -> None:
    with running(served) as collector:
        port = collector.port
        assert collector.end() == 0
    with shop(kind, port, browser) as (storefront, page):
        with page.context.expect_event("requestfailed", lambda request: "/v1/pixel" in request.url):
            page.goto(storefront.url)
        page.evaluate("publish([['page_viewed', {}], ['page_viewed', {}]])")
        with running(served, "--port", str(port)):
            arrive(served, "page_viewed", "page_viewed", "page_viewed")
    drain(served)
    stores.elasticsearch.refresh()
    index = f"{stores.elasticsearch.index('events')}-*"
    assert stores.elasticsearch.client.count(index=index)["count"] == 3


@pytest.mark.parametrize("kind", PIXELS)
@pytest.mark.parametrize("leaving", ["closes the page", "goes elsewhere"])
def test_events_right_before_the_page_ends_arrive(
    served: Settings, collector: Running, browser: Browser, kind: str, leaving: str
) -> None:
    with shop(kind, collector.port, browser) as (storefront, page):
        page.goto(storefront.url)
        arrive(served, "page_viewed")
        # The collector answers nobody until the page is gone. In a custom pixel the later events wait for its answer.
        last = "checkout_completed" if kind == "app" else "cart_viewed"
        os.kill(collector.process.pid, signal.SIGSTOP)
        try:
            with page.context.expect_event("request", lambda request: last in (request.post_data or "")):
                page.evaluate(
                    "publish(['cart_viewed', 'checkout_started', 'checkout_completed'].map((name) => [name, {}]))"
                )
            page.close() if leaving == "closes the page" else page.goto("about:blank")
        finally:
            os.kill(collector.process.pid, signal.SIGCONT)
        arrive(served, "page_viewed", "cart_viewed", "checkout_started", "checkout_completed")


@pytest.mark.parametrize("name", ["app-pixel", "custom-pixel", "theme-embed"])
def test_no_pixel_uses_beacons_or_cookies(built: None, name: str) -> None:
    text = (BUILT / f"{name}.js").read_text()
    assert len(text.encode()) < 5 * 1024
    assert [word for word in ("sendBeacon", "cookie", "_shopify_", "_landing_page") if word in text] == []
    assert json.dumps("gclid") in text if name == "theme-embed" else "keepalive" in text
