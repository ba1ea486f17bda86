from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.stages.events_made_up import DAY, NOON, ad, event
from truepixel_dagster.stages.attribution import Identity
from truepixel_dagster.stages.customer import (
    OrderSums,
    apply,
    apply_late,
    counts,
    is_applied,
    nobody,
    with_orders,
)


def test_a_profile_by_hand() -> None:
    first = event(1, at=NOON, ad=ad("a"), email_hash="h")
    later = [event(2, at=NOON - DAY, customer_id="9"), event(3, at=NOON + DAY)]
    profile = apply(None, [first, *later])
    assert profile is not None
    assert (profile["events"], profile["orders"], profile["revenue"], profile["refunded"]) == (3, 0, {}, {})
    assert (profile["first_seen"], profile["last_seen"]) == ("2025-12-31T12:00:00.000Z", "2026-01-02T12:00:00.000Z")
    assert (profile["email_hash"], profile["customer_id"], profile["last_ad"]["campaign"]) == ("h", "9", "a")


def test_new_sums_of_orders_replace_the_earlier_ones() -> None:
    profile = apply(None, [event(1)]) or {}
    once = with_orders(profile, OrderSums(2, {"USD": 1000, "JPY": 7}, {"USD": 300}), [])
    assert (once["orders"], once["revenue"], once["refunded"]) == (2, {"USD": 1000, "JPY": 7}, {"USD": 300})
    after = with_orders(once, OrderSums(1, {"USD": 400}, {}), [])
    assert (after["orders"], after["revenue"], after["refunded"]) == (1, {"USD": 400}, {})
    assert (after["events"], after["applied"]) == (1, {"0": 1})
    assert apply(after, [event(1)]) is None


def test_what_a_document_of_the_first_edition_had_counted_stays_in_it() -> None:
    before = {**nobody("s:c"), "before": {"orders": 3, "revenue": {"USD": 900, "EUR": 5}}}
    after = with_orders(before, OrderSums(1, {"USD": 100}, {}), [])
    assert (after["orders"], after["revenue"], after["refunded"]) == (4, {"USD": 1000, "EUR": 5}, {})


def test_the_newest_order_or_event_decides_who_a_customer_is() -> None:
    profile = apply(None, [event(1, at=NOON, customer_id="1", email_hash="a")]) or {}
    older = Identity((NOON - 1, "w"), "2", "b")
    newer = Identity((NOON + 1, "w"), None, "c")
    found = {(with_orders(profile, OrderSums(), said)["customer_id"]) for said in ([older, newer], [newer, older])}
    assert found == {"1"}
    after = with_orders(profile, OrderSums(), [newer, older])
    assert (after["customer_id"], after["email_hash"]) == ("1", "c")
    late = apply(after, [event(2, at=NOON + 2, customer_id="3")]) or {}
    assert (late["customer_id"], late["email_hash"]) == ("3", "c")


def test_bots_and_invalid_clients_count_for_no_client() -> None:
    assert counts(event(1))
    assert not counts(event(1, bot=True))
    assert not counts(event(1, anonymous=True))


def test_what_was_applied_is_not_applied_again() -> None:
    events = [event(1), event(2)]
    assert apply(apply(None, events), events) is None


@given(st.integers(1, 30), st.data())
def test_any_cut_and_any_redelivery_counts_every_event_once(count: int, data: st.DataObject) -> None:
    events = [event(i, at=NOON + i, ad=ad(str(i)) if i % 3 == 0 else None) for i in range(count)]
    profile: dict[str, Any] | None = None
    position = 0
    while position < count:
        start = data.draw(st.integers(0, position))
        position = data.draw(st.integers(position + 1, count))
        profile = apply(profile, events[start:position]) or profile
    assert profile == apply(None, events)


def test_a_reprocessed_event_counts_once_although_newer_ones_were_applied() -> None:
    lost, newer = event(1, at=NOON - DAY), event(2)
    profile = apply(None, [newer])
    back = apply_late(profile, [lost])
    assert back is not None
    assert (back["events"], back["first_seen"], back["applied"]) == (2, "2025-12-31T12:00:00.000Z", {"0": 2})
    assert apply_late(back, [lost]) is None


def test_an_event_that_came_back_is_not_counted_by_the_stream_again() -> None:
    profile = apply_late(None, [event(1)])
    assert profile is not None
    assert is_applied(profile, event(1).origin)
    assert apply(profile, [event(1)]) is None
    after = apply(profile, [event(1), event(2)])
    assert after is not None
    assert after["events"] == 2


FIELDS = st.tuples(
    st.sampled_from([None, "a", "b"]), st.sampled_from([None, "h", "i"]), st.sampled_from([None, "1", "2"])
)


@given(st.lists(FIELDS, min_size=1, max_size=12), st.data())
def test_the_profile_does_not_depend_on_the_order_of_late_events(
    drawn: list[tuple[str | None, str | None, str | None]], data: st.DataObject
) -> None:
    events = [
        event(i, at=NOON + i, ad=ad(campaign) if campaign else None, email_hash=email, customer_id=customer)
        for i, (campaign, email, customer) in enumerate(drawn)
    ]
    late = data.draw(st.lists(st.sampled_from(events), unique_by=lambda one: one.origin))
    profile = apply(None, [one for one in events if one not in late])
    for one in late:
        profile = apply_late(profile, [one])
    whole = apply(None, events)
    assert profile is not None
    assert whole is not None
    own = {"applied", "replayed"}
    assert {k: v for k, v in profile.items() if k not in own} == {k: v for k, v in whole.items() if k not in own}


def test_an_ad_without_the_event_that_set_it_stays() -> None:
    profile = apply(None, [event(5, ad=ad("new"))])
    assert profile is not None
    del profile["set_by"]
    after = apply_late(profile, [event(1, ad=ad("old"))])
    assert after is not None
    assert after["last_ad"]["campaign"] == "new"


def test_a_customer_id_of_the_first_edition_is_older_than_any_event() -> None:
    profile = apply(None, [event(5, email_hash="old")])
    assert profile is not None
    profile["set_by"]["email_hash"] = "0/5"
    after = apply_late(profile, [event(1, at=NOON - DAY, email_hash="new")])
    assert after is not None
    assert after["email_hash"] == "new"
