"""Build every order's journey by person: the touches of all devices of its buyer, credited by seven models.

The rules are those of the stream's journeys (`orders/journey.py`), with the settings in each order's attribution. The
touches of the order's own client stay as they are. Touches of the person's other clients are added if they are within
the attribution window and not later than the order. So a person with one client has the stream's journey.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction

import msgspec

from truepixel_dagster.answers.models import (
    DATA_DRIVEN,
    Channels,
    Outcomes,
    Paths,
    Weights,
    normalised,
    weights_by_channel,
)
from truepixel_dagster.events.ad import Ad
from truepixel_dagster.events.event import DAY
from truepixel_dagster.events.money import shares
from truepixel_dagster.events.order import ONLINE
from truepixel_dagster.events.times import to_millis
from truepixel_dagster.events.touch import Touch
from truepixel_dagster.orders.credit import DIRECT, ENDS_PERCENT, MODELS, Weight, weights_of
from truepixel_dagster.orders.document import AttributedTouch, Attribution
from truepixel_dagster.orders.facts import CLOCK_GRACE

#: The data-driven models of a day use the paths of this many days before its end.
LEARNED_DAYS = 90
ALL_MODELS = (*MODELS, *DATA_DRIVEN)
UNASSIGNED = "unassigned"


class Step(msgspec.Struct, frozen=True):
    """Hold a touch of a journey and its client. `event_id` is None for an order without a touch."""

    client: str | None
    at: int
    ad: Ad
    event_id: str | None = None

    @property
    def channel(self) -> str:
        """Return the channel; touches of the first edition of the data contract have none."""
        return self.ad.channel or UNASSIGNED


class Credited(msgspec.Struct, frozen=True):
    """Hold a step and its credit of the order's value and net by each model, in minor units."""

    step: Step
    amounts: Mapping[str, int]
    nets: Mapping[str, int]


def steps_of(order: Attribution, others: Mapping[str, Sequence[Touch]], kept: int) -> tuple[Step, ...]:
    """Return the journey of an order by person.

    A landing page that only a webhook names stands in for a missing touch, so a touch of another device replaces it. An
    order that was not placed online has no journey.

    Arguments:
        order: The order's attribution, with the journey of its own client.
        others: The touches of the person's clients, in order.
        kept: The most touches that count, the newest ones.
    """
    own = tuple(_own(order, touch) for touch in order.touches)
    if order.sales_channel not in (ONLINE, None):
        return own
    until = to_millis(order.occurred_at)
    since = until - order.window_days * DAY
    more = [
        Step(client, touch.millis, touch.ad, touch.event_id)
        for client, touches in sorted(others.items())
        if client != order.client_id
        for touch in touches
        if since <= touch.millis <= until
    ]
    if not more:
        return own
    visits = [step for step, touch in zip(own, order.touches) if touch.kafka]
    # The sort is stable: touches in the same millisecond stay in the order of their client.
    return tuple(sorted([*visits, *more], key=lambda step: step.at)[-kept:])


def _own(order: Attribution, touch: AttributedTouch) -> Step:
    return Step(order.client_id, to_millis(touch.at), touch.ad, touch.event_id)


def credited(order: Attribution, steps: Sequence[Step], values: Mapping[str, Weights]) -> list[Credited]:
    """Return the steps of an order with their credits. For each model, they sum to the order's value and net exactly.

    Arguments:
        order: The order's attribution: value, net and the settings of its models.
        steps: Its journey. An order without one has a single credit, for `direct` or its sales channel.
        values: The value of each channel by each data-driven model.
    """
    value = order.value.amount if order.value else 0
    net = order.net.amount if order.net else value
    if not steps:
        place = DIRECT if order.sales_channel in (ONLINE, None) else order.sales_channel
        step = Step(order.client_id, to_millis(order.occurred_at), Ad(platform=place, channel=place))
        return [Credited(step, dict.fromkeys(ALL_MODELS, value), dict.fromkeys(ALL_MODELS, net))]
    weights = {model: _weights(order, steps, model, values) for model in ALL_MODELS}
    amounts = {model: shares(value, own) for model, own in weights.items()}
    nets = {model: shares(net, own) for model, own in weights.items()}
    return [
        Credited(
            step,
            {model: own[position] for model, own in amounts.items()},
            {model: own[position] for model, own in nets.items()},
        )
        for position, step in enumerate(steps)
    ]


def _weights(order: Attribution, steps: Sequence[Step], model: str, values: Mapping[str, Weights]) -> list[Weight]:
    if model in DATA_DRIVEN:
        return weights_by_channel([step.channel for step in steps], values.get(model, {}))
    at, half_life = to_millis(order.occurred_at), int(order.half_life_days * DAY)
    return weights_of(model, [at - step.at for step in steps], half_life, order.position_ends_percent or ENDS_PERCENT)


class ShopPaths:
    """Collect the touches and orders of one shop, and count the paths of any window of time.

    A path that converted is the journey of an order. A path that was lost consists of a person's touches since the
    person's last order. Memory grows with the number of touches and orders.
    """

    def __init__(self) -> None:
        self._visits: dict[str, list[tuple[int, str]]] = defaultdict(list)
        self._orders: list[tuple[int, Channels]] = []
        self._bought: dict[str, list[int]] = defaultdict(list)

    def add_visits(self, person: str, touches: Iterable[tuple[int, str]]) -> None:
        """Add touches of a person, in any order.

        Arguments:
            person: The person's id.
            touches: Time in milliseconds since the epoch, and channel.
        """
        # A person has few visits, so sorting them each time is cheap.
        self._visits[person] = sorted([*self._visits[person], *touches])

    def add_order(self, at: int, channels: Iterable[str], persons: Iterable[str]) -> None:
        """Add an order.

        Arguments:
            at: When it was placed, in milliseconds since the epoch.
            channels: The channels of its journey, in order; none for an order without a journey.
            persons: The persons whose earlier visits led to it: the buyer, and the owner of the device.
        """
        self._orders.append((at, tuple(channels)))
        for person in set(persons):
            self._bought[person].append(at)

    def within(self, since: int, until: int) -> Paths:
        """Return the paths of a window in milliseconds since the epoch; the window does not include its end."""
        converted = Counter(channels for at, channels in self._orders if since <= at < until and channels)
        lost: Counter[Channels] = Counter()
        for person, visits in self._visits.items():
            bought = self._bought.get(person)
            last = max((at for at in bought if at < until), default=None) if bought else None
            # A wrong browser clock may date a visit a few minutes after the order that it led to.
            begin = since if last is None else max(since, last + CLOCK_GRACE + 1)
            lost[tuple(channel for at, channel in visits if begin <= at < until)] += 1
        del lost[()]
        return {channels: Outcomes(converted[channels], lost[channels]) for channels in sorted({*converted, *lost})}


def channel_values(paths: Paths) -> dict[str, dict[str, Fraction]]:
    """Return the value of each channel by each data-driven model; the values of a model sum to 1."""
    return {model: normalised(values(paths)) for model, values in DATA_DRIVEN.items()}
