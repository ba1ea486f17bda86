"""The invariant checks detect each of their faults, and count what they checked."""

from __future__ import annotations

from collections.abc import Iterable

from tests.unit.stages.events_made_up import event
from truepixel_dagster.events.event import Message
from truepixel_dagster.events.origin import Origin
from truepixel_dagster.pipeline.invariants import CheckCounts, Contiguity, Order


def messages(*offsets: int, partition: int = 0) -> list[Message]:
    return [Message(Origin("t", partition, offset), b"s:c", b"{}", (), 0) for offset in offsets]


def origins(offsets: Iterable[int], partition: int = 0) -> list[Origin]:
    return [Origin("t", partition, offset) for offset in offsets]


def watched() -> tuple[Contiguity, CheckCounts]:
    looked = CheckCounts()
    contiguity = Contiguity(looked)
    contiguity.fetched(messages(*range(10)))
    return contiguity, looked


def test_users_in_order_are_checked_without_a_violation() -> None:
    order = Order(looked := CheckCounts(), users=10)
    order.took_effect("customer", [event(1), event(2, client_id="d"), event(3)])
    order.took_effect("customer", [event(4, client_id="d"), event(5)])
    order.took_effect("attribution", [event(1)])
    assert looked == CheckCounts(checked=6, violations=0)


def test_a_record_behind_a_later_one_of_its_user_is_seen_within_and_across_batches() -> None:
    order = Order(looked := CheckCounts(), users=10)
    order.took_effect("customer", [event(5), event(4), event(6)])
    assert looked == CheckCounts(checked=3, violations=1)
    order.took_effect("customer", [event(3)])
    assert looked == CheckCounts(checked=4, violations=2)


def test_a_record_that_takes_effect_twice_is_seen() -> None:
    order = Order(looked := CheckCounts(), users=10)
    order.took_effect("customer", [event(5), event(5)])
    assert looked.violations == 1


def test_other_users_and_partitions_have_an_order_of_their_own() -> None:
    order = Order(looked := CheckCounts(), users=10)
    order.took_effect("customer", [event(5), event(4, client_id="d"), event(3, partition=1)])
    assert looked == CheckCounts(checked=3, violations=0)


def test_users_seen_long_ago_are_forgotten_and_the_latest_are_not() -> None:
    order = Order(looked := CheckCounts(), users=3)
    for number in range(100):
        order.took_effect("customer", [event(number, client_id=f"c{number}")])
    seen = order._seen["customer"]
    assert len(seen._recent) + len(seen._older) <= 8
    order.took_effect("customer", [event(0, client_id="c97"), event(0, client_id="c99")])
    assert looked == CheckCounts(checked=102, violations=2)


def test_a_commit_of_completed_records_violates_nothing() -> None:
    contiguity, looked = watched()
    contiguity.dealt_with(origins(range(5)), ["customer"])
    contiguity.dealt_with(origins(range(3)), ["product_stats"])
    contiguity.dealt_with(origins([3, 4]))
    contiguity.committing({0: 5})
    assert looked == CheckCounts(checked=5, violations=0)
    contiguity.dealt_with(origins(range(5, 10)))
    contiguity.committing({0: 10})
    assert looked == CheckCounts(checked=10, violations=0)


def test_a_commit_past_a_record_that_a_stage_has_not_dealt_with_is_seen() -> None:
    contiguity, looked = watched()
    contiguity.dealt_with(origins([0, 1, 3, 4]))
    contiguity.dealt_with(origins([2]), ["customer"])
    contiguity.committing({0: 5})
    assert looked == CheckCounts(checked=5, violations=1)


def test_a_commit_beyond_what_was_fetched_is_seen() -> None:
    contiguity, looked = watched()
    contiguity.dealt_with(origins(range(10)))
    contiguity.committing({0: 11, 1: 1})
    assert looked == CheckCounts(checked=10, violations=2)


def test_a_hole_in_kafkas_offsets_is_no_gap() -> None:
    contiguity = Contiguity(looked := CheckCounts())
    contiguity.fetched(messages(0, 7))
    contiguity.dealt_with(origins([0, 7]))
    contiguity.committing({0: 8})
    assert looked == CheckCounts(checked=2, violations=0)
