from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.stages.events_made_up import DAY, NOON, ad
from truepixel_dagster.events.ad import Ad
from truepixel_dagster.events.event import iso
from truepixel_dagster.events.money import shares
from truepixel_dagster.events.touch import Touch
from truepixel_dagster.orders.credit import Credit, Credits, credit

MODELS = Credits.__struct_fields__
WEEK = 7 * DAY


def touches(*days_before: float) -> list[Touch]:
    times = [iso(int(NOON - days * DAY)) for days in days_before]
    return [Touch(f"e{i}", at, ad(str(i), platform=str(i)), 0, i) for i, at in enumerate(times)]


def amounts(found: Credits, model: str) -> list[int]:
    return [entry.amount for entry in getattr(found, model)]


def test_the_five_models_by_hand() -> None:
    # Ages 14, 7 and 0 days weigh 1/4, 1/2 and 1: of 700, that is 100, 200 and 400.
    found = credit(700, 350, touches(14, 7, 0), NOON, WEEK)
    assert found.last_click == (Credit("2", 700, "e2", "2", source="2", net=350),)
    assert found.first_click == (Credit("0", 700, "e0", "0", source="0", net=350),)
    assert amounts(found, "linear") == [234, 233, 233]
    assert amounts(found, "time_decay") == [100, 200, 400]
    assert amounts(found, "position_based") == [280, 140, 280]
    assert [entry.net for entry in found.linear] == [117, 117, 116]
    assert [entry.net for entry in found.time_decay] == [50, 100, 200]


def test_a_credit_names_what_its_touch_is() -> None:
    visit = Ad("google", "Google", "cpc", "spring", campaign_id="17", channel="paid_search")
    found = credit(700, 700, [Touch("e", iso(NOON), visit, 0, 1)], NOON, WEEK)
    assert found.linear == (Credit("google", 700, "e", "spring", "paid_search", "Google", "cpc", "17", 700),)


def test_position_based_of_two_is_halves_and_of_one_is_all() -> None:
    assert amounts(credit(101, 0, touches(2, 1), NOON, WEEK), "position_based") == [51, 50]
    assert amounts(credit(101, 0, touches(1), NOON, WEEK), "position_based") == [101]


def test_no_touch_is_one_direct_credit() -> None:
    found = credit(999, 99, [], NOON, WEEK)
    assert all(getattr(found, model) == (Credit("direct", 999, channel="direct", net=99),) for model in MODELS)


def test_an_order_that_was_placed_elsewhere_is_credited_to_that_channel() -> None:
    found = credit(999, 99, [], NOON, WEEK, without_touch="pos")
    assert all(getattr(found, model) == (Credit("pos", 999, channel="pos", net=99),) for model in MODELS)


@given(st.integers(0, 10**15), st.integers(0, 10**15), st.lists(st.floats(0, 30), max_size=50))
def test_every_model_sums_to_the_order_and_to_its_net_exactly(amount: int, net: int, days: list[float]) -> None:
    found = credit(amount, net, touches(*days), NOON, WEEK)
    for model in MODELS:
        parts = amounts(found, model)
        assert sum(parts) == amount
        assert sum(entry.net for entry in getattr(found, model)) == net
        assert all(part >= 0 for part in parts)
        assert all(entry.net >= 0 for entry in getattr(found, model))


@given(st.integers(0, 10**12), st.lists(st.fractions(0, 100), min_size=1, max_size=20).filter(any))
def test_no_share_is_off_by_a_whole_unit_and_equal_weights_favour_the_earlier(
    amount: int, weights: list[Fraction]
) -> None:
    parts = shares(amount, weights)
    assert sum(parts) == amount
    for part, weight in zip(parts, weights):
        assert abs(part - amount * weight / sum(weights)) < 1
    for earlier in range(len(parts)):
        for later in range(earlier, len(parts)):
            if weights[earlier] == weights[later]:
                assert parts[earlier] >= parts[later]
