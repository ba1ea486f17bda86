"""Compute the values of channels from a shop's paths: Markov removal effects and Shapley values, as exact fractions.

    >>> from truepixel_dagster.answers.models import Outcomes, removal_effects, shapley_values
    >>> paths = {
    ...     ("C1", "C2", "C3"): Outcomes(converted=1),
    ...     ("C1",): Outcomes(lost=1),
    ...     ("C2", "C3"): Outcomes(lost=1),
    ... }
    >>> {channel: str(effect) for channel, effect in removal_effects(paths).items()}
    {'C1': '1/2', 'C2': '1', 'C3': '1'}
    >>> {channel: str(value) for channel, value in shapley_values(paths).items()}
    {'C1': '1/9', 'C2': '1/9', 'C3': '1/9'}

The example is from S. Bryl, "Marketing Multi-Channel Attribution model with R (part 1: Markov chains concept)",
analyzecore.com, 2016-08-03.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from itertools import pairwise
from operator import mul

import msgspec

from truepixel_dagster.orders.credit import Weight

MARKOV, SHAPLEY = "markov", "shapley"

Channels = tuple[str, ...]
Weights = Mapping[str, Fraction]


class Outcomes(msgspec.Struct, frozen=True):
    """Count how many paths through the same channels ended with an order, and how many without one."""

    converted: int = 0
    lost: int = 0


Paths = Mapping[Channels, Outcomes]


def removal_effects(paths: Paths) -> dict[str, Fraction]:
    """Return the share of conversions that each channel's removal would cost, by a first-order absorbing Markov chain.

    The states are the channels, a start, the order and the loss; the transitions are counted over all paths. A removed
    channel leads to the loss. The method is that of E. Anderl, I. Becker, F. von Wangenheim and J. H. Schumann,
    "Mapping the customer journey", International Journal of Research in Marketing 33 (2016), section 3.

    Arguments:
        paths: The outcomes of paths, by their channels in order. Empty paths are ignored.

    Returns:
        The effect of each channel, from 0 to 1, in alphabetical order. Without any order all effects are 0.
    """
    return _Chain(paths).effects()


def shapley_values(paths: Paths) -> dict[str, Fraction]:
    """Return each channel's Shapley value, in orders per path.

    The worth of a set of channels is the share of all paths that end with an order and meet no other channel. K. Zhao,
    S. H. Mahboobi and S. R. Bagheri, "Shapley Value Methods for Attribution Modeling in Online Advertising" (2018,
    arXiv:1804.05327), show that the Shapley value of this game is a closed form: the orders of each set of channels,
    divided equally among its channels. It is exact for any number of channels, without sampling.

    Paths without an order lower all values alike, so they change no channel's share; the Markov chain uses them.

    Arguments:
        paths: As for `removal_effects`.

    Returns:
        The value of each channel, in alphabetical order; together they are the share of paths that end with an order.
    """
    total = sum(outcomes.converted + outcomes.lost for channels, outcomes in paths.items() if channels)
    # Orders by channel and number of channels: whole numbers, which sum much faster than fractions.
    orders: Counter[tuple[str, int]] = Counter()
    for channels, outcomes in paths.items():
        players = set(channels)
        for channel in players:
            orders[channel, len(players)] += outcomes.converted
    values = dict.fromkeys(_channels(paths), Fraction(0))
    for (channel, size), converted in orders.items():
        values[channel] += Fraction(converted, size * total) if converted else 0
    return values


DATA_DRIVEN: Mapping[str, Callable[[Paths], dict[str, Fraction]]] = {MARKOV: removal_effects, SHAPLEY: shapley_values}


def paths_by_channel(paths: Paths) -> dict[str, Outcomes]:
    """Return for each channel how many of its paths ended with an order, and how many without one."""
    met: dict[str, Outcomes] = {}
    for channels, each in paths.items():
        for channel in set(channels):
            before = met.get(channel, Outcomes())
            met[channel] = Outcomes(before.converted + each.converted, before.lost + each.lost)
    return met


def normalised(values: Weights) -> dict[str, Fraction]:
    """Return values divided by their sum; all 0 if they sum to 0."""
    total = sum(values.values())
    return {channel: value / total if total else value for channel, value in values.items()}


def weights_by_channel(channels: Sequence[str], values: Weights) -> list[Weight]:
    """Return the weight of each touch of a journey: its channel's value, divided among the touches of that channel.

    Arguments:
        channels: The channels of the touches, in order; at least one.
        values: The values of the shop's channels. If the journey's channels have none, all touches weigh the same.
    """
    weights: list[Weight] = [values.get(channel, Fraction(0)) / channels.count(channel) for channel in channels]
    return weights if any(weights) else [1] * len(channels)


def _channels(paths: Paths) -> list[str]:
    return sorted({channel for channels in paths for channel in channels})


class _Chain:
    """Count the transitions of paths."""

    def __init__(self, paths: Paths) -> None:
        self.channels = _channels(paths)
        numbers = {channel: number for number, channel in enumerate(self.channels)}
        size = len(self.channels)
        self._starts = [0] * size
        self._moves = [[0] * size for _ in range(size)]
        self._orders = [0] * size
        self._leavings = [0] * size
        for channels, outcomes in paths.items():
            count = outcomes.converted + outcomes.lost
            states = [numbers[channel] for channel in channels]
            if not (states and count):
                continue
            self._starts[states[0]] += count
            self._orders[states[-1]] += outcomes.converted
            for state in states:
                self._leavings[state] += count
            for before, after in pairwise(states):
                self._moves[before][after] += count

    def effects(self) -> dict[str, Fraction]:
        """Return the share of the orders whose path meets each channel: without it, they would be lost."""
        met = [n for n in range(len(self.channels)) if self._leavings[n]]
        starts, orders = ([of[n] for n in met] for of in (self._starts, self._orders))
        # The probability p of an order from each state: leavings * p = orders + the sum of moves * p of the next ones.
        # The determinant cancels out.
        inverse = _adjugate([[(n == m) * self._leavings[n] - self._moves[n][m] for m in met] for n in met])
        ahead = [sum(map(mul, row, orders)) for row in inverse]
        reached = [sum(map(mul, column, starts)) for column in zip(*inverse)]
        effects = dict.fromkeys(self.channels, Fraction(0))
        if total := sum(map(mul, starts, ahead)):
            for place, n in enumerate(met):
                effects[self.channels[n]] = Fraction(reached[place] * ahead[place], inverse[place][place] * total)
        return effects


def _adjugate(matrix: Sequence[Sequence[int]]) -> list[list[int]]:
    """Return the inverse of a matrix times its determinant, by Bareiss's elimination, which needs no fractions.

    No pivot is 0: every state leads to an end, so the matrix and its leading minors have positive determinants.
    """
    size = len(matrix)
    rows = [[*row, *(int(n == m) for m in range(size))] for n, row in enumerate(matrix)]
    before = 1
    for n in range(size):
        own = rows[n]
        for m, row in enumerate(rows):
            if m != n:
                rows[m] = [(own[n] * value - row[n] * other) // before for value, other in zip(row, own)]
        before = own[n]
    return [row[size:] for row in rows]
