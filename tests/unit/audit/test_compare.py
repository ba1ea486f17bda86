"""The comparison names every manipulation of the stores."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict
from datetime import datetime
from functools import cache
from typing import Any

import pytest

from truepixel_dagster.audit.compare import Actual, differences
from truepixel_dagster.audit.oracle import Expected, Record, expected

# A visit from an ad, an order that pixel and webhook report, a duplicate, and a malformed message.
AT = "2026-01-05T10:00:00.000Z"
CHECKOUT = {
    "token": "tok",
    "email": "anna@example.com",
    "totalPrice": {"amount": "100.00", "currencyCode": "USD"},
    "order": {"id": "9", "customer": {"id": "5"}},
    "lineItems": [{"quantity": 2, "variant": {"product": {"id": "1"}, "price": {"amount": "50.00"}}}],
}
FIRST_AD = "https://shop.example/?gclid=1&utm_source=google&utm_campaign=may"
SECOND_AD = "https://shop.example/?fbclid=2"
ORDER = {
    "id": 9,
    "checkout_token": "tok",
    "cart_token": "cart",
    "created_at": AT,
    "currency": "USD",
    "total_price": "100.00",
    "test": False,
    "customer": {"id": 5, "orders_count": 1},
    "line_items": [{"id": 1, "product_id": 1, "quantity": 2, "price": "50.00"}],
}
REFUND = {
    "id": 7,
    "order_id": 9,
    "created_at": AT,
    "transactions": [{"kind": "refund", "status": "success", "amount": "50.00", "currency": "USD"}],
    "refund_line_items": [{"quantity": 1, "line_item_id": 1, "line_item": {"product_id": 1}, "subtotal": 50.0}],
}


def pixel(id_: str, name: str, url: str, referrer: str = "https://search.example/", **data: Any) -> dict[str, Any]:
    document = {"location": {"href": url}, "referrer": referrer}
    context = {"document": document}
    return {"id": id_, "name": name, "clientId": "anna", "timestamp": AT, "data": data, "context": context}


@cache
def wanted() -> Expected:
    """What the oracle expects. The comparison changes nothing in it."""
    values = [
        pixel("a", "product_viewed", FIRST_AD, productVariant={"product": {"id": "1"}}),
        pixel("b", "page_viewed", SECOND_AD),
        pixel("c", "checkout_completed", "https://shop.example/thanks", "https://shop.example/", checkout=CHECKOUT),
        pixel("a", "page_viewed", FIRST_AD),
        {"nothing": "known"},
    ]
    records = [Record("events", 0, n, 0, b"shop:anna", json.dumps(value).encode()) for n, value in enumerate(values)]
    for offset, (topic, value) in enumerate([(b"orders/create", ORDER), (b"refunds/create", REFUND)]):
        raw = json.dumps(value).encode()
        records.append(Record("events", 1, offset, 1_767_607_200_000, b"shop:cart", raw, [("topic", topic)]))
    return expected(records)


STORES = ("events", "ad_leads", "attributions", "customers", "product_stats")


def stored() -> dict[str, Any]:
    """Stores without a difference, with the fields that a pipeline adds for itself."""
    state = wanted()
    stores: dict[str, Any] = {name: deepcopy(getattr(state, name)) for name in STORES}
    weeks = {
        id_: {"shop_id": "shop", "week": id_.split(":")[1], "visitors": count, "exact": True}
        for id_, count in state.weekly_visitors.items()
    }
    return {**stores, "weekly_visitors": weeks, "dead": dict.fromkeys(state.dead, "other words")}


def found(tamper: Callable[[dict[str, Any]], Any]) -> list[tuple[str, str, str, str]]:
    """Store, id, kind and path of every difference after this change of the stores."""
    stores = stored()
    tamper(stores)
    return [(one.store, one.id, one.kind, one.path) for one in differences(wanted(), Actual(**stores))]


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every single value inside."""
    if isinstance(value, dict):
        return [leaf for name, inner in value.items() for leaf in leaves(inner, (*path, name))]
    if isinstance(value, list):
        return [leaf for place, inner in enumerate(value) for leaf in leaves(inner, (*path, place))]
    return [path]


# A sighting is known by its event id and its place in the topic; its other fields are not compared.
NOT_COMPARED = {"source", "topic"}
STORED = stored()
LEAVES = [
    (store, *path)
    for store in (*STORES, "weekly_visitors")
    for path in leaves(STORED[store])
    if not ("sightings" in path and path[-1] in NOT_COMPARED)
]


def inside(stores: Any, path: tuple[Any, ...]) -> Any:
    for step in path:
        stores = stores[step]
    return stores


def tampered(value: Any) -> Any:
    """Another value of the same type."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value + 1
    return value.replace("10:00:00.000Z", "10:00:00.001Z") if "10:00:00.000Z" in value else value + "x"


def test_stores_that_are_as_expected_have_no_difference() -> None:
    assert found(lambda stores: None) == []


@pytest.mark.parametrize("path", LEAVES, ids=lambda path: "/".join(map(str, path)))
def test_a_change_of_any_single_value_is_found(path: tuple[Any, ...]) -> None:
    *way, last = path

    def change(stores: Any) -> None:
        parent = inside(stores, tuple(way))
        parent[last] = tampered(parent[last])

    ((store, id_, kind, where),) = found(change)
    assert (store, id_, kind) == (path[0], path[1], "differs")
    assert where.startswith(path[2])


@pytest.mark.parametrize(
    "path",
    [path for path in LEAVES if isinstance(path[-1], str) and inside(STORED, path) != 0],
    ids=lambda path: "/".join(map(str, path)),
)
def test_a_value_that_is_missing_is_found(path: tuple[Any, ...]) -> None:
    *way, last = path
    assert len(found(lambda stores: inside(stores, tuple(way)).pop(last))) == 1


@pytest.mark.parametrize("store", [*STORES, "dead", "weekly_visitors"])
def test_a_document_that_is_missing_or_too_many_is_found(store: str) -> None:
    id_ = next(iter(stored()[store]))
    other = (7, 7) if store == "dead" else "shop:other"
    name, other_name = ("0/4", "7/7") if store == "dead" else (id_, other)

    def rename(stores: Any) -> None:
        stores[store][other] = stores[store].pop(id_)

    assert sorted(found(rename)) == sorted([(store, name, "missing", ""), (store, other_name, "unexpected", "")])


@pytest.mark.parametrize(
    "path",
    [
        ("events", "shop:a", "product_ids"),
        ("ad_leads", "shop:anna", "touches"),
        ("attributions", "shop:tok", "touches"),
        ("attributions", "shop:tok", "sightings"),
        ("attributions", "shop:tok", "credits", "linear"),
    ],
)
def test_an_item_too_few_or_too_many_is_found(path: tuple[str, ...]) -> None:
    assert found(lambda stores: inside(stores, path).pop())
    assert found(lambda stores: inside(stores, path).append({"event_id": "more"}))


def test_touches_and_credits_in_another_order_are_found() -> None:
    assert found(lambda stores: stores["ad_leads"]["shop:anna"]["touches"].reverse())
    assert found(lambda stores: stores["attributions"]["shop:tok"]["touches"].reverse())
    assert found(lambda stores: stores["attributions"]["shop:tok"]["credits"]["linear"].reverse())


def test_an_ad_or_an_amount_where_none_is_expected_is_found() -> None:
    ad = {"platform": "google"}
    where = "events", "shop:c", "differs", "ad"
    assert found(lambda stores: stores["events"]["shop:c"].update(ad=ad)) == [where]
    revenue = "customers", "shop:anna", "differs", "revenue.EUR"
    assert found(lambda stores: stores["customers"]["shop:anna"]["revenue"].update(EUR=1)) == [revenue]


@pytest.mark.parametrize("amount", [10000.0, "10000", True, 10_001])
def test_an_amount_is_an_integer_and_exact(amount: Any) -> None:
    where = "attributions", "shop:tok", "differs", "value.amount"
    assert found(lambda stores: stores["attributions"]["shop:tok"]["value"].update(amount=amount)) == [where]


def test_true_is_not_1() -> None:
    where = "customers", "shop:cart", "differs", "events"
    assert found(lambda stores: stores["customers"]["shop:cart"].update(events=True)) == [where]


@pytest.mark.parametrize(
    "same",
    [
        "2026-01-05T10:00:00Z",
        "2026-01-05T11:00:00.000+01:00",
        datetime(2026, 1, 5, 10),  # noqa: DTZ001 - as MongoDB's client reads it
        datetime.fromisoformat("2026-01-05T09:00:00-01:00"),
    ],
)
def test_times_are_compared_as_instants(same: Any) -> None:
    assert found(lambda stores: stores["customers"]["shop:anna"].update(first_seen=same)) == []


@pytest.mark.parametrize("other", ["2026-01-05T10:00:00+01:00", "soon", 1_767_607_200_000, datetime(2026, 1, 5)])  # noqa: DTZ001
def test_another_instant_or_no_time_is_found(other: Any) -> None:
    where = "customers", "shop:anna", "differs", "first_seen"
    assert found(lambda stores: stores["customers"]["shop:anna"].update(first_seen=other)) == [where]


def test_sightings_are_a_set_and_fields_beyond_the_contract_are_ignored() -> None:
    def change(stores: Any) -> None:
        attribution = stores["attributions"]["shop:tok"]
        attribution["sightings"].reverse()
        attribution["revision"] = 3
        attribution["sightings"][0]["touches"] = []
        attribution["touches"][0]["partition"] = 0
        stores["events"]["shop:a"]["kafka"]["timestamp"] = 1
        stores["ad_leads"]["shop:anna"]["touches"][0]["more"] = 1
        stores["customers"]["shop:anna"]["applied"] = {"0": 2}

    assert found(change) == []


def test_null_and_empty_are_the_same_as_no_field() -> None:
    def change(stores: Any) -> None:
        stores["events"]["shop:c"].update(ad=None)
        stores["events"]["shop:b"].update(product_ids=[], order_id="")
        stores["product_stats"]["shop:1:2026-01-05"]["revenue"]["EUR"] = 0

    assert found(change) == []


def test_a_count_of_0_and_no_count_are_the_same_and_so_are_false_and_no_mark() -> None:
    def change(stores: Any) -> None:
        del stores["customers"]["shop:cart"]["orders"]
        stores["product_stats"]["shop:1:2026-01-05"].update(carts=None)
        stores["events"]["shop:a"].update(bot=False, test=False)
        stores["attributions"]["shop:tok"].update(test=False)
        stores["customers"]["shop:nobody"] = {"orders": 0, "revenue": {"USD": 0}, "refunded": {}, "events": 0}

    assert found(change) == []


def test_a_new_customer_that_is_false_differs_from_unknown() -> None:
    where = "attributions", "shop:tok", "differs", "new_customer"
    assert found(lambda stores: stores["attributions"]["shop:tok"].update(new_customer=False)) == [where]
    assert found(lambda stores: stores["attributions"]["shop:tok"].pop("new_customer")) == [where]


def test_a_products_day_on_which_nothing_was_counted_is_no_day() -> None:
    nothing = {"shop_id": "shop", "product_id": "2", "day": "2026-01-05", "views": 0, "revenue": {}}
    assert found(lambda stores: stores["product_stats"].update({"shop:2:2026-01-05": nothing})) == []
    assert found(lambda stores: stores["product_stats"].update({"shop:2:2026-01-05": {**nothing, "views": 1}}))
    emptied = {**nothing, "product_id": "1"}
    kinds = {
        kind for _, _, kind, _ in found(lambda stores: stores["product_stats"].update({"shop:1:2026-01-05": emptied}))
    }
    assert kinds == {"differs"}


@pytest.mark.parametrize(
    ("counted", "exact", "visitors", "fine"),
    [
        (1000, True, 1000, True),
        (1000, True, 1001, False),
        (1000, False, 1030, True),
        (1000, False, 970, True),
        (1000, False, 1031, False),
        (1000, False, 969, False),
        (10, False, 12, True),
        (10, False, 13, False),
        (10, False, 10.5, False),
        (10, None, 10, False),
        (10, None, 11, False),
    ],
)
def test_visitors_are_exact_unless_the_document_says_otherwise(
    counted: int, exact: bool | None, visitors: Any, fine: bool
) -> None:
    state = Expected(weekly_visitors={"shop:2026-W02": counted})
    week = {"shop_id": "shop", "week": "2026-W02", "visitors": visitors, "exact": exact}
    assert (differences(state, Actual(weekly_visitors={"shop:2026-W02": week})) == []) is fine


def test_a_document_or_a_field_of_the_wrong_shape_is_a_difference_and_no_crash() -> None:
    for store in STORES:
        emptied: dict[str, Any] = {id_: {} for id_ in stored()[store]}
        assert {one[1] for one in found(_updated(emptied, store))} == set(emptied)
    for name in ("touches", "credits", "sightings", "value", "occurred_at"):
        for wrong in (None, "x", 5, [5], {"x": 5}):
            assert found(_updated({name: wrong}, "attributions", "shop:tok"))


def _updated(fields: Any, *path: str) -> Callable[[dict[str, Any]], Any]:
    return lambda stores: inside(stores, path).update(fields)


def test_a_difference_is_one_line_that_names_store_document_and_field() -> None:
    stores = stored()
    stores["attributions"]["shop:tok"]["credits"]["linear"][1]["amount"] = 4999
    stores["events"]["shop:more\nlines"] = stores["events"].pop("shop:a")
    lines = [str(difference) for difference in differences(wanted(), Actual(**stores))]
    assert lines == [
        "events 'shop:a': missing",
        "events 'shop:more\\nlines': unexpected",
        "attributions 'shop:tok': credits.linear[1].amount is 4999, expected 5000",
    ]


def test_a_difference_carries_both_values() -> None:
    stores = stored()
    stores["customers"]["shop:cart"]["events"] = 7
    (difference,) = differences(wanted(), Actual(**stores))
    assert asdict(difference) == {
        "store": "customers",
        "id": "shop:cart",
        "kind": "differs",
        "path": "events",
        "expected": 2,
        "actual": 7,
    }


def test_an_order_id_that_no_record_names_is_an_imports_and_one_that_a_record_names_is_a_difference() -> None:
    checkout = {"token": "tok", "totalPrice": {"amount": "1.00", "currencyCode": "USD"}}
    other: dict[str, Any] = {"checkout": {**checkout, "token": "other", "order": {"id": "8"}}}
    values = [
        pixel("a", "checkout_completed", FIRST_AD, checkout=checkout),
        pixel("b", "checkout_completed", FIRST_AD, **other),
    ]
    records = [
        Record("t", 0, n, 1_767_600_000_000, b"s:anna", json.dumps(value).encode(), [("source", b"pixel")])
        for n, value in enumerate(values)
    ]
    right = expected(records)
    for order_id, is_wrong in (("77", False), ("8", True)):
        held = deepcopy(right.attributions)
        held["s:tok"]["order_id"] = order_id
        found = [each for each in differences(right, Actual(attributions=held)) if each.store == "attributions"]
        assert bool(found) is is_wrong
