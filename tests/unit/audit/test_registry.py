"""After a change of the registry of shops, an audit excuses counts of days that moved, and no manipulation."""

from __future__ import annotations

from typing import Any

import pytest

from truepixel_dagster.audit.compare import Actual, Difference, differences
from truepixel_dagster.audit.oracle import Expected, Shop
from truepixel_dagster.audit.registry import Changed, changed_since, excused, oracle_shops
from truepixel_dagster.audit.scope import Outside
from truepixel_dagster.stores.shops import ByOperator, Known

NOTHING = Outside(set(), set(), set(), set(), set(), {}, set())
CHANGED = Changed(frozenset({"s"}), frozenset({"s"}))
Days = dict[str, dict[str, Any]]


def day(shop: str, product: str, on: str, **counts: Any) -> Days:
    return {f"{shop}:{product}:{on}": {"shop_id": shop, "product_id": product, "day": on, **counts}}


def left(expected: Days, actual: Days, changed: Changed = CHANGED, left_out: Outside = NOTHING) -> list[Difference]:
    """The differences that are not excused."""
    sides = Expected(product_stats=expected), Actual(product_stats=actual)
    found = differences(*sides)
    assert found
    of_registry = excused(found, *sides, changed, left_out)
    return [difference for difference in found if difference not in of_registry]


SUNDAY = day("s", "p", "2026-01-11", views=2, revenue={"USD": 5})
MONDAY = day("s", "p", "2026-01-12", views=1, units=3)
MOVED = {
    **day("s", "p", "2026-01-11", views=1),
    **day("s", "p", "2026-01-12", views=2, units=3, revenue={"USD": 5}),
}


def test_counts_on_another_day_of_a_shop_that_became_known_are_excused() -> None:
    assert left({**SUNDAY, **MONDAY}, MOVED) == []
    assert left({**SUNDAY, **MONDAY}, day("s", "p", "2026-01-13", views=3, units=3, revenue={"USD": 5})) == []


def test_counts_on_another_day_of_any_other_shop_are_not_excused() -> None:
    assert left({**SUNDAY, **MONDAY}, MOVED, Changed()) != []
    assert left({**SUNDAY, **MONDAY}, MOVED, Changed(frozenset({"other"}), frozenset({"s"}))) != []


@pytest.mark.parametrize(
    "tampered",
    [
        {**MOVED, **day("s", "p", "2026-01-11", views=2)},
        {**MOVED, **day("s", "p", "2026-01-12", views=2, units=3, revenue={"EUR": 5})},
        {**MOVED, **day("s", "p", "2026-01-13", units=1)},
        day("s", "p", "2026-01-12", views=2, units=3, revenue={"USD": 5}),
    ],
)
def test_a_count_too_many_or_too_few_is_no_moved_one(tampered: Days) -> None:
    assert left({**SUNDAY, **MONDAY}, tampered) != []


def test_counts_do_not_move_from_one_product_to_another() -> None:
    assert left(day("s", "p", "2026-01-11", views=1), day("s", "q", "2026-01-11", views=1)) != []


def test_the_counts_of_a_day_that_is_not_judged_are_not_compared() -> None:
    a_day = Outside(set(), set(), set(), set(), {"s:p:2026-01-12"}, {}, set())
    returns = Outside(set(), set(), set(), set(), set(), {("s", "p"): "2026-01-12"}, set())
    for left_out in (a_day, returns):
        assert left(SUNDAY, day("s", "p", "2026-01-11", views=1), left_out=left_out) == []


def test_an_estimate_of_visitors_is_excused_and_an_exact_count_is_not() -> None:
    for exact in (False, True):
        week = {"s:2026-W02": {"shop_id": "s", "week": "2026-W02", "visitors": 9, "exact": exact}}
        sides = Expected(weekly_visitors={"s:2026-W03": 9}), Actual(weekly_visitors=week)
        found = differences(*sides)
        of_registry = excused(found, *sides, CHANGED, NOTHING)
        assert len(found) == 2
        assert [difference.id for difference in found if difference not in of_registry] == ["s:2026-W02"] * exact


@pytest.mark.parametrize(
    ("store", "kind", "path", "is_excused"),
    [
        ("events", "differs", "ad.platform", True),
        ("events", "differs", "channel", True),
        ("events", "differs", "occurred_at", False),
        ("events", "missing", "", False),
        ("ad_leads", "unexpected", "", True),
        ("attributions", "differs", "credits.linear[0].platform", True),
        ("attributions", "differs", "value.amount", False),
        ("customers", "differs", "last_ad", True),
        ("customers", "differs", "events", False),
        ("dead", "missing", "", False),
    ],
)
def test_differences_by_domains_and_aliases_are_excused_where_they_changed(
    store: str, kind: Any, path: str, is_excused: bool
) -> None:
    difference = Difference(store, "s:x", kind, path)
    assert excused([difference], Expected(), Actual(), CHANGED, NOTHING) == [difference] * is_excused
    assert excused([difference], Expected(), Actual(), Changed(frozenset({"s"})), NOTHING) == []


def test_only_what_changed_since_a_shops_first_record_counts() -> None:
    known = {"before": Known(since=9), "then": Known(since=10, origins_since=11), "never": Known(origins_since=10)}
    first = {"before": 10, "then": 10, "never": 10, "unknown": 10}
    assert changed_since(known, first) == Changed(frozenset({"then"}), frozenset({"then", "never"}))


def test_the_oracle_receives_zone_hosts_and_aliases() -> None:
    operator = ByOperator("Asia/Tokyo", "JPY", ("b.example",), {"x": "facebook"}, ("a.example",))
    assert oracle_shops({"s": Known(operator)}) == {
        "s": Shop("Asia/Tokyo", ("a.example", "b.example"), {"x": "facebook"})
    }
