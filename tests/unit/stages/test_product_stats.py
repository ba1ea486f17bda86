from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.stages.events_made_up import DAY, NOON, completed, event, webhook
from truepixel_dagster.events.event import Event, LineItem, day_of, week_of
from truepixel_dagster.events.money import Money
from truepixel_dagster.events.origin import Origin
from truepixel_dagster.orders.counts import Counted
from truepixel_dagster.stages import product_stats
from truepixel_dagster.stages.product_stats import Counting, decide
from truepixel_dagster.stores.redis import CounterKey, WeekKey

TODAY = "2026-01-01"
UTC = Counting(lambda seen: day_of(seen.occurred_at), lambda seen: week_of(seen.occurred_at))
Counters = dict[CounterKey, dict[str, int]]


def counters(*events: Event, changes: Mapping[Origin, Counted] = {}, counting: Counting = UTC) -> Counters:
    """The counters that events add if nothing has been applied yet."""
    return decide(events, changes, dict.fromkeys({seen.origin.partition for seen in events}, -1), counting)[0].counters


def visitors(*events: Event, counting: Counting = UTC) -> dict[WeekKey, set[str]]:
    return decide(events, {}, dict.fromkeys({seen.origin.partition for seen in events}, -1), counting)[0].visitors


def millis(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=timezone.utc).timestamp() * 1000)


def lines(*items: tuple[str, int, Money | None]) -> tuple[LineItem, ...]:
    return tuple(LineItem(product, quantity, revenue) for product, quantity, revenue in items)


def test_a_viewed_product_is_one_view() -> None:
    views = [event(i, name="product_viewed", product_ids=("p",)) for i in range(3)]
    assert counters(*views) == {("s", "p", TODAY): {"views": 3}}


def test_added_to_cart_counts_the_quantity() -> None:
    added = event(name="product_added_to_cart", product_ids=("p",), items=lines(("p", 3, None)))
    assert counters(added) == {("s", "p", TODAY): {"carts": 3}}


def test_a_started_checkout_counts_each_distinct_product_once_whatever_the_quantity() -> None:
    items = lines(("p", 2, Money(5, "USD")), ("q", 1, None), ("p", 7, None))
    started = event(name="checkout_started", product_ids=("p", "q"), items=items)
    assert counters(started) == {("s", "p", TODAY): {"checkouts": 1}, ("s", "q", TODAY): {"checkouts": 1}}


def test_what_a_record_changes_in_an_order_is_added_on_the_days_of_the_change() -> None:
    order, back = completed(0), webhook(1)
    sold: Counted = {("p", TODAY, "orders"): 1, ("p", TODAY, "units"): 3, ("p", TODAY, "revenue:USD"): 2400}
    taken: Counted = {("p", TODAY, "revenue:USD"): -400, ("p", "2026-01-09", "returned_units"): 1}
    assert counters(order, back, changes={order.origin: sold, back.origin: taken}) == {
        ("s", "p", TODAY): {"orders": 1, "units": 3, "revenue:USD": 2000},
        ("s", "p", "2026-01-09"): {"returned_units": 1},
    }


def test_a_record_that_changes_nothing_of_its_order_adds_nothing() -> None:
    order = completed(0, items=lines(("p", 2, Money(1900, "USD"))))
    assert counters(order) == {}
    elsewhere: Counted = {("p", TODAY, "orders"): 1}
    assert counters(order, changes={Origin("t", 1, 0): elsewhere, Origin("t", 0, 1): elsewhere}) == {}


def test_each_currency_has_its_own_revenue() -> None:
    dollars, yen = completed(0), completed(1)
    changes: dict[Origin, Counted] = {
        dollars.origin: {("p", TODAY, "orders"): 1, ("p", TODAY, "revenue:USD"): 1000},
        yen.origin: {("p", TODAY, "orders"): 1, ("p", TODAY, "revenue:JPY"): 150},
    }
    found = counters(dollars, yen, changes=changes)
    assert found == {("s", "p", TODAY): {"orders": 2, "revenue:USD": 1000, "revenue:JPY": 150}}


def test_bots_count_nothing_and_are_no_visitors() -> None:
    seen = event(0, name="product_viewed", product_ids=("p",), bot=True)
    assert counters(seen) == {}
    assert visitors(seen) == {}


def test_an_invalid_client_counts_products_and_is_no_visitor() -> None:
    seen = event(0, name="product_viewed", product_ids=("p",), client_id="undefined", anonymous=True)
    assert counters(seen) == {("s", "p", TODAY): {"views": 1}}
    assert visitors(seen) == {}


@pytest.mark.parametrize("name", ["page_viewed", "cart_viewed", "collection_viewed", "checkout_completed", "made_up"])
def test_other_events_count_no_product(name: str) -> None:
    assert counters(event(name=name, product_ids=("p",), items=lines(("p", 1, None)))) == {}


def test_shops_products_and_days_are_counted_apart() -> None:
    def view(offset: int, shop: str, product: str, at: int) -> Event:
        return event(offset, name="product_viewed", shop_id=shop, product_ids=(product,), at=at)

    seen = [view(0, "a", "p", NOON), view(1, "b", "p", NOON), view(2, "a", "q", NOON), view(3, "a", "p", NOON + DAY)]
    assert counters(*seen) == {
        ("a", "p", TODAY): {"views": 1},
        ("b", "p", TODAY): {"views": 1},
        ("a", "q", TODAY): {"views": 1},
        ("a", "p", "2026-01-02"): {"views": 1},
    }


def test_day_and_week_are_the_shops_own() -> None:
    kiritimati = Counting(
        lambda seen: day_of(seen.occurred_at + 14 * 3_600_000), lambda seen: week_of(seen.occurred_at + 14 * 3_600_000)
    )
    view = event(name="product_viewed", product_ids=("p",), at=millis("2026-01-04T11:00:00"))
    assert counters(view, counting=kiritimati) == {("s", "p", "2026-01-05"): {"views": 1}}
    assert visitors(view, counting=kiritimati) == {("s", "2026-W02"): {"c"}}


def test_the_day_is_that_of_the_event_to_the_millisecond() -> None:
    midnight = millis("2026-03-01T00:00:00")
    seen = [
        event(i, name="product_viewed", product_ids=("p",), at=at, received_at=NOON)
        for i, at in enumerate([midnight - 1, midnight])
    ]
    assert {day for _, _, day in counters(*seen)} == {"2026-02-28", "2026-03-01"}


@pytest.mark.parametrize(
    ("day", "week"),
    [
        ("2026-01-01", "2026-W01"),
        ("2027-01-01", "2026-W53"),
        ("2027-01-03", "2026-W53"),
        ("2027-01-04", "2027-W01"),
        ("2024-12-30", "2025-W01"),
        ("2024-12-29", "2024-W52"),
        ("2023-01-01", "2022-W52"),
    ],
)
def test_visitors_belong_to_the_iso_week_whose_year_may_not_be_the_days(day: str, week: str) -> None:
    assert visitors(event(at=millis(f"{day}T00:00:00"))) == {("s", week): {"c"}}
    assert visitors(event(at=millis(f"{day}T23:59:59"))) == {("s", week): {"c"}}


def test_a_client_is_one_visitor_of_a_week_whatever_it_does() -> None:
    seen = [event(0), event(1, name="product_viewed"), completed(2), event(3, client_id="d")]
    assert visitors(*seen) == {("s", "2026-W01"): {"c", "d"}}


def test_a_webhook_is_no_visitor_but_its_order_counts() -> None:
    order = webhook(0)
    added, _ = decide([order], {order.origin: {("p", TODAY, "orders"): 1}}, {0: -1}, UTC)
    assert added.visitors == {}
    assert added.counters == {("s", "p", TODAY): {"orders": 1}}


def test_what_was_applied_adds_nothing_and_never_moves_an_offset_back() -> None:
    view = event(4, name="product_viewed", product_ids=("p",))
    added, new = decide([view], {view.origin: {("p", TODAY, "orders"): 1}}, {0: 9}, UTC)
    assert (added.counters, added.visitors, added.upto, new) == ({}, {}, {0: 9}, 0)


def test_each_partition_has_its_own_applied_offset() -> None:
    seen = [event(4, partition=0), event(4, partition=1), event(6, partition=1, client_id="d")]
    added, new = decide(seen, {}, {0: 4, 1: 4}, UTC)
    assert (added.visitors, added.upto, new) == ({("s", "2026-W01"): {"d"}}, {0: 4, 1: 6}, 1)


PARTITIONS = 3
NAMES = ["page_viewed", "product_viewed", "product_added_to_cart", "checkout_started", "checkout_completed"]
ITEMS = st.lists(
    st.builds(
        LineItem,
        st.sampled_from(["p", "q"]),
        st.integers(0, 5),
        st.none() | st.builds(Money, st.integers(0, 10**15), st.sampled_from(["USD", "JPY"])),
    ),
    max_size=3,
).map(tuple)


CHANGES = st.dictionaries(
    st.tuples(
        st.sampled_from(["p", "q"]),
        st.sampled_from([TODAY, "2026-01-02"]),
        st.sampled_from(["orders", "units", "revenue:USD", "returned_units", "returned:JPY"]),
    ),
    st.integers(-(10**15), 10**15),
    max_size=5,
)
Stream = tuple[list[Event], dict[Origin, Counted]]


@st.composite
def streams(draw: st.DrawFn) -> Stream:
    """Events of three partitions, each in offset order with gaps, and what some of them change in orders."""
    seen: list[Event] = []
    last = dict.fromkeys(range(PARTITIONS), -1)
    for _ in range(draw(st.integers(1, 25))):
        partition = draw(st.integers(0, PARTITIONS - 1))
        last[partition] += draw(st.integers(1, 3))
        name, items = draw(st.sampled_from(NAMES)), draw(ITEMS)
        fields = {"client_id": draw(st.sampled_from("abc")), "source": draw(st.sampled_from(["pixel", "webhook"]))}
        products = tuple(dict.fromkeys(item.product_id for item in items))
        at = NOON + draw(st.integers(-9, 9)) * DAY
        seen.append(
            event(last[partition], at=at, partition=partition, name=name, items=items, product_ids=products, **fields)
        )
    return seen, {one.origin: draw(CHANGES) for one in seen if one.name == "checkout_completed"}


def naive(events: Sequence[Event], changes: Mapping[Origin, Counted]) -> Mapping[tuple[str, str], int]:
    """The counting rules once more, for products over all days, in the plainest way."""
    totals: dict[tuple[str, str], int] = {}

    def add(product: str, field: str, amount: int) -> None:
        totals[product, field] = totals.get((product, field), 0) + amount

    for one in events:
        for product in one.product_ids:
            add(product, "views", one.name == "product_viewed")
            add(product, "checkouts", one.name == "checkout_started")
        for item in one.items:
            add(item.product_id, "carts", item.quantity if one.name == "product_added_to_cart" else 0)
        for (product, _, field), amount in changes.get(one.origin, {}).items():
            add(product, field, amount)
    return {key: amount for key, amount in totals.items() if amount}


@given(streams(), st.data())
def test_any_cut_and_any_redelivery_of_batches_gives_the_same_totals(stream: Stream, data: st.DataObject) -> None:
    events, changes = stream
    totals: Counters = {}
    clients: dict[WeekKey, set[str]] = {}
    applied = dict.fromkeys(range(PARTITIONS), -1)
    news = position = 0
    while position < len(events):
        start = data.draw(st.integers(0, position))
        position = data.draw(st.integers(position + 1, len(events)))
        added, new = decide(events[start:position], changes, applied, UTC)
        applied.update(added.upto)
        news += new
        for key, fields in added.counters.items():
            for field, amount in fields.items():
                totals.setdefault(key, {})[field] = totals.get(key, {}).get(field, 0) + amount
        for week, found in added.visitors.items():
            clients.setdefault(week, set()).update(found)
    whole, count = decide(events, changes, dict.fromkeys(range(PARTITIONS), -1), UTC)
    assert (totals, clients, news) == (whole.counters, whole.visitors, len(events))
    assert count == len(events)
    assert applied == dict.fromkeys(range(PARTITIONS), -1) | whole.upto


@given(streams())
def test_the_counters_equal_a_naive_count(stream: Stream) -> None:
    events, changes = stream
    found: dict[tuple[str, str], int] = {}
    for (_, product, _), fields in counters(*events, changes=changes).items():
        for field, amount in fields.items():
            found[product, field] = found.get((product, field), 0) + amount
    assert {key: amount for key, amount in found.items() if amount} == naive(events, changes)


def test_the_first_of_very_many_products_of_an_event_count() -> None:
    items = lines(("p", 1, None), ("q", 2, None), ("p", 3, None), ("r", 4, None), ("q", 5, None))
    few = UTC._replace(products=2)
    started = event(name="checkout_started", product_ids=("p", "q", "r"), items=items)
    assert set(counters(started, counting=few)) == {("s", "p", TODAY), ("s", "q", TODAY)}
    added = event(name="product_added_to_cart", product_ids=("p", "q", "r"), items=items)
    assert counters(added, counting=few) == {("s", "p", TODAY): {"carts": 4}, ("s", "q", TODAY): {"carts": 7}}


def test_a_sum_stops_at_what_64_bits_hold() -> None:
    orders = [completed(n) for n in range(5)]
    changes: dict[Origin, Counted] = {order.origin: {("p", TODAY, "revenue:JPY"): 2**61} for order in orders}
    assert counters(*orders, changes=changes)["s", "p", TODAY]["revenue:JPY"] == 2**63 - 1


def test_a_batch_of_very_many_products_goes_in_parts() -> None:
    events = [event(n, product_ids=tuple(map(str, range(2000)))) for n in range(25)]
    parts = list(product_stats._parts(events, {}))
    assert [len(part) for part in parts] == [10, 10, 5]
    assert [each for part in parts for each in part] == events
    assert list(product_stats._parts([], {})) == []


def test_changes_of_orders_are_divided_into_parts_too() -> None:
    events = [completed(n) for n in range(3)]
    many: Counted = {(str(product), TODAY, "units"): 1 for product in range(15_000)}
    parts = list(product_stats._parts(events, {one.origin: many for one in events}))
    assert [len(part) for part in parts] == [1, 1, 1]
