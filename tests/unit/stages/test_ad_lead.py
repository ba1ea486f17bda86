from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.stages.events_made_up import MINUTE, NOON, ad, event
from truepixel_dagster.events.event import Event
from truepixel_dagster.stages.ad_lead import Lead, add_touches

HALF_HOUR = 30 * MINUTE


def add(lead: Lead, *events: Event, kept: int = 50) -> Lead:
    return add_touches(lead, events, kept=kept, repeat=HALF_HOUR)


def offsets(lead: Lead) -> list[int]:
    return [touch.offset for touch in lead.touches]


def test_an_event_without_ad_data_is_no_touch() -> None:
    assert add(Lead(), event(1)) == Lead()


def test_the_same_ad_within_half_an_hour_is_the_same_touch() -> None:
    lead = add(Lead(), event(1, ad=ad()), event(2, ad=ad(), at=NOON + HALF_HOUR))
    assert offsets(lead) == [1]


def test_the_same_ad_after_half_an_hour_is_another_touch() -> None:
    lead = add(Lead(), event(1, ad=ad()), event(2, ad=ad(), at=NOON + HALF_HOUR + 1))
    assert offsets(lead) == [1, 2]


def test_another_ad_between_makes_it_another_touch() -> None:
    lead = add(Lead(), event(1, ad=ad("a")), event(2, ad=ad("b")), event(3, ad=ad("a")))
    assert offsets(lead) == [1, 2, 3]


def test_the_newest_touches_are_kept_and_those_just_pushed_out_beside_them() -> None:
    old = add(Lead(), *[event(i, ad=ad(str(i))) for i in range(3)], kept=3)
    new = add(old, *[event(i, ad=ad(str(i))) for i in range(3, 5)], kept=3)
    assert offsets(new) == [2, 3, 4]
    assert [touch.offset for touch in new.older] == [0, 1]


def test_adding_a_touch_again_changes_nothing() -> None:
    events = [event(i, ad=ad(str(i % 3)), at=NOON + i * MINUTE) for i in range(10)]
    lead = add(Lead(), *events)
    assert add(lead, *events) is lead


EVENTS = st.lists(st.tuples(st.sampled_from([None, "a", "b", "c"]), st.integers(0, 90)), min_size=1, max_size=30).map(
    lambda drawn: [
        event(i, at=NOON + minute * MINUTE, ad=ad(campaign) if campaign else None)
        for i, (campaign, minute) in enumerate(drawn)
    ]
)


@given(EVENTS, st.data())
def test_any_cut_and_any_redelivery_gives_the_same_touches(events: list[Event], data: st.DataObject) -> None:
    whole = add(Lead(), *events, kept=5)
    lead, position = Lead(), 0
    while position < len(events):
        start = data.draw(st.integers(max(0, position - 6), position))
        end = data.draw(st.integers(position + 1, len(events)))
        lead = add(lead, *events[start:end], kept=5)
        position = end
    assert lead.touches == whole.touches


@given(EVENTS)
def test_a_batch_run_again_still_finds_the_journeys_that_it_had(events: list[Event]) -> None:
    half = len(events) // 2
    before = add(Lead(), *events[:half], kept=5) if half else Lead()
    first = add(before, *events[half:], kept=5)
    again = add(first, *events[half:], kept=5)
    for seen in events[half:]:
        known = [touch for touch in first.all if touch.offset <= seen.origin.offset][-5:]
        assert [touch for touch in again.all if touch.offset <= seen.origin.offset][-5:] == known
