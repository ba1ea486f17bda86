"""The data-driven models against published worked examples, to the digit, and against their definitions."""

from __future__ import annotations

from collections import Counter, defaultdict
from fractions import Fraction
from itertools import combinations, pairwise
from math import factorial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from truepixel_dagster.answers.models import (
    Outcomes,
    Paths,
    normalised,
    paths_by_channel,
    removal_effects,
    shapley_values,
    weights_by_channel,
)

PATHS = st.dictionaries(
    st.lists(st.sampled_from("abcd"), min_size=1, max_size=4).map(tuple),
    st.builds(Outcomes, st.integers(0, 5), st.integers(0, 5)),
    max_size=8,
)


def paths_of(**counts: tuple[int, int]) -> dict[tuple[str, ...], Outcomes]:
    """`A_B=(1, 2)`: one path A > B with an order, two without."""
    return {tuple(names.split("_")): Outcomes(*each) for names, each in counts.items()}


def test_the_removal_effects_of_bryls_example() -> None:
    """S. Bryl, analyzecore.com/2016/08/03/attribution-model-r-part-1: removal effects 0.5, 1, 1; 20 %, 40 %, 40 %."""
    effects = removal_effects(paths_of(C1_C2_C3=(1, 0), C1=(0, 1), C2_C3=(0, 1)))
    assert effects == {"C1": Fraction("0.5"), "C2": 1, "C3": 1}
    assert normalised(effects) == {"C1": Fraction("0.2"), "C2": Fraction("0.4"), "C3": Fraction("0.4")}


def test_the_removal_effects_of_puzyrovs_example() -> None:
    """S. Puzyrov, serhiipuzyrov.com, "Markov Chain Attribution – Simple Explanation Of Removal Effect", July 2019.

    start > ads 0.8, start > mailing 0.2; ads > order 0.5, ads > mailing 0.25, mailing > order 1. By hand: the order is
    reached by 0.8 × (0.5 + 0.25) + 0.2 = 0.8, without ads by 0.2, without mailing by 0.8 × 0.5 = 0.4.
    """
    effects = removal_effects(paths_of(ads=(2, 1), mailing=(1, 0), ads_mailing=(1, 0)))
    assert effects == {"ads": Fraction("0.75"), "mailing": Fraction("0.5")}
    assert normalised(effects) == {"ads": Fraction("0.6"), "mailing": Fraction("0.4")}


def test_the_removal_effects_of_a_chain_with_a_cycle() -> None:
    """By hand: A > B > A with an order, B lost. start > A, start > B 1/2 each; A > B 1/2, A > order 1/2; B > A 1/2.

    a = 1/2 + b/2, b = a/2: a = 2/3, b = 1/3, so 1/2 is reached. Without A nothing is, without B 1/2 × 1/2.
    """
    assert removal_effects(paths_of(A_B_A=(1, 0), B=(0, 1))) == {"A": 1, "B": Fraction(1, 2)}


def test_the_shapley_values_of_a_published_example() -> None:
    """The example of "Data-Driven Marketing Attribution", towardsdatascience.com (1a28d2e613a0).

    Of 100 orders 20 met Facebook, 10 organic search, 17 LinkedIn, 17 F and O, 30 F and L, 6 all three. Printed there: F
    0.455, O 0.205, L 0.34.
    """
    example = paths_of(F=(20, 0), O=(10, 0), L=(17, 0), F_O=(17, 0), F_L=(30, 0), F_L_O=(6, 0))
    assert shapley_values(example) == {"F": Fraction("0.455"), "L": Fraction("0.34"), "O": Fraction("0.205")}


def test_paths_without_an_order_lower_all_shapley_values_alike() -> None:
    few, many = paths_of(A=(3, 0), A_B=(2, 0)), paths_of(A=(3, 10), A_B=(2, 5), B=(0, 20))
    # A: 3 + 2/2, B: 2/2, of 5 paths and of 40.
    assert shapley_values(few) == {"A": Fraction(4, 5), "B": Fraction(1, 5)}
    assert shapley_values(many) == {"A": Fraction(4, 40), "B": Fraction(1, 40)}


def test_paths_without_any_order_have_no_effects_and_no_values() -> None:
    lost = paths_of(A_B=(0, 3))
    assert removal_effects(lost) == shapley_values(lost) == normalised(shapley_values(lost)) == {"A": 0, "B": 0}
    assert removal_effects({}) == shapley_values({}) == removal_effects({(): Outcomes(1, 1)}) == {}


def test_a_path_counts_once_for_each_channel_that_it_met() -> None:
    assert paths_by_channel(paths_of(A_B_A=(1, 2), B=(0, 4))) == {"A": Outcomes(1, 2), "B": Outcomes(1, 6)}


def test_a_channels_weight_is_divided_among_its_touches() -> None:
    values = {"email": Fraction(1, 4), "paid_search": Fraction(1, 2)}
    found = weights_by_channel(["email", "paid_search", "email"], values)
    assert found == [Fraction(1, 8), Fraction(1, 2), Fraction(1, 8)]
    assert weights_by_channel(["sms", "sms"], values) == [1, 1]


@given(PATHS)
def test_shapley_values_are_those_of_the_definition(paths: Paths) -> None:
    """Each channel's mean marginal value over all orders of joining: Shapley's formula over all sets of channels."""
    channels = sorted({channel for path in paths for channel in path})
    count = sum(each.converted + each.lost for each in paths.values())

    def value_of(players: tuple[str, ...]) -> Fraction:
        return sum(
            (Fraction(each.converted, count) for path, each in paths.items() if count and set(path) <= set(players)),
            Fraction(0),
        )

    def value(channel: str) -> Fraction:
        others = [other for other in channels if other != channel]
        return sum(
            (
                Fraction(factorial(size) * factorial(len(others) - size), factorial(len(channels)))
                * (value_of((*chosen, channel)) - value_of(chosen))
                for size in range(len(channels))
                for chosen in combinations(others, size)
            ),
            Fraction(0),
        )

    assert shapley_values(paths) == {channel: value(channel) for channel in channels}


@given(PATHS)
def test_removal_effects_are_those_of_the_definition(paths: Paths) -> None:
    """The chain is followed state by state, with one channel leading to the loss, until nothing of it is left."""
    met = {path: each for path, each in paths.items() if each.converted + each.lost}
    moves: dict[str, Counter[str]] = defaultdict(Counter)
    for path, each in met.items():
        for before, after in pairwise(("start", *path)):
            moves[before][after] += each.converted + each.lost
        moves[path[-1]]["order"] += each.converted
        moves[path[-1]]["loss"] += each.lost

    def reached(without: str | None = None) -> float:
        there, orders = {"start": 1.0}, 0.0
        while sum(there.values()) > 1e-13:
            later: dict[str, float] = defaultdict(float)
            for state, part in there.items():
                for after, count in moves[state].items():
                    later[after] += part * count / moves[state].total()
            orders += later.pop("order", 0.0)
            there = {state: part for state, part in later.items() if state not in ("loss", without)}
        return orders

    channels = {channel for path in paths for channel in path}
    whole = reached() if met else 0.0
    expected = {channel: 1 - reached(channel) / whole if whole else 0.0 for channel in channels}
    assert {channel: float(effect) for channel, effect in removal_effects(paths).items()} == pytest.approx(expected)


@given(PATHS)
def test_a_removal_effect_is_a_share_and_every_channel_before_an_order_has_one(paths: Paths) -> None:
    effects = removal_effects(paths)
    assert all(0 <= effect <= 1 for effect in effects.values())
    assert all(effects[channel] for path, each in paths.items() if each.converted for channel in path)


@given(PATHS)
def test_the_order_of_the_paths_changes_nothing(paths: Paths) -> None:
    backwards = dict(reversed(list(paths.items())))
    assert removal_effects(backwards) == removal_effects(paths)
    assert shapley_values(backwards) == shapley_values(paths)
