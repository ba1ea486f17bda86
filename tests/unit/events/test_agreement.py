"""Pipeline and oracle agree about whatever a client sends: an event of the same meaning, or a dead letter."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.examples import examples, sampled
from tests.unit.events.test_hostile import HOSTILE, places, replaced
from truepixel_dagster.audit import oracle
from truepixel_dagster.events.decode import Undecodable, decode
from truepixel_dagster.events.event import Event, Message
from truepixel_dagster.events.origin import Origin
from truepixel_dagster.local.traffic import traffic
from truepixel_dagster.stages import index

RECORDS = [record for record in traffic(600, seed=19, malformed=0) if record.kind == "event"]
EXAMPLES = list({record.name: record for record in RECORDS}.values())
ARRIVED = 1_790_000_000_000
# Values that only Elasticsearch rejects: they are dead letters of the stage index.
AT_THE_INDEX = ("twice", "1,000 digits")

TIMES = [
    "2026-01-05T10:00:00.9999999Z", "2026-01-05t10:00:00z", "2026-01-05 10:00:00", "2026-01-05T10:00:00+0530",
    "2026-01-05T24:00:00Z", "2026-01-05T10:00:60Z", "2026-01-05T10:00:00,5Z", "2026-01-05", "0001-01-01T00:00:00+23:00",
    "9999-12-31T23:59:59-23:00", "+275760-09-13T00:00:00.000Z", "-271821-04-20T00:00:00.000Z", "0000-01-01T00:00:00Z",
    "2087-03-14T09:26:53.000Z", "1970-01-01T00:04:10.000Z", "1767225600000000", "-1", "1e3", "2014-12-31T23:59:59Z",
    "2026-09-21T14:13:20Z", "2026-08-01T00:00:00Z", "2026-01-05T10:00:00+24:00", "2026-02-30T00:00:00Z",
]  # fmt: skip
AMOUNTS = [
    "1_000", " 12 ", "１２", "NaN", "-Infinity", "0.004999999999999999999999999999999999999999999", 0.005, -0.0, 10**15,
    10**15 + 1, "1e15", "1e-400000", 1e308, 2.0, "2", "", "0x1", 999_999_999_999_999, "9999999999999.995",
    "2.0", "2e0", 2.5, " 2", "-1", "1e999999999", " ", "1000000", "1000001",
]  # fmt: skip
CURRENCIES = ["usd", "JPY", "KWD", "ABC", "", "US", "ÄÖÜ", "ıqd", "JEP", "XXX", "VEF", 5]
IDS = [
    "gid://shopify/Order/5", "gid://shopify/Order/", "gid://x/1", "gid://shopify/a/b/c?d", "x" * 256, "x" * 257,
    "ü" * 128 + "x", 10**255, 10**300, -0, 1.0, True, "\x00", "\ud83d", "a\ud83d\ude00b", "\\ud800", ":", "%", " ", "0",
]  # fmt: skip
ADDRESSES = [
    "https://x/?utm_source=a#?utm_source=b", "https://x/#?gclid=1", "https://[x/?gclid=1", "?gclid", "?gclid=",
    "?GCLID=1&gclid=2", "https://x/?" + "&".join(f"p{n}=1" for n in range(500)) + "&gclid=9", "?utm_source=%ff%20",
    "https://x/?" + "y" * 5000 + "&utm_source=late", "?utm%5Fsource=hidden", "?a=1;utm_source=b", "??gclid=2",
    "?utm_source=\ud83d", "?utm_sou\nrce=1", "?epi\u212a=1", "?utm_ſource=1", "?utm_source==&utm_medium=+ +",
    "x" * 5000, "?&&utm_term=%00", "/p?=1&gclid=3", "?utm_source=a?utm_medium=b", "?gclid=1&fbclid=1",
]  # fmt: skip
VALUES = [*HOSTILE, *TIMES, *AMOUNTS, *CURRENCIES, *IDS, *ADDRESSES, [None], [{}], [[]], {"": 1}, {"id": {}}]
IN_JSON = [json.dumps(value) for value in VALUES]
PLACE = "the place of a value"
NAMES = [
    "orders/create", "orders/paid", "orders/updated", "orders/cancelled", "refunds/create", "refunds/x",
    "orders/create ", "carts/update", "customers/update", "products/update", "orders", "carts", "x" * 257, "a/create",
    "\x00",
    "checkouts/update", "ORDERS_PAID", "orders_create", " ORDERS/UPDATED", "CHECKOUTS_UPDATE", "ORDERS_",
    "REFUNDS_CREATE", "CUSTOMERS_MARKETING_CONSENT_UPDATE", "MY_TOPIC", "ORDER_TRANSACTIONS_CREATE",
    "MARKETS_BACKUP_REGION_UPDATE", "_",
]  # fmt: skip
# Names on the paths to the fields that stages read, and some beside them.
READ = frozenset(
    [
        "id",
        "name",
        "timestamp",
        "clientId",
        "data",
        "context",
        "document",
        "location",
        "href",
        "search",
        "referrer",
        "productVariant",
        "price",
        "amount",
        "product",
        "currencyCode",
        "cartLine",
        "merchandise",
        "cost",
        "totalAmount",
        "quantity",
        "cart",
        "lines",
        "collection",
        "productVariants",
        "searchResult",
        "checkout",
        "token",
        "email",
        "totalPrice",
        "lineItems",
        "variant",
        "discountAllocations",
        "order",
        "customer",
        "created_at",
        "updated_at",
        "cancelled_at",
        "landing_site",
        "referring_site",
        "checkout_token",
        "order_id",
        "currency",
        "presentment_currency",
        "total_price",
        "financial_status",
        "contact_email",
        "line_items",
        "product_id",
        "total_discount",
        "discount_allocations",
        "title",
        "note",
    ]
)
HEADER_NAMES = [
    "source", "topic", "event_id", "received_at", "shop_domain", "X", "error", "origin", "Topic", "EVENT_ID",
    "X-Shopify-Topic", "shopify-topic", "X-SHOPIFY-WEBHOOK-ID", "Shopify-Webhook-Id", "X-Shopify-Event-Id",
    "X-Shopify-Triggered-At", "X-Shopify-Shop-Domain", "x-x-shopify-topic",
]  # fmt: skip
HEADERS = st.lists(
    st.tuples(
        st.sampled_from(HEADER_NAMES),
        st.none()
        | st.binary(max_size=8)
        | st.sampled_from(
            [*NAMES, *TIMES, "orders/paid:7", "pixel", "webhook", "", "1790000000000", "9" * 30, "١"]
        ).map(lambda text: text.encode()),
    ),
    max_size=6,
)
TIMESTAMPS = st.sampled_from([ARRIVED, ARRIVED, ARRIVED, -1, 0, ARRIVED * 1000, 978_307_200_000, 2**62, -(2**62)])


def judged(message: Message) -> oracle.Event | str:
    """Return the oracle's event of a message, or the reason why there is none."""
    origin = message.origin
    headers = list(message.headers)
    at = (origin.topic, origin.partition, origin.offset, message.timestamp)
    try:
        return oracle.decode(oracle.Record(*at, message.key, message.value, headers))
    except oracle.DeadLetter as reason:
        return str(reason)


def agree(message: Message) -> None:
    ours, theirs = decode(message), judged(message)
    if isinstance(theirs, str):
        known = any(words in theirs for words in AT_THE_INDEX)
        assert known or isinstance(ours, Undecodable), f"an event: {ours}; the oracle: {theirs}"
        return
    assert isinstance(ours, Event), f"a dead letter: {ours.reason}; the oracle: {theirs}"
    written = json.loads(index.document(ours))
    # Fields that the oracle does not have: the payload, and our own.
    for name in ("payload", "schema", "shop_domain", "checkout_token", "cart_token"):
        written.pop(name, None)
    assert written == oracle.event_doc(theirs)
    content = theirs.content
    assert (ours.user, ours.email_hash, ours.customer_id) == (theirs.user, content.email_hash, content.customer_id)


def message(value: bytes | None, key: bytes | None, headers: Any, timestamp: int = ARRIVED) -> Message:
    return Message(Origin("t", 0, 0), key, value, tuple(headers), timestamp)


@examples(400)
@given(st.data())
def test_they_agree_about_a_real_record_with_hostile_values(data: st.DataObject) -> None:
    record = data.draw(st.sampled_from(EXAMPLES))
    payload = json.loads(record.value)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.sampled_from(places(payload)))
        payload = replaced(payload, place, data.draw(st.sampled_from(VALUES)))
    headers = [*record.headers, *data.draw(HEADERS)] if data.draw(st.booleans()) else record.headers
    agree(message(json.dumps(payload).encode(), record.key, headers, data.draw(TIMESTAMPS)))


# One event of each way in which payloads are read.
KINDS = {
    "page_viewed", "product_viewed", "product_added_to_cart", "cart_viewed", "collection_viewed", "search_submitted",
    "checkout_completed", "orders/create", "orders/cancelled", "refunds/create", "carts/update", "checkouts/update",
}  # fmt: skip
NAMED = pytest.mark.parametrize("record", [r for r in EXAMPLES if r.name in KINDS], ids=lambda record: record.name)


def only_read_fields(value: Any) -> Any:
    """A payload with only the fields that are read, and two items of each list: the rest took most of the time."""
    if isinstance(value, dict):
        return {name: only_read_fields(item) for name, item in value.items() if name in READ}
    return [only_read_fields(item) for item in value[:2]] if isinstance(value, list) else value


@NAMED
def test_they_agree_about_every_value_in_every_field_that_is_read(record: Any) -> None:
    payload = only_read_fields(json.loads(record.value))
    for place in sampled(places(payload)):
        before, after = json.dumps(replaced(payload, place, PLACE)).split(json.dumps(PLACE))
        for value in IN_JSON:
            agree(message(f"{before}{value}{after}".encode(), record.key, record.headers))


@NAMED
def test_they_agree_about_every_field_under_every_topic(record: Any) -> None:
    payload = json.loads(record.value)
    for topic in sampled(NAMES):
        agree(message(record.value, record.key, [("topic", topic.encode())]))
        for name in payload:
            agree(message(json.dumps({**payload, name: {"x": 1}}).encode(), record.key, [("topic", topic.encode())]))


@examples(300)
@given(st.sampled_from(EXAMPLES), st.data())
def test_they_agree_about_a_real_record_with_changed_bytes(record: Any, data: st.DataObject) -> None:
    value = bytearray(record.value)
    for _ in range(data.draw(st.integers(1, 8))):
        value[data.draw(st.integers(0, len(value) - 1))] = data.draw(st.integers(0, 255))
    agree(message(bytes(value), record.key, record.headers))


@examples(300)
@given(st.sampled_from(EXAMPLES), HEADERS, TIMESTAMPS)
def test_they_agree_about_any_headers_and_times(record: Any, headers: Any, timestamp: int) -> None:
    agree(message(record.value, record.key, headers, timestamp))


@given(st.binary(max_size=300), st.none() | st.binary(max_size=20))
@example(b"\xef\xbb\xbf" + RECORDS[0].value, b"s:c")
@example(b"\xef\xbb\xbf\xef\xbb\xbf" + RECORDS[0].value, b"s:c")
@example(b'{"id":"a","name":"x","clientId":1,"z":[' + b"{}," * 200 + b"1" + b"1" * 900 + b"]}", b"s:c")
@example(b'{"id":"a","name":"x","clientId":1,"z":[' + b"{}," * 200 + b"1e400]}", b"s:c")
@example(b'{"id":"a","name":"x","clientId":1,"z":"' + b"[" * 200 + b'"}', b"s:c")
@example(b'{"id":"a","name":"x","clientId":1,"z":"\\u0000\\ud83d\\ude00\\ude00\\\\ud800"}', b"s:c")
def test_they_agree_about_any_bytes(value: bytes, key: bytes | None) -> None:
    agree(message(value, key, ()))
