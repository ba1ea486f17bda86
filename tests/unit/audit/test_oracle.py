"""The oracle against figures computed by hand, and the properties of its outcome for any records.

Orders, journeys and channels are tested by tests/cases; this file tests single values and the whole.
"""

from __future__ import annotations

import json
import random
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.examples import examples
from truepixel_dagster.audit.oracle import (
    Expected,
    Record,
    Shop,
    decay_weights,
    expected,
    position_weights,
    split,
)
from truepixel_dagster.audit.oracle.times import day, milliseconds, offset_minutes, week
from truepixel_dagster.audit.oracle.topics import topic_of
from truepixel_dagster.audit.oracle.values import is_nobody, minor, share
from truepixel_dagster.audit.oracle.webhooks import sales_channel

DAY = 86_400_000
PRODUCED = 1_801_476_000_000  # 2027-02-01: no clock of the records below is ahead of it


def record(value: Any, *, offset: int = 0, partition: int = 0, key: str = "shop:anna", **headers: str) -> Record:
    encoded: list[tuple[str, bytes | None]] = [(name, text.encode()) for name, text in headers.items()]
    return Record("events", partition, offset, PRODUCED, key.encode(), json.dumps(value).encode(), encoded)


def pixel(id_: str, name: str = "page_viewed", *, at: str = "2026-01-05T10:00:00Z", url: str = "", **data: Any) -> Any:
    context = {"document": {"location": {"href": f"https://shop.example/{url}"}}}
    return {"id": id_, "name": name, "clientId": "anna", "timestamp": at, "data": data, "context": context}


def run(*values: Any, **options: Any) -> Expected:
    """The outcome of these payloads or records, one after another in one partition."""
    records = [
        value if isinstance(value, Record) else record(value, offset=offset) for offset, value in enumerate(values)
    ]
    return expected(records, **options)


# --- Single values ---


@pytest.mark.parametrize(
    ("said", "topic"),
    [
        ("orders/paid", "orders/paid"),
        (" Orders/Paid ", "orders/paid"),
        ("ORDERS_PARTIALLY_FULFILLED", "orders/partially_fulfilled"),
        ("ORDER_TRANSACTIONS_CREATE", "order_transactions/create"),
        ("CUSTOMERS_DATA_REQUEST", "customers/data_request"),
        ("SHOP_UPDATE", "shop/update"),
        ("DRAFT_ORDERS_CREATE", "draft_orders/create"),
        ("SOMETHING_NEW_CREATE", "something_new/create"),
        ("", None),
        (None, None),
    ],
)
def test_a_topic_is_resource_and_action(said: str | None, topic: str | None) -> None:
    assert topic_of(said) == topic


@pytest.mark.parametrize(
    ("text", "at", "offset"),
    [
        ("1970-01-01T00:00:00Z", 0, 0),
        ("1970-01-01T01:00:00.9999+01:00", 999, 60),
        ("1969-12-31T19:00:00-0500", 0, -300),
        ("1970-01-01 00:00:01", 1000, 0),
        ("soon", None, 0),
        ("1970-01-01T24:00:00Z", None, 0),
    ],
)
def test_a_time_is_an_instant_and_an_offset(text: str, at: int | None, offset: int) -> None:
    assert (milliseconds(text), offset_minutes(text)) == (at, offset)


def test_the_day_and_week_are_the_shops_by_its_zone_else_by_the_offset() -> None:
    monday_in_tokyo = milliseconds("2026-11-22T15:00:00Z") or 0
    assert day(monday_in_tokyo, Shop("Asia/Tokyo")) == "2026-11-23"
    assert week(monday_in_tokyo, Shop("Asia/Tokyo")) == "2026-W48"
    assert (day(monday_in_tokyo, None), week(monday_in_tokyo, Shop())) == ("2026-11-22", "2026-W47")
    assert day(monday_in_tokyo, None, 9 * 60) == "2026-11-23"
    assert day(monday_in_tokyo, Shop("No/Where"), -60) == "2026-11-22"


@pytest.mark.parametrize("client", ["", "undefined", " NULL", "NaN", "0", "00000000-0000-0000-0000-000000000000"])
def test_an_invalid_client(client: str) -> None:
    assert is_nobody(client)
    assert not is_nobody(client + "1")


def test_shares_and_minor_units_round_halves_up() -> None:
    assert [share(100, 1, 3), share(100, 2, 3), share(1, 1, 2), share(5, 0, 3)] == [33, 67, 1, 0]
    from decimal import Decimal

    assert [minor(Decimal("19.995"), "USD"), minor(Decimal("0.5"), "JPY"), minor(Decimal("1.2345"), "KWD")] == [
        2000,
        1,
        1235,
    ]


@pytest.mark.parametrize(
    ("payload", "channel"),
    [
        ({}, "online"),
        ({"source_name": "web"}, "online"),
        ({"source_name": "POS"}, "pos"),
        ({"app_id": 129785}, "pos"),
        ({"source_name": "web", "app_id": 129785}, "online"),
        ({"source_name": "shopify_draft_order", "tags": "imported"}, "draft"),
        ({"source_name": "web", "tags": "a, Import"}, "import"),
        ({"source_name": "web", "tags": "important"}, "online"),
        ({"source_name": "web", "tags": ["Subscription Recurring Order"]}, "subscription"),
        ({"source_name": "12345"}, "other"),
        ({"source_name": "12345", "landing_site": "/"}, "online"),
        ({"source_name": "amazon", "landing_site": "/"}, "other"),
        ({"source_name": {"x": 1}, "tags": 5, "app_id": True}, "online"),
    ],
)
def test_the_sales_channel_of_an_order(payload: Any, channel: str) -> None:
    assert sales_channel(payload) == channel


# --- Credits ---


def test_the_half_life_is_a_setting() -> None:
    assert decay_weights([3 * DAY, 2 * DAY, DAY], 0.5) == [Fraction(1, 16), Fraction(1, 4), Fraction(1)]


def test_left_over_units_go_to_the_largest_remainders_and_ties_to_the_earlier() -> None:
    assert split(101, position_weights(5)) == [40, 7, 7, 7, 40]
    assert split(2, decay_weights([7 * DAY, 7 * DAY, 0], 7.0)) == [1, 0, 1]
    assert split(0, position_weights(3)) == [0, 0, 0]


@given(st.integers(0, 10**15), st.lists(st.integers(-300_000, 30 * DAY), min_size=1, max_size=50))
def test_the_parts_of_every_model_sum_to_the_whole_and_none_is_a_unit_off(amount: int, ages: list[int]) -> None:
    for weights in ([Fraction(1)] * len(ages), decay_weights(ages, 7.0), position_weights(len(ages))):
        parts = split(amount, weights)
        assert sum(parts) == amount
        assert all(abs(part - amount * weight / sum(weights)) < 1 for part, weight in zip(parts, weights))


# --- Duplicates ---


def test_the_record_that_was_indexed_is_believed_only_if_it_can_have_come_first() -> None:
    places = [(0, 3), (1, 5), (1, 6)]
    records = [record(pixel("e1"), partition=partition, offset=offset) for partition, offset in places]

    def indexed(winner: tuple[int, int]) -> int:
        return int(expected(records, winners={"shop:e1": winner}).events["shop:e1"]["kafka"]["offset"])

    assert [indexed(winner) for winner in [(0, 3), (1, 5), (1, 6), (2, 0)]] == [3, 5, 3, 3]


def test_a_later_record_may_have_come_before_a_reprocessed_one() -> None:
    records = [record(pixel("e1"), offset=offset) for offset in (3, 5, 6)]

    def indexed(winner: int, late: set[tuple[int, int]]) -> int:
        found = expected(records, winners={"shop:e1": (0, winner)}, late=late)
        return int(found.events["shop:e1"]["kafka"]["offset"])

    assert [indexed(winner, {(0, 3)}) for winner in (3, 5, 6)] == [3, 5, 3]


def test_bots_count_where_a_setting_says_so() -> None:
    crawler = pixel("e1", "product_viewed", productVariant={"product": {"id": "1"}})
    crawler["context"]["navigator"] = {"userAgent": "Googlebot/2.1"}
    assert (run(crawler).weekly_visitors, run(crawler).events["shop:e1"]["bot"]) == ({}, True)
    counted = run(crawler, count_bots=True)
    assert (list(counted.weekly_visitors.values()), "bot" in counted.events["shop:e1"]) == ([1], False)


def test_the_newest_touches_are_kept_and_a_journey_has_those_of_its_time() -> None:
    before = [pixel(f"t{n}", url=f"?gclid={n}") for n in range(3)]
    after = [pixel(f"t{n}", url=f"?gclid={n}") for n in range(3, 6)]
    ordered = pixel("o", "checkout_completed", checkout={"token": "tok", "totalPrice": {"amount": 1}})
    outcome = run(*before, ordered, *after, touches_kept=2)
    assert [touch["event_id"] for touch in outcome.ad_leads["shop:anna"]["touches"]] == ["t4", "t5"]
    assert [touch["event_id"] for touch in outcome.attributions["shop:tok"]["touches"]] == ["t1", "t2"]


def test_sightings_beyond_those_kept_are_the_later_ones() -> None:
    orders = [
        record(
            {"id": 1, "total_price": "1", "created_at": f"2026-01-0{9 - n}T00:00:00Z"},
            offset=n,
            topic="orders/paid",
            event_id=f"e{n}",
        )
        for n in range(4)
    ]
    sightings = run(*orders, sightings_kept=2).attributions["shop:1"]["sightings"]
    assert [sighting["event_id"] for sighting in sightings] == ["orders/paid:e3", "orders/paid:e2"]


# --- Any records ---

CLIENTS = ("anna", "ben", "undefined", "cart1")
STATUSES = ("pending", "paid", "partially_refunded", "refunded", "voided")
Drawn = tuple[str, Any, dict[str, str]]


@st.composite
def histories(draw: st.DrawFn) -> list[Drawn]:
    """Visitors and orders of one shop: key, payload and headers of each record."""
    return [
        draw(st.one_of(visits(number), checkouts(number), orders(number), refunds(number)))
        for number in range(draw(st.integers(1, 14)))
    ]


def moments() -> Any:
    return st.builds(lambda day, hour: f"2026-01-{day:02d}T{hour:02d}:00:00Z", st.integers(1, 28), st.integers(0, 23))


def visits(number: int) -> Any:
    urls = st.sampled_from(["", "?gclid=1", "?fbclid=2", "?utm_source=news&utm_medium=email"])
    return st.builds(
        lambda client, at, url: (client, pixel(f"v{number}", at=at, url=url), {}),
        st.sampled_from(CLIENTS),
        moments(),
        urls,
    )


def checkouts(number: int) -> Any:
    def checkout(client: str, at: str, name: str, token: int, order: Any, total: int) -> Drawn:
        line = {"quantity": 2, "variant": {"product": {"id": "7"}, "price": {"amount": total}}}
        base = {"token": f"tok{token}", "order": {"id": order}, "totalPrice": {"amount": total, "currencyCode": "EUR"}}
        return client, pixel(f"c{number}", name, at=at, checkout={**base, "lineItems": [line]}), {}

    names = st.sampled_from(["checkout_started", "checkout_completed", "payment_info_submitted"])
    ids = st.one_of(st.none(), st.integers(1, 3))
    return st.builds(checkout, st.sampled_from(CLIENTS), moments(), names, st.integers(1, 3), ids, st.integers(0, 90))


def refund(id_: int, order: int, at: str, amount: int) -> Any:
    lines = [{"line_item": {"id": 1, "product_id": 7}, "quantity": 1, "subtotal": amount}]
    paid = [{"kind": "refund", "status": "success", "amount": amount, "currency": "USD"}]
    return {"id": id_, "order_id": order, "created_at": at, "refund_line_items": lines, "transactions": paid}


def refunds(number: int) -> Any:
    def sent(client: str, id_: int, order: int, at: str, amount: int) -> Drawn:
        return client, refund(id_, order, at, amount), {"topic": "refunds/create", "event_id": f"r{number}"}

    return st.builds(
        sent, st.sampled_from(CLIENTS), st.integers(1, 4), st.integers(1, 3), moments(), st.integers(0, 40)
    )


def orders(number: int) -> Any:
    def sent(client: str, order: int, token: Any, at: str, status: str, more: Any) -> Drawn:
        total, left, topic, test = more
        payload = {
            "id": order,
            "checkout_token": token and f"tok{token}",
            "created_at": "2026-01-10T10:00:00+01:00",
            "updated_at": at,
            "currency": "USD",
            "total_price": f"{total}.00",
            "current_total_price": f"{min(left, total)}.00",
            "financial_status": status,
            "test": test,
            "line_items": [
                {"id": 1, "product_id": 7, "quantity": 3, "current_quantity": min(left, 3), "price": "5.00"},
                {"id": 2, "product_id": 8, "quantity": 1, "price": "2.00", "gift_card": test},
            ],
            "refunds": [refund(1, order, at, 2)] if left % 2 else [],
        }
        return client, payload, {"topic": topic, "event_id": f"o{number}"}

    topics = st.sampled_from(["orders/create", "orders/updated", "orders/cancelled", "orders/delete"])
    more = st.tuples(st.integers(0, 90), st.integers(0, 90), topics, st.booleans())
    tokens = st.one_of(st.none(), st.integers(1, 3))
    return st.builds(
        sent, st.sampled_from(CLIENTS), st.integers(1, 3), tokens, moments(), st.sampled_from(STATUSES), more
    )


def records_of(history: list[Drawn]) -> list[Record]:
    """The records, each client's in a partition of its own."""
    made = []
    for offset, (client, payload, headers) in enumerate(history):
        place = CLIENTS.index(client)
        made.append(record(payload, offset=offset, partition=place, key=f"shop:{client}", **headers))
    return made


@examples(60)
@given(histories(), st.integers(0, 10**6))
def test_the_outcome_depends_on_the_set_of_records_alone(history: list[Drawn], seed: int) -> None:
    records = records_of(history)
    once = expected(records)
    turns = [entry.partition for entry in records]
    random.Random(seed).shuffle(turns)
    queues = {place: iter([entry for entry in records if entry.partition == place]) for place in range(len(CLIENTS))}
    redelivered = [next(queues[place]) for place in turns]
    assert expected([*redelivered, *redelivered[:3]]) == once


@examples(60)
@given(histories())
def test_the_sums_of_all_documents_agree(history: list[Drawn]) -> None:
    found = expected(records_of(history))
    assert found.dead == {}
    counted = [doc for doc in found.attributions.values() if not doc.get("test")]
    for doc in found.attributions.values():
        value, net = doc["value"]["amount"], doc["net"]["amount"]
        for model in doc["credits"].values():
            assert (sum(each["amount"] for each in model), sum(each["net"] for each in model)) == (value, net)
        assert net >= 0
        assert doc["status"] not in ("refunded",) or doc["refunded"]["amount"] >= 0
    customers = found.customers.values()
    owned = [doc for doc in counted if "client_id" in doc]
    assert sum(customer["orders"] for customer in customers) == len(owned)
    for field, of in (("revenue", "value"), ("refunded", "refunded")):
        for code in ("USD", "EUR"):
            summed = sum(customer[field].get(code, 0) for customer in customers)
            assert summed == sum(doc[of]["amount"] for doc in owned if doc[of]["currency"] == code)
    days = found.product_stats.values()
    for product in ("7", "8"):
        assert sum(each["orders"] for each in days if each["product_id"] == product) <= len(counted)
    assert sum(customer["events"] for customer in customers) == sum(
        doc["client_id"] != "undefined" for doc in found.events.values()
    )


@examples(30)
@given(histories())
def test_every_order_has_one_document_and_every_sighting_one_order(history: list[Drawn]) -> None:
    found = expected(records_of(history))
    named = [sighting["event_id"] for doc in found.attributions.values() for sighting in doc["sightings"]]
    assert len(named) == len(set(named))
    ids = [doc["order_id"] for doc in found.attributions.values() if "order_id" in doc]
    assert len(ids) == len(set(ids))
