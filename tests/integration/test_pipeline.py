"""The whole pipeline on the real servers, judged by the independent oracle."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from tests.integration.driving import audited, drain, flush, record, send
from truepixel_dagster.audit.account import account
from truepixel_dagster.dead_letters import topic as dead_letters
from truepixel_dagster.local.samples import read_lines
from truepixel_dagster.local.traffic import traffic
from truepixel_dagster.resources import Stores
from truepixel_dagster.settings import Settings
from truepixel_dagster.stores.mongodb import AD_LEADS, CUSTOMERS

SAMPLES = Path(__file__).parent.parent / "samples"
NOON = "2026-01-01T12:00:00.000Z"


def pixel(event_id: str, name: str = "page_viewed", at: str = NOON, query: str = "", **data: Any) -> dict[str, Any]:
    location = {"href": f"https://shop.example/{query}"}
    context = {"document": {"location": location}}
    return {"id": event_id, "name": name, "clientId": "c", "timestamp": at, "data": data, "context": context}


def completed(event_id: str, token: str = "tok", at: str = NOON, query: str = "") -> dict[str, Any]:
    lines = [{"quantity": 2, "variant": {"product": {"id": "p1"}, "price": {"amount": 5.0, "currencyCode": "USD"}}}]
    checkout = {"token": token, "currencyCode": "USD", "totalPrice": {"amount": 10.0, "currencyCode": "USD"}}
    return pixel(event_id, "checkout_completed", at, query, checkout={**checkout, "lineItems": lines})


def order(order_id: int, token: str | None = "tok", **fields: Any) -> dict[str, Any]:
    lines = [{"product_id": 1, "quantity": 2, "price": "5.00", "discount_allocations": []}]
    base = {"id": order_id, "checkout_token": token, "created_at": NOON, "updated_at": NOON, "currency": "USD"}
    return {**base, "total_price": "10.00", "financial_status": "pending", "line_items": lines, **fields}


def attribution(stores: Stores, id_: str) -> dict[str, Any]:
    (found,) = stores.elasticsearch.mget([(stores.elasticsearch.index("attributions"), id_)])
    assert found is not None
    return found.source


def test_generated_traffic_ends_in_the_oracles_state(settings: Settings, stores: Stores) -> None:
    records = traffic(6000, seed=3, shops=5, duplicates=0.05, malformed=0.02)
    send(settings, [(r.key, r.value, r.headers) for r in records])
    drain(settings)
    found = audited(settings, stores)
    assert found.duplicates > 100
    assert found.dead_letters > 50
    assert found.attributions > 30
    counts = account(settings)
    assert counts.lost == []
    assert counts.indexed + counts.duplicates + counts.dead_letters == counts.produced == 6000


def test_three_lanes_end_in_the_oracles_state_too(settings: Settings, stores: Stores) -> None:
    send(settings, [(r.key, r.value, r.headers) for r in traffic(3000, seed=5, shops=3)])
    drain(settings, lanes=3)
    audited(settings, stores)


def test_the_same_file_again_changes_only_the_count_of_duplicates(settings: Settings, stores: Stores) -> None:
    records = [(r.key, r.value, r.headers) for r in traffic(1500, seed=8, shops=2, duplicates=0, malformed=0)]
    send(settings, records)
    drain(settings)
    audited(settings, stores)
    before = account(settings)
    send(settings, records)
    drain(settings)
    audited(settings, stores)
    after = account(settings)
    assert (after.produced, after.duplicates) == (2 * before.produced, before.duplicates + len(records))
    assert (after.indexed, after.attributions, after.customers) == (
        before.indexed,
        before.attributions,
        before.customers,
    )


def test_redelivered_records_continue_and_change_nothing(settings: Settings, stores: Stores) -> None:
    send(settings, [(r.key, r.value, r.headers) for r in traffic(1200, seed=9, shops=2)])
    drain(settings)
    audited(settings, stores)
    forget_offsets(settings)
    again = drain(settings.model_copy(update={"batch_messages": 97}))
    assert sum(metrics.redelivered for metrics in again) > 1000
    assert sum(metrics.indexed for metrics in again) == 0
    audited(settings, stores)


def forget_offsets(settings: Settings) -> None:
    from confluent_kafka.admin import AdminClient

    from truepixel_dagster.stream.client_config import client_config

    admin = AdminClient(client_config(settings.kafka()))
    admin.delete_consumer_groups([settings.group])[settings.group].result()


@pytest.mark.parametrize("pixel_first", [True, False])
def test_an_order_that_pixel_and_webhook_report_is_counted_once(
    settings: Settings, stores: Stores, pixel_first: bool
) -> None:
    touch = record("s:c", pixel("e1", at="2026-01-01T11:00:00.000Z", query="?utm_source=news&utm_campaign=jan"))
    seen = [
        record("s:c", completed("e2")),
        record("s:other", order(77), topic="orders/create", event_id="w1", source="webhook"),
    ]
    send(settings, [touch])
    drain(settings)
    for sighting in seen if pixel_first else seen[::-1]:
        send(settings, [sighting])
        drain(settings)
    audited(settings, stores)
    document = attribution(stores, "s:tok")
    assert document["order_id"] == "77"
    assert document["client_id"] == "c"
    (credited,) = document["credits"]["last_click"]
    assert credited == {
        "platform": "news",
        "source": "news",
        "channel": "unassigned",
        "campaign": "jan",
        "amount": 1000,
        "net": 1000,
        "event_id": "e1",
    }
    customers = stores.mongodb.read(CUSTOMERS, ["s:c", "s:other"])
    assert [customers[id_]["orders"] for id_ in ("s:c", "s:other")] == [1, 0]
    assert [customers[id_]["revenue"] for id_ in ("s:c", "s:other")] == [{"USD": 1000}, {}]


def test_a_refund_and_a_cancellation_change_the_status_only_whenever_they_come(
    settings: Settings, stores: Stores
) -> None:
    back = [{"kind": "refund", "status": "success", "amount": "10.00", "currency": "USD"}]
    refund = {"id": 5, "order_id": 77, "created_at": NOON, "refund_line_items": [], "transactions": back}
    early = {**order(88, "late"), "cancelled_at": NOON}
    send(
        settings,
        [
            record("s:x", order(77), topic="orders/create", event_id="w1"),
            record("s:y", refund, topic="refunds/create", event_id="w2"),
            record("s:z", early, topic="orders/cancelled", event_id="w3"),
        ],
    )
    drain(settings)
    send(settings, [record("s:z", order(88, "late"), topic="orders/create", event_id="w4")])
    drain(settings)
    audited(settings, stores)
    assert attribution(stores, "s:tok")["status"] == "refunded"
    assert attribution(stores, "s:late")["status"] == "cancelled"


def test_a_shop_cannot_reach_another_shops_documents(settings: Settings, stores: Stores) -> None:
    hostile = ["a$b.c", 'x"y{}', "p q", "*", "%3A", "return 1"]
    for shop in hostile:
        for client in ["c:d", "$set.x", "c.d e", "{}"]:
            view = pixel(
                f"e {client}", "product_viewed", productVariant={"product": {"id": f"p:{client}"}, "price": None}
            )
            send(settings, [record(f"{shop}:{client}", view)])
    drain(settings)
    found = audited(settings, stores)
    assert found.events == 24
    assert stores.mongodb.count(CUSTOMERS) == 24


@pytest.mark.parametrize("name", ["shopify_pixel.jsonl", "shopify_webhooks.jsonl"])
def test_documented_payloads_are_understood(settings: Settings, stores: Stores, name: str) -> None:
    with (SAMPLES / name).open("rb") as lines:
        records = list(read_lines(lines))
    send(settings, records)
    drain(settings)
    found = audited(settings, stores)
    assert (found.dead_letters, found.duplicates, found.events) == (0, 0, len(records))


def junk(count: int) -> list[tuple[bytes | None, bytes | None, Any]]:
    rng = random.Random(4)
    good = json.dumps(pixel("fine")).encode()
    kinds: list[tuple[bytes | None, bytes | None]] = [
        (b"s:c", rng.randbytes(60) + b"\xff"),
        (b"s:c", b'{"id": 1e999, "name": "page_viewed", "clientId": "c"}'),
        (b"s:c", b'{"id": "x", "name": "x", "clientId": "c", "z": ' + b"[" * 5000 + b"]" * 5000 + b"}"),
        (b"s:c", b'{"id": "x", "name": ["page_viewed"], "clientId": "c"}'),
        (b"s:c", b'{"id": {"a": 1}, "name": "page_viewed", "clientId": 7}'),
        (b"", good),
        (None, good),
        (b"no-colon", good),
        (b"s:\xff", good),
        (b"s:c", None),
        (b"s:c", b"null"),
        (b"s:c", good[: len(good) // 2]),
        (b"s:c", json.dumps({**pixel("x", "product_viewed"), "data": {"productVariant": "none"}}).encode()),
        (b"s:c", json.dumps({**pixel("x"), "timestamp": 99999999999999999999}).encode()),
    ]
    return [(*kinds[number % len(kinds)], ()) for number in range(count)]


def test_junk_between_good_messages_is_dead_letters_that_say_why(settings: Settings, stores: Stores) -> None:
    bad = junk(200)
    good = [record("s:c", pixel(f"g{number}")) for number in range(150)]
    mixed = [*bad, *good]
    random.Random(5).shuffle(mixed)
    send(settings, mixed)
    drain(settings)
    found = audited(settings, stores)
    letters = list(dead_letters.read(settings.kafka()))
    assert len(letters) == 200
    assert all(letter.error and letter.stage == "decode" for letter in letters)
    assert found.events == 150


def test_a_document_that_elasticsearch_refuses_is_a_dead_letter_of_its_stage(
    settings: Settings, stores: Stores
) -> None:
    twice = b'{"id": "e", "name": "x", "clientId": "c", "zz": {"a": 1, "a": 2}}'
    send(settings, [record("s:c", twice), record("s:c", pixel("fine"))])
    drain(settings)
    (letter,) = dead_letters.read(settings.kafka())
    assert letter.stage == "index"
    assert letter.message.value == twice
    assert stores.mongodb.read(CUSTOMERS, ["s:c"])["s:c"]["events"] == 1


def test_touches_are_bounded_and_the_journey_is_that_of_the_orders_own_offset(
    settings: Settings, stores: Stores
) -> None:
    views = [record("s:c", pixel(f"e{i:03d}", query=f"?utm_source=n&utm_campaign=k{i}")) for i in range(60)]
    bought = record("s:c", completed("order"))
    send(settings, [*views[:55], bought, *views[55:]])
    drain(settings)
    audited(settings, stores)
    touches = attribution(stores, "s:tok")["touches"]
    assert [touches[0]["event_id"], touches[-1]["event_id"], len(touches)] == ["e005", "e054", 50]
    stored = stores.mongodb.read(AD_LEADS, ["s:c"])["s:c"]["touches"]
    assert [stored[0]["event_id"], stored[-1]["event_id"]] == ["e010", "e059"]


def test_a_flush_gives_what_the_stream_counted(settings: Settings, stores: Stores) -> None:
    view = pixel("v", "product_viewed", productVariant={"product": {"id": "p1"}, "price": None})
    send(settings, [record("s:c", view), record("s:c", completed("o"))])
    drain(settings)
    flush(stores)
    index = stores.elasticsearch.index("product-stats-2026.01")
    (found,) = stores.elasticsearch.mget([(index, "s:p1:2026-01-01")])
    assert found is not None
    counts = {name: found.source[name] for name in ("views", "carts", "checkouts", "orders", "units", "revenue")}
    assert counts == {"views": 1, "carts": 0, "checkouts": 0, "orders": 1, "units": 2, "revenue": {"USD": 1000}}
