from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.stages.events_made_up import DAY, NOON, ad, event, sighting
from truepixel_dagster.events.event import Event
from truepixel_dagster.events.money import Money
from truepixel_dagster.stages.customer import apply, apply_late, is_applied


def test_a_profile_by_hand() -> None:
    first = event(1, at=NOON, ad=ad("a"), email_hash="h")
    order = sighting(2, at=NOON - DAY, value=Money(500, "USD"), customer_id="9")
    repeat = sighting(3, at=NOON + DAY, value=Money(500, "USD"))
    yen = sighting(4, value=Money(7, "JPY"))
    profile = apply(None, [first, order, repeat, yen], {order.origin, yen.origin})
    assert profile is not None
    assert (profile["events"], profile["orders"]) == (4, 2)
    assert profile["revenue"] == {"USD": 500, "JPY": 7}
    assert (profile["first_seen"], profile["last_seen"]) == ("2025-12-31T12:00:00.000Z", "2026-01-02T12:00:00.000Z")
    assert (profile["email_hash"], profile["customer_id"], profile["last_ad"]["campaign"]) == ("h", "9", "a")


def test_what_was_applied_is_not_applied_again() -> None:
    events = [event(1), event(2)]
    assert apply(apply(None, events, set()), events, set()) is None


@given(st.integers(1, 30), st.data())
def test_any_cut_and_any_redelivery_counts_every_event_once(count: int, data: st.DataObject) -> None:
    events: list[Event] = [sighting(i) if i % 3 == 0 else event(i, at=NOON + i) for i in range(count)]
    counted = {seen.origin for seen in events if seen.order}
    profile: dict[str, Any] | None = None
    position = 0
    while position < count:
        start = data.draw(st.integers(0, position))
        position = data.draw(st.integers(position + 1, count))
        profile = apply(profile, events[start:position], counted) or profile
    assert profile == apply(None, events, counted)


def test_an_event_that_comes_back_counts_once_though_newer_ones_were_applied() -> None:
    lost, newer = sighting(1, value=Money(500, "USD")), event(2)
    profile = apply(None, [newer], set())
    back = apply_late(profile, [lost], {lost.origin})
    assert back is not None
    assert (back["events"], back["orders"], back["revenue"], back["applied"]) == (2, 1, {"USD": 500}, {"0": 2})
    assert apply_late(back, [lost], {lost.origin}) is None


def test_an_event_that_came_back_is_not_counted_by_the_stream_again() -> None:
    profile = apply_late(None, [event(1)], set())
    assert profile is not None
    assert is_applied(profile, event(1).origin)
    assert apply(profile, [event(1)], set()) is None
    after = apply(profile, [event(1), event(2)], set())
    assert after is not None
    assert after["events"] == 2


FIELDS = st.tuples(
    st.sampled_from([None, "a", "b"]), st.sampled_from([None, "h", "i"]), st.sampled_from([None, "1", "2"])
)


@given(st.lists(FIELDS, min_size=1, max_size=12), st.data())
def test_whichever_events_come_back_late_and_in_whatever_order_the_profile_is_the_same(
    drawn: list[tuple[str | None, str | None, str | None]], data: st.DataObject
) -> None:
    events = [
        event(i, at=NOON + i, ad=ad(campaign) if campaign else None, email_hash=email, customer_id=customer)
        for i, (campaign, email, customer) in enumerate(drawn)
    ]
    late = data.draw(st.lists(st.sampled_from(events), unique_by=lambda one: one.origin))
    profile = apply(None, [one for one in events if one not in late], set())
    for one in late:
        profile = apply_late(profile, [one], set())
    whole = apply(None, events, set())
    assert profile is not None
    assert whole is not None
    own = {"applied", "replayed"}
    assert {k: v for k, v in profile.items() if k not in own} == {k: v for k, v in whole.items() if k not in own}


def test_a_field_set_before_it_was_known_by_whom_stays() -> None:
    profile = apply(None, [event(5, email_hash="new")], set())
    assert profile is not None
    del profile["set_by"]
    after = apply_late(profile, [event(1, email_hash="old")], set())
    assert after is not None
    assert after["email_hash"] == "new"
