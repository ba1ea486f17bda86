"""The oracle, against numbers worked out by hand."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from truepixel_dagster.audit.oracle import Expected, Record, decay_weights, expected, position_weights, split

DAY = 86_400_000
NOON = "2026-01-05T12:00:00Z"
RECEIVED = 1_767_607_200_000  # 2026-01-05T10:00:00Z
LATER = 1_801_476_000_000  # 2027-02-01T10:00:00Z: no clock of the events below is ahead of it


def record(
    value: Any,
    *,
    offset: int = 0,
    partition: int = 0,
    key: bytes | None = b"shop:anna",
    timestamp: int = LATER,
    **headers: str,
) -> Record:
    raw = value if isinstance(value, bytes) or value is None else json.dumps(value).encode()
    encoded: list[tuple[str, bytes | None]] = [(name, text.encode()) for name, text in headers.items()]
    return Record("events", partition, offset, timestamp, key, raw, encoded)


def pixel(id_: str, name: str = "page_viewed", *, at: str = "2026-01-05T10:00:00Z", url: str = "", **data: Any) -> Any:
    context = {"document": {"location": {"href": f"https://shop.example/{url}"}}}
    return {"id": id_, "name": name, "clientId": "anna", "timestamp": at, "data": data, "context": context}


def completed(
    id_: str, token: str | None = "tok", *, total: Any = "100.00", currency: str | None = "USD", **more: Any
) -> Any:
    at = more.pop("at", "2026-01-05T10:00:00Z")
    url = more.pop("url", "")
    checkout = {"token": token, "totalPrice": {"amount": total, "currencyCode": currency}, **more}
    return pixel(id_, "checkout_completed", at=at, url=url, checkout=checkout)


def order(id_: int = 1, token: str | None = "tok", **more: Any) -> Any:
    base = {"id": id_, "checkout_token": token, "created_at": "2026-01-05T10:00:05Z", "financial_status": "pending"}
    return {**base, "currency": "USD", "total_price": "100.00", **more}


def run(*values: Any, **options: Any) -> Expected:
    """The outcome of these payloads or records, one after another in one partition."""
    records = [
        value if isinstance(value, Record) else record(value, offset=offset) for offset, value in enumerate(values)
    ]
    return expected(records, **options)


def event(value: Any, **headers: Any) -> Any:
    outcome = run(record(value, **headers))
    assert outcome.dead == {}
    return next(iter(outcome.events.values()))


def reason(value: Any, **options: Any) -> str:
    """Why this record is a dead letter."""
    outcome = run(record(value, **options))
    assert outcome.events == {}
    return outcome.dead[0, 0]


def amounts(credit: Iterable[Any]) -> list[int]:
    return [entry["amount"] for entry in credit]


# --- Decoding ---


def test_an_event_document_holds_what_the_contract_names() -> None:
    viewed = pixel(
        "e1",
        "product_viewed",
        at="2026-01-05T12:00:00.1239+02:00",
        url="p?utm_source=News&utm_campaign=%C3%A9t%C3%A9+26#top",
        productVariant={"price": {"amount": 19.99, "currencyCode": "eur"}, "product": {"id": 7}},
    )
    viewed["context"]["document"]["referrer"] = "https://news.example/"
    outcome = run(record(viewed, partition=2, offset=9, received_at="1767607201500"))
    assert outcome.events == {
        "shop:e1": {
            "shop_id": "shop",
            "client_id": "anna",
            "event_id": "e1",
            "name": "product_viewed",
            "source": "pixel",
            "occurred_at": "2026-01-05T10:00:00.123Z",
            "received_at": "2026-01-05T10:00:01.500Z",
            "url": "https://shop.example/p?utm_source=News&utm_campaign=%C3%A9t%C3%A9+26#top",
            "referrer": "https://news.example/",
            "ad": {"platform": "news", "source": "News", "campaign": "été 26"},
            "product_ids": ["7"],
            "value": {"amount": 1999, "currency": "EUR"},
            "kafka": {"topic": "events", "partition": 2, "offset": 9},
        }
    }


@pytest.mark.parametrize(
    ("key", "because"),
    [
        (None, "not shop:client"),
        (b"", "not shop:client"),
        (b"shop", "not shop:client"),
        (b":anna", "not shop:client"),
        (b"\xff:anna", "not UTF-8"),
        (b"s" * 129 + b":anna", "too long"),
        (b"shop:" + b"c" * 257, "too long"),
        (b"shop:an\x7fna", "control character"),
        (b"shop:an\nna", "control character"),
    ],
)
def test_a_key_that_is_not_shop_and_client_is_a_dead_letter(key: bytes | None, because: str) -> None:
    assert because in reason(pixel("e1"), key=key)


def test_the_key_is_split_at_its_first_colon() -> None:
    outcome = run(record(pixel("e1"), key=b"shop:" + b"a:b" + b"c" * 253))
    assert outcome.events["shop:e1"]["client_id"] == "a:b" + "c" * 253


@pytest.mark.parametrize(
    ("value", "because"),
    [
        (None, "empty"),
        (b"", "empty"),
        (b"{", "not JSON"),
        (b'{"id":"e1","name":"x","clientId":"a","n":NaN}', "not JSON"),
        (b'{"id":"e1","name":"x","clientId":"a","n":-Infinity}', "not JSON"),
        (b'{"id":"\xc3\x28"}', "not UTF-8"),
        (b"[]", "not an object"),
        (b"null", "not an object"),
        (b'{"a":' * 129 + b"1" + b"}" * 129, "too deep"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "too deep"),
        (b'{"id":"e1","name":"x","clientId":"\xef\xbb\xbf', "not JSON"),
        (b'"' + b"a" * (40 * 1024 * 1024 - 1) + b'"', "too large"),
    ],
)
def test_a_value_that_is_not_a_json_object_is_a_dead_letter(value: bytes | None, because: str) -> None:
    assert because in reason(value)


def test_128_levels_are_not_too_deep_and_a_repeated_name_is_a_dead_letter_as_the_event_history_refuses_it() -> None:
    deep = b'{"a":' * 127 + b"1" + b"}" * 127
    rest = b'"id":"e1","name":"x","clientId":"a","timestamp":"2026-01-05T10:00:00Z","more":' + deep + b"}"
    assert event(b"{" + rest)["event_id"] == "e1"
    assert "twice" in reason(b'{"id":"no",' + rest)
    assert "twice" in reason(b'{"x":[{"y":1,"y":1}],' + rest)


@pytest.mark.parametrize(
    ("value", "headers", "source", "name"),
    [
        ({"id": 1, "name": "x", "clientId": None}, {}, "pixel", "x"),
        ({"id": 1, "name": "x", "context": None}, {}, "pixel", "x"),
        ({"id": 1, "name": "x", "clientId": "a"}, {"source": "webhook", "topic": "a/b"}, "webhook", "a/b"),
        ({"id": 1, "name": "x", "clientId": "a"}, {"topic": "a/b"}, "webhook", "a/b"),
        ({"id": 1, "name": "x"}, {"source": "pixel", "topic": "a/b"}, "pixel", "x"),
        ({"id": 1, "refund_line_items": [], "order_number": 1}, {}, "webhook", "refunds/create"),
        ({"id": 1, "name": "#1", "financial_status": None}, {}, "webhook", "orders/create"),
        ({"id": 1, "order_number": 1, "cancelled_at": "2026-01-05T10:00:00Z"}, {}, "webhook", "orders/cancelled"),
        ({"id": 1, "abandoned_checkout_url": "", "token": "", "line_items": []}, {}, "webhook", "checkouts/create"),
        ({"id": 1, "token": "t", "line_items": []}, {}, "webhook", "carts/update"),
    ],
)
def test_headers_and_else_the_shape_tell_source_and_name(value: Any, headers: Any, source: str, name: str) -> None:
    found = event(value, **headers)
    assert (found["source"], found["name"]) == (source, name)


def test_an_unknown_source_or_shape_is_a_dead_letter() -> None:
    assert "neither pixel nor webhook" in reason(pixel("e1"), source="email")
    assert "unknown shape" in reason({"id": 1})
    assert "unknown shape" in reason({"id": 1, "token": "t"}, source="webhook")


@pytest.mark.parametrize(
    ("value", "headers", "event_id"),
    [
        (pixel("e1"), {"event_id": "h1"}, "h1"),
        (pixel("e1"), {"event_id": ""}, "e1"),
        ({**pixel("e1"), "id": 12}, {}, "12"),
        (order(5, updated_at=NOON), {"topic": "orders/paid"}, "orders/paid:5"),
        (order(5, updated_at=NOON), {"topic": "orders/updated"}, f"orders/updated:5:{NOON}"),
        (order(5), {"topic": "orders/updated"}, "orders/updated:5"),
        ({"id": "cart", "updated_at": "2026-01-06"}, {"topic": "a/create"}, "a/create:cart:2026-01-06"),
        ({**pixel("e1"), "id": "ü" * 128}, {}, "ü" * 128),
    ],
)
def test_the_event_id_comes_from_the_header_else_from_the_payload(value: Any, headers: Any, event_id: str) -> None:
    assert event(value, **headers)["event_id"] == event_id


@pytest.mark.parametrize("id_", [None, "", "ü" * 128 + "x", 1.5, True, ["e1"], {"id": "e1"}])
def test_an_event_without_a_usable_id_is_a_dead_letter(id_: Any) -> None:
    assert "id" in reason({**pixel("e1"), "id": id_})


@pytest.mark.parametrize(
    ("topic", "times", "occurred_at"),
    [
        ("orders/create", {"created_at": 1, "updated_at": 2, "cancelled_at": 3}, 1),
        ("orders/paid", {"created_at": 1, "updated_at": 2}, 1),
        ("refunds/create", {"created_at": 1, "updated_at": 2}, 1),
        ("customers/create", {"created_at": 1, "updated_at": 2}, 1),
        ("carts/create", {"updated_at": 2}, 0),
        ("orders/cancelled", {"created_at": 1, "updated_at": 2, "cancelled_at": 3}, 3),
        ("orders/cancelled", {"created_at": 1, "updated_at": 2}, 2),
        ("orders/cancelled", {"created_at": 1}, 1),
        ("orders/updated", {"created_at": 1, "updated_at": 2, "cancelled_at": 3}, 2),
        ("carts/update", {"created_at": 1, "updated_at": None}, 1),
        ("shop/update", {}, 0),
    ],
)
def test_each_topic_has_its_time_and_without_it_the_time_of_arrival(topic: str, times: Any, occurred_at: int) -> None:
    stamps = {name: day and f"2026-02-0{day}T00:00:00Z" for name, day in times.items()}
    wanted = f"2026-02-0{occurred_at}T00:00:00.000Z" if occurred_at else "2026-01-05T10:00:00.000Z"
    assert event({"id": 1, **stamps}, topic=topic, timestamp=RECEIVED)["occurred_at"] == wanted


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-01-05T10:00:00", "2026-01-05T10:00:00.000Z"),
        ("2026-01-05T10:00:00.9999999Z", "2026-01-05T10:00:00.999Z"),
        ("2026-01-05T10:00:00.5-05:30", "2026-01-05T15:30:00.500Z"),
        ("2015-01-01T01:00:00+01:00", "2015-01-01T00:00:00.000Z"),
    ],
)
def test_times_are_instants_in_utc_rounded_down_to_milliseconds(text: str, instant: str) -> None:
    assert event(pixel("e1", at=text))["occurred_at"] == instant


@pytest.mark.parametrize("text", ["", "soon", "2026-02-30T00:00:00Z", "0000-01-01T00:00:00Z", 5])
def test_what_is_no_time_is_a_dead_letter(text: Any) -> None:
    assert "time" in reason({**pixel("e1"), "timestamp": text})


ARRIVED = "2026-01-05T10:00:00.000Z"


@pytest.mark.parametrize(
    ("said", "headers", "occurred_at"),
    [
        ("2026-01-05T10:05:00Z", {}, "2026-01-05T10:05:00.000Z"),
        ("2026-01-05T10:05:00.001Z", {}, ARRIVED),
        ("2026-01-05T10:05:00.001Z", {"received_at": ARRIVED}, ARRIVED),
        ("2087-03-14T09:26:53Z", {}, ARRIVED),
        ("9999-12-31T23:59:59Z", {}, ARRIVED),
        ("+275760-09-13T00:00:00.000Z", {}, ARRIVED),
        ("2015-01-01T00:00:00Z", {}, "2015-01-01T00:00:00.000Z"),
        ("2014-12-31T23:59:59.999Z", {}, ARRIVED),
        ("1970-01-01T00:04:10.000Z", {}, ARRIVED),
        ("0001-01-01T00:00:00Z", {}, ARRIVED),
        ("-271821-04-20T00:00:00.000Z", {}, ARRIVED),
        ("2025-12-06T10:00:00Z", {"received_at": ARRIVED}, "2025-12-06T10:00:00.000Z"),
        ("2025-12-06T09:59:59.999Z", {"received_at": ARRIVED}, ARRIVED),
        ("2025-12-06T09:59:59.999Z", {"received_at": "soon"}, "2025-12-06T09:59:59.999Z"),
        ("2025-12-06T09:59:59.999Z", {"received_at": "2087-03-14T09:26:53Z"}, "2025-12-06T09:59:59.999Z"),
        ("2025-12-06T09:59:59.999Z", {"received_at": "2027-01-06T10:00:00Z"}, "2027-01-06T10:00:00.000Z"),
    ],
)
def test_a_pixels_clock_that_cannot_be_right_is_replaced_by_the_arrival_and_kept(
    said: str, headers: Any, occurred_at: str
) -> None:
    found = event({**pixel("e1"), "timestamp": said}, timestamp=RECEIVED, **headers)
    assert found["occurred_at"] == occurred_at
    kept = None if occurred_at[:19] == said[:19] else said
    assert found.get("client_at") == kept


@pytest.mark.parametrize(
    ("said", "occurred_at"),
    [
        ("2026-02-04T10:00:00Z", "2026-02-04T10:00:00.000Z"),
        ("2026-02-04T10:00:00.001Z", ARRIVED),
        ("2015-01-01T00:00:00Z", "2015-01-01T00:00:00.000Z"),
        ("2014-12-31T23:59:59Z", ARRIVED),
    ],
)
def test_a_webhook_speaks_of_any_time_since_2015_and_of_the_next_30_days(said: str, occurred_at: str) -> None:
    found = event({"id": 1, "created_at": said}, topic="orders/create", timestamp=RECEIVED, received_at=ARRIVED)
    assert found["occurred_at"] == occurred_at
    assert found.get("client_at") == (said if occurred_at == ARRIVED else None)


@pytest.mark.parametrize("timestamp", [-1, 0, 1_767_607_200_000_000, -(2**63), 2**63 - 1])
def test_a_record_whose_own_time_is_none_has_its_events(timestamp: int) -> None:
    found = event(pixel("e1", at=ARRIVED), timestamp=timestamp)
    assert (found["occurred_at"], found["received_at"]) == (ARRIVED, ARRIVED)
    assert event({"id": 1}, topic="a/b", timestamp=timestamp, received_at=ARRIVED)["received_at"] == ARRIVED
    assert "time" in reason({"id": 1}, topic="a/b", timestamp=timestamp)
    assert "time" in reason(
        pixel("e1", at="2087-01-01T00:00:00Z") | {"timestamp": "2187-01-01T00:00:00Z"}, timestamp=timestamp
    )


@pytest.mark.parametrize(
    ("header", "received_at"),
    [("2026-01-06T00:00:00+01:00", "2026-01-05T23:00:00.000Z"), ("later", "2026-01-05T10:00:00.000Z")],
)
def test_an_unusable_time_of_arrival_is_the_records_own(header: str, received_at: str) -> None:
    assert event(pixel("e1"), received_at=header, timestamp=RECEIVED)["received_at"] == received_at


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("product_viewed", [1]),
        ("product_viewed", {"productVariant": "v"}),
        ("product_viewed", {"productVariant": {"product": {"id": 1.5}}}),
        ("product_viewed", {"productVariant": {"price": {"amount": True, "currencyCode": "USD"}}}),
        ("product_viewed", {"productVariant": {"price": {"amount": "-0.01", "currencyCode": "USD"}}}),
        ("product_viewed", {"productVariant": {"price": {"amount": "1e400", "currencyCode": "USD"}}}),
        ("product_viewed", {"productVariant": {"price": {"amount": "NaN", "currencyCode": "USD"}}}),
        ("product_viewed", {"productVariant": {"price": {"amount": 10**13 + 1, "currencyCode": "USD"}}}),
        ("product_viewed", {"productVariant": {"price": {"amount": 1, "currencyCode": "US"}}}),
        ("product_viewed", {"productVariant": {"price": {"amount": 1, "currencyCode": "ÄÖÜ"}}}),
        ("product_added_to_cart", {"cartLine": {"quantity": -1}}),
        ("product_added_to_cart", {"cartLine": {"quantity": 1.5}}),
        ("checkout_started", {"checkout": {"lineItems": [{"quantity": 1_000_001}]}}),
        ("checkout_started", {"checkout": {"lineItems": [{}] * 2001}}),
        ("checkout_started", {"checkout": {"lineItems": {}}}),
        ("checkout_started", {"checkout": {"token": []}}),
        ("checkout_started", {"checkout": {"email": 5}}),
        ("collection_viewed", {"collection": {"productVariants": [1]}}),
    ],
)
def test_wrong_types_in_the_data_of_a_known_event_are_a_dead_letter(name: str, data: Any) -> None:
    assert reason({**pixel("e1", name), "data": data})


def test_the_data_of_a_custom_event_is_never_looked_at() -> None:
    assert event({**pixel("e1", "my_event"), "data": [{"checkout": 5}]})["name"] == "my_event"
    assert event({**pixel("e1", "product_viewed"), "data": None, "context": None})["name"] == "product_viewed"


@pytest.mark.parametrize(
    ("id_", "text"),
    [(7, "7"), ("7", "7"), ("gid://shopify/Product/7", "7"), ("gid://shopify/Product/7?a=/b", "7"), ("", None)],
)
def test_ids_are_strings_without_what_shopify_puts_before_them(id_: Any, text: str | None) -> None:
    found = event(pixel("e1", "product_viewed", productVariant={"product": {"id": id_}}))
    assert found.get("product_ids") == ([text] if text else None)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("product_added_to_cart", {"cartLine": {"merchandise": {"product": {"id": 1}}}}),
        ("product_removed_from_cart", {"cartLine": {"merchandise": {"product": {"id": 1}}}}),
        ("cart_viewed", {"cart": {"lines": [{"merchandise": {"product": {"id": 1}}}] * 2}}),
        ("collection_viewed", {"collection": {"productVariants": [{"product": {"id": 1}}, {"product": None}]}}),
        ("search_submitted", {"searchResult": {"productVariants": [{"product": {"id": 1}}]}}),
        ("payment_info_submitted", {"checkout": {"lineItems": [{"variant": {"product": {"id": 1}}}]}}),
    ],
)
def test_each_event_tells_its_products_once(name: str, data: Any) -> None:
    assert event(pixel("e1", name, **data))["product_ids"] == ["1"]


@pytest.mark.parametrize(
    ("amount", "currency", "minor"),
    [
        ("19.995", "USD", 2000),
        (0.005, "USD", 1),
        ("0.0049", "USD", 0),
        ("1500.5", "JPY", 1501),
        ("1.2345", "KWD", 1235),
        ("1.23456", "CLF", 12346),
        (10**13, "USD", 10**15),
        ("1e-400000", "USD", 0),
    ],
)
def test_money_is_minor_units_with_halves_rounded_up(amount: Any, currency: str, minor: int) -> None:
    price = {"amount": amount, "currencyCode": currency.lower()}
    found = event(pixel("e1", "product_viewed", productVariant={"price": price}))
    assert found["value"] == {"amount": minor, "currency": currency}


def test_an_amount_without_a_currency_is_no_value() -> None:
    assert "value" not in event(order(currency=None), topic="orders/create")
    paid_in_yen = event(order(currency=None, presentment_currency="jpy"), topic="orders/create")
    assert paid_in_yen["value"] == {"amount": 100, "currency": "JPY"}
    checkout = {"totalPrice": {"amount": 5}, "currencyCode": "CAD"}
    assert event(pixel("e1", "checkout_started", checkout=checkout))["value"] == {"amount": 500, "currency": "CAD"}


# --- Ads ---


@pytest.mark.parametrize(
    ("query", "ad"),
    [
        ("gclid=g", {"platform": "google", "click_id": "g", "click_id_type": "gclid"}),
        ("SCCID=s", {"platform": "snapchat", "click_id": "s", "click_id_type": "ScCid"}),
        (
            "twclid=t&fbclid=f&utm_source=X",
            {"platform": "facebook", "source": "X", "click_id": "f", "click_id_type": "fbclid"},
        ),
        ("utm_medium=email", {"platform": "unknown", "medium": "email"}),
        ("UTM_Source=Bing", {"platform": "bing", "source": "Bing"}),
        ("utm_source=&utm_source=%20a%20&utm_source=b", {"platform": "a", "source": "a"}),
        ("utm_term=" + "x" * 600, {"platform": "unknown", "term": "x" * 512}),
        ("gclid=+&ref=x", None),
        ("", None),
    ],
)
def test_the_query_string_names_the_ad(query: str, ad: Any) -> None:
    assert event(pixel("e1", url=f"?{query}")).get("ad") == ad
    assert event({"id": 1, "landing_site": f"/x?{query}#y?fbclid=1"}, topic="a/b").get("ad") == ad


def test_the_query_of_the_search_counts_when_the_address_has_none() -> None:
    viewed = pixel("e1", url="#?gclid=1")
    viewed["context"]["document"]["location"]["search"] = "?fbclid=2"
    assert event(viewed)["ad"]["click_id"] == "2"


# --- Duplicates ---


def test_a_second_record_with_the_same_id_is_a_duplicate_and_the_same_record_again_is_not() -> None:
    first, second = record(pixel("e1"), offset=0), record(pixel("e1", name="other"), offset=1)
    outcome = run(first, second, first)
    assert outcome.events["shop:e1"]["name"] == "page_viewed"
    assert (outcome.duplicates, outcome.duplicate_origins) == (1, {(0, 1)})
    assert outcome.customers["shop:anna"]["events"] == 1


def test_the_record_that_was_indexed_is_believed_only_if_it_can_have_come_first() -> None:
    records = [
        record(pixel("e1"), partition=partition, offset=offset) for partition, offset in [(0, 3), (1, 5), (1, 6)]
    ]

    def indexed(told: tuple[int, int]) -> int:
        return int(expected(records, winners={"shop:e1": told}).events["shop:e1"]["kafka"]["offset"])

    assert [indexed(told) for told in [(0, 3), (1, 5), (1, 6), (2, 0)]] == [3, 5, 3, 3]


def test_behind_a_record_that_came_back_from_the_dead_letters_a_later_one_may_have_come_first() -> None:
    records = [record(pixel("e1"), offset=offset) for offset in (3, 5, 6)]

    def indexed(told: int, late: set[tuple[int, int]]) -> int:
        found = expected(records, winners={"shop:e1": (0, told)}, late=late)
        return int(found.events["shop:e1"]["kafka"]["offset"])

    assert [indexed(told, {(0, 3)}) for told in (3, 5, 6)] == [3, 5, 3]
    assert [indexed(told, {(0, 3), (0, 5)}) for told in (3, 5, 6)] == [3, 5, 6]


def test_the_same_id_in_another_shop_or_after_a_dead_letter_is_no_duplicate() -> None:
    outcome = run(
        record({**pixel("e1"), "timestamp": "soon"}),
        record(pixel("e1"), offset=1),
        record(pixel("e1"), offset=2, key=b"other:anna"),
    )
    assert (sorted(outcome.events), outcome.duplicates) == (["other:e1", "shop:e1"], 0)


# --- Touches ---


def touch_ids(outcome: Expected) -> list[str]:
    return [touch["event_id"] for touch in outcome.ad_leads["shop:anna"]["touches"]]


def test_the_same_ad_within_half_an_hour_of_the_previous_touch_is_the_same_touch() -> None:
    outcome = run(
        pixel("a", at="2026-01-05T10:00:00Z", url="?gclid=1"),
        pixel("b", at="2026-01-05T10:30:00Z", url="?gclid=1&utm_source=x"),  # just within
        pixel("c", at="2026-01-05T10:30:00.001Z", url="?gclid=1"),  # beyond a, and b was no touch
        pixel("d", at="2026-01-05T10:00:00.001Z", url="?gclid=1"),  # earlier than c, but near
        pixel("e", at="2026-01-05T10:31:00Z", url="?gclid=2"),
        pixel("f", at="2026-01-05T10:31:00Z", url="?utm_source=x&utm_term=1"),
        pixel("g", at="2026-01-05T10:31:00Z", url="?utm_source=x&utm_term=2"),  # the term does not tell ads apart
        pixel("h", at="2026-01-05T10:31:00Z", url="?utm_source=x&utm_campaign=y"),
    )
    assert touch_ids(outcome) == ["a", "c", "e", "f", "h"]


def test_a_touch_holds_its_ad_its_time_and_its_origin() -> None:
    outcome = run(record(pixel("a", url="?gclid=1"), partition=1, offset=8))
    ad = {"platform": "google", "click_id": "1", "click_id_type": "gclid"}
    touch = {"event_id": "a", "at": "2026-01-05T10:00:00.000Z", "ad": ad, "partition": 1, "offset": 8}
    assert outcome.ad_leads == {"shop:anna": {"touches": [touch]}}


def test_the_newest_touches_are_kept_and_a_journey_sees_those_of_its_time() -> None:
    before = [pixel(f"t{n}", url=f"?gclid={n}") for n in range(3)]
    after = [pixel(f"t{n}", url=f"?gclid={n}") for n in range(3, 6)]
    outcome = run(*before, completed("o"), *after, touches_kept=2)
    assert touch_ids(outcome) == ["t4", "t5"]
    assert [touch["event_id"] for touch in outcome.attributions["shop:tok"]["touches"]] == ["t1", "t2"]


def test_a_journey_goes_back_for_the_window_with_both_ends_and_includes_its_own_ad() -> None:
    outcome = run(
        pixel("old", at="2025-12-06T09:59:59.999Z", url="?gclid=1"),
        pixel("edge", at="2025-12-06T10:00:00Z", url="?gclid=2"),
        pixel("later", at="2026-01-05T10:00:00.001Z", url="?gclid=3"),
        completed("o", url="?gclid=4", at="2026-01-05T10:00:00Z"),
        pixel("after", at="2026-01-05T09:00:00Z", url="?gclid=5"),
        window_days=30,
    )
    attribution = outcome.attributions["shop:tok"]
    assert [touch["event_id"] for touch in attribution["touches"]] == ["edge", "o"]
    assert attribution["window_days"] == 30


# --- Credits ---


def credits_of(*days_before: int, total: str = "100.00", currency: str = "USD") -> Any:
    """The credits of an order with one touch on each of these days before it."""
    touches = [
        pixel(f"t{n}", at=f"2026-01-{31 - days:02d}T00:00:00Z", url=f"?utm_source=s{n}&utm_campaign=c{n}")
        for n, days in enumerate(days_before)
    ]
    ordered = completed("o", total=total, currency=currency, at="2026-01-31T00:00:00Z")
    return run(*touches, ordered).attributions["shop:tok"]["credits"]


def test_without_a_touch_the_whole_value_is_direct() -> None:
    direct = [{"platform": "direct", "amount": 10_000}]
    models = ["last_click", "first_click", "linear", "time_decay", "position_based"]
    assert credits_of() == dict.fromkeys(models, direct)


def test_one_touch_gets_everything() -> None:
    credit = [{"event_id": "t0", "platform": "s0", "campaign": "c0", "amount": 10_000}]
    models = ["last_click", "first_click", "linear", "time_decay", "position_based"]
    assert credits_of(3) == dict.fromkeys(models, credit)


def test_three_touches_by_hand() -> None:
    found = credits_of(14, 7, 0)
    assert found["last_click"] == [{"event_id": "t2", "platform": "s2", "campaign": "c2", "amount": 10_000}]
    assert found["first_click"] == [{"event_id": "t0", "platform": "s0", "campaign": "c0", "amount": 10_000}]
    assert amounts(found["linear"]) == [3334, 3333, 3333]
    # Weights 1/4, 1/2 and 1 of 7/4: 1428.57, 2857.14 and 5714.28; the unit left over goes to the first.
    assert amounts(found["time_decay"]) == [1429, 2857, 5714]
    assert amounts(found["position_based"]) == [4000, 2000, 4000]


def test_five_touches_by_hand() -> None:
    found = credits_of(4, 3, 2, 1, 0, total="1.01")
    # 20.2 each: one unit is left over, all remainders tie.
    assert amounts(found["linear"]) == [21, 20, 20, 20, 20]
    # 40.4, three times 6.733, 40.4: three units are left over and the remainders of .733 are the largest.
    assert amounts(found["position_based"]) == [40, 7, 7, 7, 40]
    # 2^(-4/7), 2^(-3/7), 2^(-2/7), 2^(-1/7), 1 = .67295 .74300 .82034 .90572 1 of 4.14201:
    # 16.409, 18.117, 20.003, 22.085, 24.384; one unit left over, to the first.
    assert amounts(found["time_decay"]) == [17, 18, 20, 22, 24]


def test_two_touches_share_by_position_half_each_with_the_odd_unit_to_the_earlier() -> None:
    found = credits_of(1, 1, total="101", currency="JPY")
    assert amounts(found["position_based"]) == [51, 50]
    assert amounts(found["time_decay"]) == [51, 50]


def test_equal_remainders_of_time_decay_are_a_tie() -> None:
    # Weights 1/2, 1/2, 1: of 2 units 0.5, 0.5 and 1.
    assert amounts(credits_of(7, 7, 0, total="2", currency="JPY")["time_decay"]) == [1, 0, 1]


def test_the_half_life_is_a_setting() -> None:
    weights = decay_weights([3 * DAY, 2 * DAY, DAY], 0.5)
    assert weights == [Fraction(1, 16), Fraction(1, 4), Fraction(1)]


@given(st.integers(0, 10**15), st.lists(st.integers(0, 30 * DAY), min_size=1, max_size=50))
def test_the_parts_of_every_model_sum_to_the_whole_and_none_is_a_unit_off(amount: int, ages: list[int]) -> None:
    for weights in ([Fraction(1)] * len(ages), decay_weights(ages, 7.0), position_weights(len(ages))):
        parts = split(amount, weights)
        assert sum(parts) == amount
        assert all(abs(part - amount * weight / sum(weights)) < 1 for part, weight in zip(parts, weights))


# --- Orders ---


def test_pixel_and_webhook_of_one_checkout_are_one_order() -> None:
    outcome = run(
        pixel("ad", url="?gclid=1", at="2026-01-05T09:00:00Z"),
        completed("p", order={"id": None}),
        record(order(77), offset=2, key=b"shop:cart", topic="orders/create", event_id="w"),
    )
    attribution = outcome.attributions["shop:tok"]
    assert list(outcome.attributions) == ["shop:tok"]
    assert attribution["client_id"] == "anna"
    assert attribution["occurred_at"] == "2026-01-05T10:00:00.000Z"
    assert (attribution["checkout_token"], attribution["order_id"]) == ("tok", "77")
    assert attribution["value"] == {"amount": 10_000, "currency": "USD"}
    assert attribution["sightings"] == [
        {"source": "pixel", "event_id": "p", "kafka": {"topic": "events", "partition": 0, "offset": 1}},
        {"source": "webhook", "event_id": "orders/create:w", "kafka": {"topic": "events", "partition": 0, "offset": 2}},
    ]
    assert (outcome.customers["shop:anna"]["orders"], outcome.customers["shop:cart"]["orders"]) == (1, 0)


def test_of_several_sightings_most_touches_decide_then_pixel_then_the_lower_event_id() -> None:
    def deciding(*sightings: Any) -> str:
        records = [record(value, offset=n, **headers) for n, (value, headers) in enumerate(sightings)]
        return str(run(*records).attributions["shop:tok"]["occurred_at"])

    webhook = {"topic": "orders/create", "event_id": "a"}
    with_ad = order(landing_site="/?gclid=1", created_at="2026-01-05T11:00:00Z")
    plain = order(created_at="2026-01-05T11:00:00Z")
    other = {"topic": "orders/paid", "event_id": "b"}
    at_ten, at_eleven = "2026-01-05T10:00:00.000Z", "2026-01-05T11:00:00.000Z"
    assert deciding((with_ad, webhook), (completed("z"), {})) == at_eleven  # the touch is too late for the pixel
    assert deciding((completed("z"), {}), (plain, webhook)) == at_ten
    assert deciding((plain, webhook), (completed("z"), {})) == at_ten
    assert deciding((order(created_at="2026-01-05T10:00:00Z"), other), (plain, webhook)) == at_eleven


def test_a_value_that_the_deciding_sighting_lacks_comes_from_the_next_best() -> None:
    later: Any = {"topic": "orders/paid", "event_id": "b"}
    best: Any = {"topic": "orders/create", "event_id": "a"}
    outcome = run(
        completed("p", total=None),
        record(order(total_price="20.00"), offset=1, **later),
        record(order(total_price="30.00"), offset=2, **best),
    )
    attribution = outcome.attributions["shop:tok"]
    assert attribution["value"] == {"amount": 3000, "currency": "USD"}
    assert amounts(attribution["credits"]["linear"]) == [3000]


def test_an_order_without_any_value_has_credits_of_nothing() -> None:
    attribution = run(completed("p", total=None, url="?gclid=1")).attributions["shop:tok"]
    assert "value" not in attribution
    assert attribution["credits"]["linear"] == [{"event_id": "p", "platform": "google", "amount": 0}]


def test_an_order_without_a_token_is_known_by_its_id_and_one_with_neither_is_no_order() -> None:
    point_of_sale = record(order(5, token=None), topic="orders/create")
    assert list(run(point_of_sale).attributions) == ["shop:5"]
    outcome = run(completed("p", token=None))
    assert (len(outcome.events), outcome.attributions) == (1, {})


@pytest.mark.parametrize(
    ("told", "status"),
    [
        ([], "open"),
        ([("orders/paid", {})], "paid"),
        ([("orders/updated", {"financial_status": "partially_refunded"})], "paid"),
        ([("orders/updated", {"cancelled_at": "2026-01-06T00:00:00Z"}), ("orders/paid", {})], "cancelled"),
        ([("orders/cancelled", {})], "cancelled"),
        ([("orders/updated", {"financial_status": "refunded"}), ("orders/cancelled", {})], "refunded"),
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_the_highest_status_wins_whatever_the_order_of_arrival(told: Any, status: str, first: bool) -> None:
    records = [
        record(order(9, **fields), offset=10 * n + 20, topic=topic, event_id=f"s{n}")
        for n, (topic, fields) in enumerate(told)
    ]
    sighting = record(completed("p"), offset=0 if first else 99)
    ordered = sorted([sighting, *records], key=lambda entry: entry.offset)
    assert run(*ordered).attributions["shop:tok"]["status"] == status


def test_a_refund_finds_its_order_through_an_event_that_knows_both_names() -> None:
    refund = record({"id": 1, "order_id": 9, "refund_line_items": []})
    sighting = record(completed("p"), offset=1)
    link = record(order(9), offset=2, topic="orders/updated", event_id="u")
    elsewhere = record(order(9), offset=3, topic="orders/updated", event_id="u", key=b"other:anna")
    assert run(refund, sighting, link).attributions["shop:tok"]["status"] == "refunded"
    assert run(refund, sighting).attributions["shop:tok"]["status"] == "open"
    assert run(refund, sighting, elsewhere).attributions["shop:tok"]["status"] == "open"
    paid_elsewhere = record(order(9), offset=3, topic="orders/paid", key=b"other:anna")
    assert run(sighting, paid_elsewhere).attributions["shop:tok"]["status"] == "open"


def test_what_only_tells_a_status_makes_no_attribution() -> None:
    updated = record(order(), topic="orders/updated")
    started = record(pixel("c", "checkout_started", checkout={"token": "tok"}), offset=1)
    assert run(updated, started, {"id": 1, "order_id": 9, "refund_line_items": []}).attributions == {}


# --- Customers ---


def test_a_customers_counters_by_hand() -> None:
    outcome = run(
        pixel("a", at="2026-01-05T10:00:00Z", url="?gclid=1"),
        pixel("b", at="2026-01-03T10:00:00Z", url="?fbclid=2"),
        completed("p", at="2026-01-04T10:00:00Z", email=" Anna@Example.com ", order={"customer": {"id": 5}}),
        completed("q", token="tok2", total="250", currency="JPY", email="", order={"customer": {"id": None}}),
        record(order(9, email=None, contact_email="b@x.example"), offset=4, topic="orders/create"),
        record(pixel("a"), offset=5),
    )
    assert outcome.customers == {
        "shop:anna": {
            "first_seen": "2026-01-03T10:00:00.000Z",
            "last_seen": "2026-01-05T10:00:05.000Z",
            "events": 5,
            "orders": 2,
            "revenue": {"USD": 10_000, "JPY": 250},
            "last_ad": {"platform": "facebook", "click_id": "2", "click_id_type": "fbclid"},
            "email_hash": hashlib.sha256(b"b@x.example").hexdigest(),
            "customer_id": "5",
        }
    }


@pytest.mark.parametrize(
    ("addresses", "hashed"),
    [
        ({"email": " Anna@Example.COM\n", "contact_email": "b@x.example"}, b"anna@example.com"),
        ({"email": " ", "contact_email": "b@x.example", "customer": {"email": "c@x.example"}}, b"b@x.example"),
        ({"customer": {"email": "c@x.example"}}, b"c@x.example"),
        ({"email": "", "customer": None}, None),
    ],
)
def test_the_hash_is_of_the_first_address_trimmed_and_in_lower_case(addresses: Any, hashed: bytes | None) -> None:
    customer = run(record({"id": 1, **addresses}, topic="customers/update")).customers["shop:anna"]
    assert customer.get("email_hash") == (hashed and hashlib.sha256(hashed).hexdigest())


def test_the_sighting_that_is_told_to_be_first_decides_who_is_counted() -> None:
    here = record(completed("p"), partition=0, offset=4, key=b"shop:anna")
    there = record(order(9), partition=1, offset=7, key=b"shop:cart", topic="orders/create")
    again = record(order(9), partition=1, offset=8, key=b"shop:cart", topic="orders/paid")

    def counted(told: tuple[int, int]) -> tuple[int, int]:
        customers = expected([here, there, again], firsts={"shop:tok": told}).customers
        return customers["shop:anna"]["orders"], customers["shop:cart"]["orders"]

    assert [counted(told) for told in [(0, 4), (1, 7), (1, 8), (5, 5)]] == [(1, 0), (0, 1), (1, 0), (1, 0)]


# --- Products ---


def line(product: Any, quantity: Any, price: Any, *discounts: str) -> Any:
    allocations = [{"amount": {"amount": amount}} for amount in discounts]
    variant = {"product": {"id": product}, "price": {"amount": price, "currencyCode": "USD"}}
    return {"quantity": quantity, "variant": variant, "discountAllocations": allocations}


def product_day(**counted: Any) -> Any:
    zero = {"views": 0, "carts": 0, "checkouts": 0, "orders": 0, "units": 0, "revenue": {}}
    return {"shop_id": "shop", "product_id": "1", "day": "2026-01-05", **zero, **counted}


def test_a_products_day_by_hand() -> None:
    added = {"merchandise": {"product": {"id": 1}}}
    items = [line(1, 2, "10.00", "1.50", "0.25"), line(1, None, 5), line(2, 3, None), line(None, 9, "9.99")]
    outcome = run(
        pixel("v1", "product_viewed", productVariant={"product": {"id": 1}}),
        pixel("v2", "product_viewed", productVariant={"product": {"id": 1}}, at="2026-01-05T23:30:00-01:00"),
        pixel("c1", "product_added_to_cart", cartLine={"quantity": 4, **added}),
        pixel("c2", "product_added_to_cart", cartLine=added),
        pixel("c3", "product_removed_from_cart", cartLine={"quantity": 2, **added}),
        pixel("s", "checkout_started", checkout={"lineItems": items}),
        completed("p", lineItems=items),
        record(order(9, line_items=[{"product_id": 1, "quantity": 50}]), offset=7, topic="orders/create"),
    )
    assert outcome.product_stats == {
        # 2 × 10.00 − 1.75 + 1 × 5.00
        "shop:1:2026-01-05": product_day(views=1, carts=5, checkouts=1, orders=1, units=3, revenue={"USD": 2325}),
        "shop:1:2026-01-06": product_day(day="2026-01-06", views=1),
        "shop:2:2026-01-05": product_day(product_id="2", checkouts=1, orders=1, units=3),
    }


def test_the_discounts_of_a_webhooks_line_are_its_allocations_else_its_total_discount() -> None:
    items = [
        {"product_id": 1, "quantity": 2, "price": "3.00", "discount_allocations": [{"amount": "1.00"}]},
        {"product_id": 1, "quantity": 1, "price": "3.00", "discount_allocations": [], "total_discount": "2.00"},
        {"product_id": 1, "quantity": 1, "price": "3.00", "total_discount": "0.50"},
    ]
    outcome = run(record(order(line_items=items), topic="orders/create"))
    # 6.00 − 1.00, 3.00, 3.00 − 0.50
    counted = product_day(orders=1, units=4, revenue={"USD": 1050})
    assert outcome.product_stats == {"shop:1:2026-01-05": counted}


def test_a_line_takes_its_own_currency_only_when_the_checkout_has_none() -> None:
    outcome = run(completed("p", currency="CAD", lineItems=[line(1, 1, "2.00")]))
    assert outcome.product_stats["shop:1:2026-01-05"]["revenue"] == {"CAD": 200}
    outcome = run(completed("p", currency=None, lineItems=[line(1, 1, "2.00")]))
    assert outcome.product_stats["shop:1:2026-01-05"]["revenue"] == {"USD": 200}
    assert outcome.customers["shop:anna"]["revenue"] == {}


# --- Visitors ---


def test_visitors_are_distinct_clients_with_a_pixel_event_in_the_iso_week() -> None:
    outcome = run(
        record(pixel("a", at="2027-01-03T23:59:59Z"), offset=0),
        record(pixel("b", at="2027-01-03T10:00:00Z"), offset=1),
        record(pixel("c", at="2027-01-03T10:00:00Z"), offset=2, key=b"shop:ben"),
        record(pixel("d", at="2027-01-04T00:00:00Z"), offset=3),
        record(order(created_at="2027-01-04T00:00:00Z"), offset=4, key=b"shop:cart", topic="orders/create"),
        record(pixel("d", at="2027-01-04T00:00:00Z"), offset=5, key=b"shop:eve"),
    )
    assert outcome.weekly_visitors == {"shop:2026-W53": 2, "shop:2027-W01": 1}


# --- Properties ---

CLIENTS = ("anna", "ben", "cleo")


@st.composite
def topics(draw: st.DrawFn) -> list[Record]:
    """Visitors on three partitions, with ads, orders that pixel and webhook report, and no id twice."""
    records: list[Record] = []
    offsets = [0, 0, 0]
    for number in range(draw(st.integers(1, 25))):
        place = draw(st.integers(0, 2))
        minute = draw(st.integers(0, 59))
        at = f"2026-01-{draw(st.integers(1, 28)):02d}T10:{minute:02d}:00Z"
        url = draw(st.sampled_from(["", "?gclid=1", "?fbclid=2", "?utm_source=news&utm_campaign=may"]))
        token = f"tok{draw(st.integers(0, 2))}"
        total = draw(st.one_of(st.none(), st.decimals(0, 10**6, places=2).map(str)))
        kind = draw(st.sampled_from(["page", "completed", "order", "junk"]))
        headers: Any = {"event_id": f"e{number}"}
        value: Any = {"page": pixel("x", at=at, url=url), "junk": b"{"}.get(kind)
        if kind == "completed":
            value = completed("x", token, total=total, at=at, url=url, lineItems=[line(1, 2, "1.00")])
        if kind == "order":
            headers["topic"] = draw(st.sampled_from(["orders/create", "orders/paid", "orders/cancelled"]))
            value = order(int(token[3]), token, total_price=total, created_at=at, landing_site=f"/{url}")
        key = f"shop:{CLIENTS[place]}".encode()
        records.append(record(value, partition=place, offset=offsets[place], key=key, **headers))
        offsets[place] += 1
    return records


@given(topics())
def test_the_credits_of_each_model_sum_to_the_orders_value(records: list[Record]) -> None:
    for attribution in expected(records).attributions.values():
        value = attribution.get("value", {"amount": 0})["amount"]
        assert [sum(amounts(credit)) for credit in attribution["credits"].values()] == [value] * 5


@given(topics(), st.data())
def test_duplicates_change_nothing_but_their_count(records: list[Record], data: st.DataObject) -> None:
    before = expected(records)
    good = [entry for entry in records if (entry.partition, entry.offset) not in before.dead]
    repeated = data.draw(st.lists(st.sampled_from(good), max_size=5)) if good else []
    copies = [
        Record("events", entry.partition, 1000 + n, LATER + n, entry.key, entry.value, entry.headers)
        for n, entry in enumerate(repeated)
    ]
    after = expected([*records, *copies])
    assert after.duplicate_origins == {(entry.partition, entry.offset) for entry in copies}
    after.duplicate_origins = set()
    assert after == before


@given(topics(), st.randoms(use_true_random=False))
def test_how_partitions_interleave_changes_only_which_sighting_was_first(records: list[Record], rng: Any) -> None:
    before = expected(records)
    firsts = {id_: origin_of_first(doc) for id_, doc in before.attributions.items()}
    turns = [entry.partition for entry in records]
    rng.shuffle(turns)
    queues = {place: iter([entry for entry in records if entry.partition == place]) for place in range(3)}
    after = expected([next(queues[place]) for place in turns], firsts=firsts)
    for outcome in (before, after):
        for attribution in outcome.attributions.values():
            attribution["sightings"].sort(key=lambda sighting: sighting["event_id"])
    assert after == before


def origin_of_first(attribution: Any) -> tuple[int, int]:
    kafka = attribution["sightings"][0]["kafka"]
    return kafka["partition"], kafka["offset"]


@given(topics())
def test_every_record_is_an_event_a_duplicate_or_a_dead_letter(records: list[Record]) -> None:
    outcome = expected(records)
    assert len(outcome.events) + outcome.duplicates + len(outcome.dead) == len(records)
    assert sum(customer["events"] for customer in outcome.customers.values()) == len(outcome.events)
    assert sum(customer["orders"] for customer in outcome.customers.values()) == len(outcome.attributions)
