"""Our headers and Shopify's own, in any case; topics as Shopify writes them here and there; ids of a topic's own."""

from __future__ import annotations

import json

import msgspec
import pytest

from tests.examples import share
from truepixel_dagster.events.decode import decode
from truepixel_dagster.events.event import Event, Message
from truepixel_dagster.events.headers import topic_name
from truepixel_dagster.events.identifiers import topic_of
from truepixel_dagster.events.origin import Origin
from truepixel_dagster.events.privacy_request import CUSTOMER_REDACT, is_privacy_request, stripped
from truepixel_dagster.local.traffic import traffic
from truepixel_dagster.rebuild.history import event_of
from truepixel_dagster.stages.index import document

ORDER = {"id": 5, "created_at": "2026-01-01T22:30:00-05:00", "financial_status": "paid"}
AT = 1_767_585_600_000


def message(
    *headers: tuple[str, bytes | None], timestamp: int = AT, value: bytes = json.dumps(ORDER).encode()
) -> Message:
    return Message(Origin("t", 0, 7), b"shop:client", value, headers, timestamp)


def understood(*headers: tuple[str, bytes | None], timestamp: int = AT) -> Event:
    event = decode(message(*headers, timestamp=timestamp))
    assert isinstance(event, Event), event
    return event


@pytest.mark.parametrize(
    ("written", "topic"),
    [
        ("orders/paid", "orders/paid"),
        (" Orders/Paid\n", "orders/paid"),
        ("ORDERS_PAID", "orders/paid"),
        ("ORDERS_PARTIALLY_FULFILLED", "orders/partially_fulfilled"),
        ("ORDER_TRANSACTIONS_CREATE", "order_transactions/create"),
        ("CUSTOMERS_DATA_REQUEST", "customers/data_request"),
        ("CUSTOMERS_MARKETING_CONSENT_UPDATE", "customers_marketing_consent/update"),
        ("FULFILLMENT_ORDERS_LINE_ITEMS_PREPARED_FOR_PICKUP", "fulfillment_orders/line_items_prepared_for_pickup"),
        ("APP_SCOPES_UPDATE", "app/scopes_update"),
        ("SHOP_UPDATE", "shop/update"),
        ("shop_redact", "shop/redact"),
        ("MY_OWN_TOPIC", "my_own/topic"),
        ("ORDERS_", "orders/"),
        ("orders", "orders"),
        ("  ", None),
        (None, None),
    ],
)
def test_a_topic_is_one_however_it_is_written(written: str | None, topic: str | None) -> None:
    assert topic_name(written) == topic


@pytest.mark.parametrize("prefix", ["X-Shopify-", "Shopify-", "x-shopify-", "SHOPIFY-"])
def test_shopifys_own_headers_are_understood(prefix: str) -> None:
    event = understood((f"{prefix}Topic", b"orders/paid"), (f"{prefix}Webhook-Id", b"w1"), (f"{prefix}Event-Id", b"e1"))
    assert (event.source, event.name, event.event_id) == ("webhook", "orders/paid", "orders/paid:w1")


def test_our_headers_precede_shopifys_and_an_empty_one_counts_as_missing() -> None:
    theirs = (("X-Shopify-Topic", b"ORDERS_PAID"), ("X-Shopify-Webhook-Id", b"theirs"))
    event = understood(("topic", b"orders/create"), ("Event_Id", b"ours"), *theirs)
    assert (event.name, event.event_id) == ("orders/create", "orders/create:ours")
    event = understood(("topic", b""), ("event_id", None), *theirs)
    assert (event.name, event.event_id) == ("orders/paid", "orders/paid:theirs")


def test_two_topics_never_share_an_event_id_and_an_id_with_its_topic_is_kept() -> None:
    ids = [understood(("topic", topic), ("event_id", b"same")).event_id for topic in (b"orders/create", b"ORDERS_PAID")]
    assert ids == ["orders/create:same", "orders/paid:same"]
    assert understood(("topic", b"orders/paid"), ("event_id", ids[1].encode())).event_id == ids[1]
    assert understood(("topic", b"orders/paid")).event_id == "orders/paid:5"


def test_headers_of_other_names_may_hold_any_bytes() -> None:
    event = understood(("x-\u212aopify-topic", b"\xff"), ("user-agent", b"\xff\x00"), ("topics", None), ("", b"\xff"))
    assert event.name == "orders/create"


def test_shopifys_time_of_sending_is_the_arrival_without_a_header_of_ours() -> None:
    sent = ("X-Shopify-Triggered-At", b"2026-01-06T00:00:00.123456789Z")
    assert understood(sent).received_at == 1_767_657_600_123
    assert understood(sent, ("received_at", b"2026-01-07T00:00:00Z")).received_at == 1_767_744_000_000
    assert understood(("Shopify-Triggered-At", b"2026-01-08T00:00:00Z"), sent).received_at == 1_767_657_600_123


@pytest.mark.parametrize("name", ["topic", "Topic", "X-Shopify-Topic", "shopify-topic"])
@pytest.mark.parametrize("topic", [b"customers/redact", b"CUSTOMERS_REDACT", b" Customers/Redact "])
def test_a_webhook_about_personal_data_is_known_by_any_form_of_its_topic(name: str, topic: bytes) -> None:
    value = msgspec.json.encode({"shop_id": "shop", "customer": {"id": 1, "email": "anna@example.com"}})
    asked = message((name, topic), ("X-Shopify-Webhook-Id", b"w1"), ("X-Shopify-Hmac-Sha256", b"\xff"), value=value)
    assert topic_of(asked) == CUSTOMER_REDACT
    assert is_privacy_request(asked)
    seen = stripped(asked)
    event = decode(seen)
    assert isinstance(event, Event)
    assert (event.user, event.event_id) == ("shop:privacy", "customers/redact:w1")
    assert b"anna" not in repr(seen).encode()
    assert stripped(seen) is seen


def test_an_event_read_back_from_the_history_is_the_same_event() -> None:
    records = [record for record in traffic(share(2000), seed=3, malformed=0.02) if record.kind == "event"]
    decoded = [
        decode(Message(Origin("t", 0, number), record.key, record.value, tuple(record.headers), AT))
        for number, record in enumerate(records)
    ]
    events = [event for event in decoded if isinstance(event, Event)]
    assert len(events) > 0.9 * len(records)
    for event in events:
        assert event_of(msgspec.json.decode(document(event))) == msgspec.structs.replace(event, payload=b"")
