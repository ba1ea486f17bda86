from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.stages.events_made_up import DAY, NOON, ad, event, sighting
from truepixel_dagster.events.event import Event
from truepixel_dagster.events.money import Money
from truepixel_dagster.stages.customer import apply


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
