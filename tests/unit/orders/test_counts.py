"""What an order counts, and the differences that records make."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.orders.test_order import order, paid
from tests.unit.stages.events_made_up import DAY, NOON, completed, refund, refunded, usd, webhook
from truepixel_dagster.events.event import Event, day_of
from truepixel_dagster.events.order import RefundedLine, SoldLine
from truepixel_dagster.orders.counts import (
    Counted,
    Entry,
    as_rows,
    counted,
    days_of,
    difference,
    entry_of,
    from_rows,
    total,
)

TODAY, TOMORROW = "2026-01-01", "2026-01-02"
BACK = refund("r", 500, at=NOON + DAY, lines=(RefundedLine("p", 1, usd(250), "l"),))
LINES = (SoldLine("p", 2, usd(300), 0, None, "l"), SoldLine("q", 1, usd(400)), SoldLine("p", 1, None))


def utc(millis: int, _offset: int) -> str:
    return day_of(millis)


def counts(*events: Event, products: int = 9) -> Counted:
    return counted(order(*events), utc, products)


def test_an_order_adds_one_order_its_units_and_its_revenue_to_each_product_on_its_day() -> None:
    assert counts(paid(lines=LINES)) == {
        ("p", TODAY, "orders"): 1,
        ("p", TODAY, "units"): 3,
        ("p", TODAY, "revenue:USD"): 600,
        ("q", TODAY, "orders"): 1,
        ("q", TODAY, "units"): 1,
        ("q", TODAY, "revenue:USD"): 400,
    }


def test_returned_units_count_on_the_refunds_day_and_not_against_sold_units() -> None:
    found = counts(paid(lines=LINES), refunded(1, BACK))
    assert difference(found, counts(paid(lines=LINES))) == {
        ("p", TOMORROW, "returned_units"): 1,
        ("p", TOMORROW, "returned:USD"): 250,
    }
    assert days_of(found) == {TODAY, TOMORROW}


def test_a_returned_product_counts_although_no_line_of_the_order_names_it() -> None:
    assert counts(paid(lines=LINES[1:2]), refunded(1, BACK), products=1) == {
        ("q", TODAY, "orders"): 1,
        ("q", TODAY, "units"): 1,
        ("q", TODAY, "revenue:USD"): 400,
        ("p", TOMORROW, "returned_units"): 1,
        ("p", TOMORROW, "returned:USD"): 250,
    }


def test_a_line_that_an_edit_has_taken_out_counts_nothing() -> None:
    gone = SoldLine("q", 1, usd(400), 0, 0)
    assert {product for product, _, _ in counts(paid(lines=(LINES[0], gone)))} == {"p"}


def test_a_test_order_counts_nothing_and_an_order_without_client_only_for_products() -> None:
    says: dict[str, Any] = {"lines": LINES, "test": True}
    assert counts(webhook(1, says=says)) == {}
    assert entry_of(order(webhook(1, says=says)), "c") is None
    assert entry_of(order(webhook(1)), None) is None


def test_an_order_counts_its_value_and_what_was_given_back_for_its_client() -> None:
    assert entry_of(order(paid(), refunded(1, BACK)), "c") == Entry("s:c", "USD", 1000, 500)
    assert entry_of(order(completed(1, value=None)), "c") == Entry("s:c")


def test_the_day_is_the_shops_by_the_offset_that_its_times_are_written_with() -> None:
    def by_offset(millis: int, offset: int) -> str:
        return day_of(millis + offset * 60_000)

    placed = order(webhook(1, says={"at": NOON, "utc_offset": 12 * 60, "lines": LINES}))
    assert days_of(counted(placed, by_offset, 9)) == {TOMORROW}


def test_the_first_of_very_many_products_of_an_order_count() -> None:
    assert {product for product, _, _ in counts(paid(lines=LINES), products=1)} == {"p"}


KEYS = st.tuples(st.sampled_from("pq"), st.sampled_from([TODAY, TOMORROW]), st.sampled_from(["orders", "units"]))
COUNTED = st.dictionaries(KEYS, st.integers(-(10**9), 10**9).filter(bool))


@given(st.lists(COUNTED))
def test_differences_sum_up_to_the_last_count(states: list[Counted]) -> None:
    before: Counted = {}
    changes: list[Counted] = []
    for state in states:
        changes.append(difference(state, before))
        before = state
    summed = {key: amount for key, amount in total(changes).items() if amount}
    assert summed == before
    assert from_rows([tuple(row) for row in as_rows(before)]) == before
