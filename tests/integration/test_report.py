"""The report on the real servers has the figures of the documents in Elasticsearch, added up by hand."""

from __future__ import annotations

import json
from collections import Counter
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tests.integration.driving import drain, flush, record, send
from tests.integration.test_cli import run
from tests.integration.test_pipeline import completed, order, pixel
from truepixel_dagster.orders.credit import MODELS
from truepixel_dagster.report.figures import GROUPINGS
from truepixel_dagster.resources import Stores
from truepixel_dagster.settings import Settings

SHOP, ZONE = "548380009", "America/New_York"
ADS = (
    "?utm_source=google&utm_medium=cpc&utm_campaign=brand&gclid=G",
    "?utm_source=ig&utm_medium=paid_social&utm_campaign=spring",
    "?utm_source=klaviyo&utm_medium=email&utm_campaign=\x1b[31m%5B/%5D",
)
LATE = "2026-01-11T23:30:00-05:00"  # the 12th in UTC
NEXT = "2026-01-12T00:30:00-05:00"
Doc = dict[str, Any]


def buyer(client: str, visits: tuple[str, ...], **fields: Any) -> list[tuple[bytes, bytes, Any]]:
    """Visits by ads, two days apart, and the order of a client, as pixel and webhook report it."""
    key, number = f"{SHOP}:{client}", fields.pop("id", sum(client.encode()))
    seen = [
        pixel(f"{client}{n}", at=f"2026-01-0{2 * n + 3}T09:00:00.000Z", query=query) for n, query in enumerate(visits)
    ]
    done = completed(f"{client}-done", f"token-{client}", at=NEXT)
    bought = order(number, f"token-{client}", **{"created_at": NEXT, "updated_at": NEXT, **fields})
    headers = {"source": "webhook", "topic": "orders/create", "event_id": f"{client}-order"}
    pages = [{**page, "clientId": client} for page in (*seen, *([done] if visits else ()))]
    return [*(record(key, page) for page in pages), record(key, bought, **headers)]


def money_back(amount: str, number: int) -> Doc:
    given = {"id": number, "kind": "refund", "status": "success", "amount": amount, "currency": "USD"}
    return {"id": number, "created_at": NEXT, "refund_line_items": [], "transactions": [given]}


@pytest.fixture
def sold(settings: Settings, stores: Stores) -> Settings:
    stores.mongodb.collection("shops").insert_one({"_id": SHOP, "operator": {"time_zone": ZONE}, "schema": 3})
    paid: Doc = {"financial_status": "paid", "source_name": "web"}
    send(
        settings,
        [
            *buyer("late", ADS[:1], **paid, total_price="20.00", created_at=LATE, updated_at=LATE),
            *buyer("three", ADS, **paid, total_price="100.00", refunds=[money_back("0.50", 1)]),
            *buyer("all", ADS[:2], **paid, total_price="33.33", refunds=[money_back("33.33", 2)]),
            *buyer("edited", ADS, **paid, total_price="80.00", current_total_price="50.00"),
            *buyer("void", ADS[1:], financial_status="voided", total_price="30.00"),
            *buyer("yen", ADS, **paid, total_price="3001", currency="JPY"),
            *buyer("free", ADS, **paid, total_price="0.00"),
            *buyer("direct", (), **paid, total_price="7.00"),
            *buyer("till", (), financial_status="paid", source_name="pos", total_price="9.99"),
            *buyer("test", ADS[:1], **paid, total_price="999.00", test=True),
        ],
    )
    drain(settings)
    flush(stores)
    stores.elasticsearch.refresh()
    return settings


def report(settings: Settings, *arguments: str) -> Doc:
    done = run(settings, "report", "--shop", SHOP, "--json", *arguments)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def day_of(document: Doc) -> str:
    moment = datetime.fromisoformat(document["occurred_at"].replace("Z", "+00:00"))
    return moment.astimezone(ZoneInfo(ZONE)).date().isoformat()


def by_hand(documents: list[Doc], by: str, model: str) -> dict[tuple[Any, ...], Counter[str]]:
    """Gross and net by names and currency, from the documents alone."""
    found: dict[tuple[Any, ...], Counter[str]] = {}
    for document in documents:
        for credit in document["credits"][model]:
            named = {**credit, "day": day_of(document)}
            key = (*(named.get(name) for name in GROUPINGS[by]), document["value"]["currency"])
            found.setdefault(key, Counter()).update(gross=credit["amount"], net=credit["net"])
    return found


def assert_true(found: Doc, documents: list[Doc], by: str, model: str) -> None:
    names = GROUPINGS[by]
    rows = {(*(row[name] for name in names), row["currency"]): row for row in found["sources"]}
    assert len(rows) == len(found["sources"])
    expected = by_hand(documents, by, model)
    assert {key: (row["gross"], row["net"]) for key, row in rows.items()} == {
        key: (sums["gross"], sums["net"]) for key, sums in expected.items()
    }
    assert found["orders"] == len(documents)
    for currency in {document["value"]["currency"] for document in documents}:
        own = [document for document in documents if document["value"]["currency"] == currency]
        shown = [row for row in found["sources"] if row["currency"] == currency]
        (total,) = [total for total in found["totals"] if total["currency"] == currency]
        for name, field in {"gross": "value", "refunded": "refunded", "net": "net"}.items():
            amount = sum(document[field]["amount"] for document in own)
            assert sum(row[name] for row in shown) == total[name] == amount, (name, currency)
        for name, count in {
            "orders": len(own),
            "new_customers": sum(document.get("new_customer") is True for document in own),
            "returning_customers": sum(document.get("new_customer") is False for document in own),
        }.items():
            assert total[name] == count
            assert sum(row[name] for row in shown) == pytest.approx(count, abs=1e-5)


def test_the_report_is_what_the_documents_say(sold: Settings, stores: Stores) -> None:
    everything = [hit["_source"] for hit in stores.elasticsearch.scan("attributions")]
    documents = [document for document in everything if not document.get("test")]
    assert len(documents) == len(everything) - 1 == 9
    assert sum(document["refunded"]["amount"] for document in documents) == 3383
    assert max(len(document["credits"]["linear"]) for document in documents) == 3
    for by, model in [*((by, "linear") for by in GROUPINGS), *(("campaign", model) for model in MODELS)]:
        found = report(sold, "--by", by, "--model", model)
        assert (found["test_orders"], found["unreadable"], found["period"]) == (1, 0, "")
        assert_true(found, documents, by, model)

    channels = {row["channel"]: row for row in report(sold, "--by", "channel")["sources"]}
    assert {"paid_search", "paid_social", "email", "direct", "pos"} == set(channels)
    assert (channels["pos"]["gross"], channels["direct"]["gross"], channels["pos"]["orders"]) == (999, 700, 1)

    # 23:30 and 00:30 of New York are one day in UTC and two of the shop's.
    for day, count in {"2026-01-10": 0, "2026-01-11": 1, "2026-01-12": 8, "2026-01-13": 0}.items():
        own = [document for document in documents if day_of(document) == day]
        found = report(sold, "--by", "platform", "--from", day, "--to", day)
        assert len(own) == count
        assert found["period"] == f"from {day} to {day} ({ZONE})"
        assert_true(found, own, "platform", "last_click")
    assert report(sold, "--to", "2026-01-11")["products"][0]["orders"] == 1
    assert report(sold, "--from", "2026-01-12")["orders"] == 8
    assert report(sold, "--last", "1h")["orders"] == 0
    long_ago = run(sold, "report", "--shop", SHOP, "--to", "2020-01-01")
    assert f"no data of shop {SHOP} to 2020-01-01 ({ZONE}). Shops" in " ".join(long_ago.stderr.split())

    # Without a zone in the registry, the webhook's own offset determines the day, as for products.
    stores.mongodb.collection("shops").delete_one({"_id": SHOP})
    assert report(sold, "--to", "2026-01-11")["orders"] == 1
    assert report(sold, "--from", "2026-01-12")["orders"] == 8

    shown = run(sold, "report", "--shop", SHOP, "--by", "campaign", "--last", "999w").stdout
    assert "test orders, not counted: 1" in shown
    assert "\x1b" not in shown
    assert "[/]" in shown
    refused = run(sold, "report", "--shop", SHOP, "--last", "soon")
    assert refused.returncode == 2
    assert refused.stderr.splitlines()[-1].endswith("'soon' is not a time such as 24h, 7d or 4w")
