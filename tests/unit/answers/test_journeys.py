"""Journeys by person: across devices, bounded by the order, with credits that sum to its value and net."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from truepixel_dagster.answers.journeys import ALL_MODELS, ShopPaths, channel_values, credited, steps_of
from truepixel_dagster.answers.models import Outcomes
from truepixel_dagster.events.ad import Ad
from truepixel_dagster.events.event import DAY, iso
from truepixel_dagster.events.money import Money
from truepixel_dagster.events.origin import Origin
from truepixel_dagster.events.touch import Touch
from truepixel_dagster.orders.credit import MODELS, credit
from truepixel_dagster.orders.document import AttributedTouch, Attribution

AT = 1_767_607_200_000  # 2026-01-05T10:00:00Z
HOUR = 3_600_000


def ad(channel: str) -> Ad:
    return Ad(platform=channel, channel=channel)


def own(name: str, at: int, channel: str, *, landing: bool = False) -> AttributedTouch:
    return AttributedTouch(name, iso(at), ad(channel), None if landing else Origin("events", 0, 1), channel)


def other(name: str, at: int, channel: str) -> Touch:
    return Touch(name, iso(at), ad(channel), 0, 1)


def order(*touches: AttributedTouch, **given: Any) -> Attribution:
    said = {
        "shop_id": "s",
        "client_id": "laptop",
        "occurred_at": iso(AT),
        "status": "paid",
        "window_days": 30,
        "half_life_days": 7.0,
        "touches": touches,
        "credits": credit(0, 0, (), AT, DAY),
        "sightings": (),
        "value": Money(10_000, "EUR"),
        "net": Money(7_001, "EUR"),
        "sales_channel": "online",
    }
    return Attribution(**{**said, **given})


def names(steps: Any) -> list[str]:
    return [step.event_id for step in steps]


def test_the_touches_of_another_device_join_in_the_order_of_time() -> None:
    mine = order(own("l1", AT - 5 * HOUR, "email"), own("l2", AT - HOUR, "organic_search"))
    phone = [other("p1", AT - 9 * HOUR, "paid_social"), other("p2", AT - 2 * HOUR, "sms")]
    steps = steps_of(mine, {"phone": phone}, 50)
    assert names(steps) == ["p1", "l1", "p2", "l2"]
    assert [step.client for step in steps] == ["phone", "laptop", "phone", "laptop"]


def test_what_another_device_did_after_the_order_or_before_the_window_does_not_count() -> None:
    phone = [
        other("too-early", AT - 30 * DAY - 1, "email"),
        other("first", AT - 30 * DAY, "email"),
        other("last", AT, "email"),
        other("too-late", AT + 1, "email"),
    ]
    assert names(steps_of(order(), {"phone": phone}, 50)) == ["first", "last"]
    assert names(steps_of(order(window_days=1), {"phone": phone}, 50)) == ["last"]


def test_only_the_newest_touches_count() -> None:
    phone = [other(f"p{n}", AT - (9 - n) * HOUR, "email") for n in range(5)]
    assert names(steps_of(order(own("l", AT - HOUR, "email")), {"phone": phone}, 3)) == ["p3", "p4", "l"]


def test_a_landing_page_gives_way_to_a_touch_of_another_device() -> None:
    landing = order(own("w", AT, "referral", landing=True))
    assert names(steps_of(landing, {}, 50)) == ["w"]
    assert names(steps_of(landing, {"phone": [other("p", AT - HOUR, "email")]}, 50)) == ["p"]


def test_without_another_device_the_journey_is_the_streams_even_where_clocks_disagree() -> None:
    mine = order(own("late", AT + 60_000, "email"), own("early", AT - HOUR, "sms"))
    # Touches of its own client that are not in the stream's journey do not count.
    assert names(steps_of(mine, {"laptop": [other("more", AT - DAY, "sms")]}, 50)) == ["late", "early"]


def test_an_order_that_was_not_placed_online_has_one_credit_for_where_it_was() -> None:
    pos = order(sales_channel="pos")
    steps = steps_of(pos, {"phone": [other("p", AT - HOUR, "email")]}, 50)
    (row,) = credited(pos, steps, {})
    assert (steps, row.step.channel, row.step.event_id) == ((), "pos", None)
    assert row.amounts == dict.fromkeys(ALL_MODELS, 10_000)
    assert row.nets == dict.fromkeys(ALL_MODELS, 7_001)


def test_an_order_without_a_touch_is_direct() -> None:
    (row,) = credited(order(net=None), (), {})
    assert (row.step.channel, row.nets["markov"]) == ("direct", 10_000)


def test_credits_by_hand() -> None:
    """Value 100.00, net 70.01; email, sms, email; one model credits 1/4 to email and 3/4 to sms, the other 1/2 each.

    Markov: weights 1/8, 3/4, 1/8, that is 1, 6 and 1 eighths: 12.50, 75.00, 12.50. Of 70.01 they are 8.75125, 52.5075
    and 8.75125: the cent that is left goes to the largest remainder, the second. Shapley: 1/4, 1/2, 1/4.
    """
    mine = order(own("a", AT - 3 * HOUR, "email"), own("b", AT - 2 * HOUR, "sms"), own("c", AT - HOUR, "email"))
    values = {
        "markov": {"email": Fraction(1, 4), "sms": Fraction(3, 4)},
        "shapley": {"email": Fraction(1, 2), "sms": Fraction(1, 2)},
    }
    rows = credited(mine, steps_of(mine, {}, 50), values)
    assert [row.amounts["markov"] for row in rows] == [1250, 7500, 1250]
    assert [row.nets["markov"] for row in rows] == [875, 5251, 875]
    assert [row.amounts["shapley"] for row in rows] == [2500, 5000, 2500]
    assert [row.amounts["position_based"] for row in rows] == [4000, 2000, 4000]
    assert [row.amounts["last_click"] for row in rows] == [0, 0, 10_000]


CHANNELS = st.sampled_from(["email", "sms", "paid_search"])


@given(
    st.lists(st.tuples(st.integers(0, 40 * DAY), CHANNELS), max_size=6),
    st.integers(0, 10**9),
    st.integers(0, 10**9),
)
def test_a_person_with_one_client_has_the_streams_credits_and_all_sum_exactly(
    touches: list[tuple[int, str]], value: int, net: int
) -> None:
    mine = order(
        *(own(f"e{n}", AT - age, channel) for n, (age, channel) in enumerate(touches)),
        value=Money(value, "EUR"),
        net=Money(net, "EUR"),
    )
    rows = credited(mine, steps_of(mine, {}, 50), {})
    stream = credit(
        value, net, [other(f"e{n}", AT - age, channel) for n, (age, channel) in enumerate(touches)], AT, 7 * DAY
    )
    for model in MODELS:
        expected = {each.event_id: (each.amount, each.net) for each in getattr(stream, model)}
        found = {row.step.event_id: (row.amounts[model], row.nets[model]) for row in rows}
        assert {**dict.fromkeys(found, (0, 0)), **expected} == found
    for model in ALL_MODELS:
        assert sum(row.amounts[model] for row in rows) == value
        assert sum(row.nets[model] for row in rows) == net


def test_the_paths_of_a_window() -> None:
    """Ann: email, an order, sms, lost. Bob: sms, email, lost. Cid ordered without a touch, and visited before."""
    paths = ShopPaths()
    paths.add_visits("ann", [(AT, "email"), (AT + 2 * HOUR, "sms")])
    paths.add_order(AT + HOUR, ["email"], ["ann"])
    paths.add_visits("bob", [(AT + 9 * HOUR, "email"), (AT + HOUR, "sms")])
    paths.add_visits("cid", [(AT - DAY, "email")])
    paths.add_order(AT + 3 * HOUR, [], ["cid"])
    assert paths.within(AT - 2 * DAY, AT + DAY) == {
        ("email",): Outcomes(converted=1),
        ("sms",): Outcomes(lost=1),
        ("sms", "email"): Outcomes(lost=1),
    }
    # Before the orders, neither Ann's first visit nor Cid's has led to an order; after the window nothing counts.
    assert paths.within(AT - 2 * DAY, AT + HOUR) == {("email",): Outcomes(lost=2)}
    assert paths.within(AT + 9 * HOUR, AT + DAY) == {("email",): Outcomes(lost=1)}


def test_a_visit_within_the_grace_of_clocks_belongs_to_the_order() -> None:
    paths = ShopPaths()
    paths.add_visits("ann", [(AT + 60_000, "email")])
    paths.add_order(AT, ["email"], ["ann"])
    assert paths.within(AT, AT + DAY) == {("email",): Outcomes(converted=1)}


def test_a_visit_on_a_shared_device_belongs_to_the_order_made_on_it() -> None:
    paths = ShopPaths()
    paths.add_visits("kiosk", [(AT, "email")])
    paths.add_order(AT + HOUR, ["email"], ["ann", "kiosk"])
    assert paths.within(AT, AT + DAY) == {("email",): Outcomes(converted=1)}


def test_the_values_of_channels_sum_to_one() -> None:
    """C1 > C2 > C3 with an order, C1 and C2 > C3 without: Bryl's 1/5, 2/5, 2/5, and a third each by Shapley."""
    values = channel_values(
        {("C1", "C2", "C3"): Outcomes(converted=1), ("C1",): Outcomes(lost=1), ("C2", "C3"): Outcomes(lost=1)}
    )
    assert values == {
        "markov": {"C1": Fraction(1, 5), "C2": Fraction(2, 5), "C3": Fraction(2, 5)},
        "shapley": dict.fromkeys(["C1", "C2", "C3"], Fraction(1, 3)),
    }
