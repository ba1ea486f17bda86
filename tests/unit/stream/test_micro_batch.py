from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.stages.events_made_up import event
from truepixel_dagster.events.event import Message
from truepixel_dagster.events.origin import Origin
from truepixel_dagster.settings import MIB, Settings
from truepixel_dagster.stream.micro_batch import Cutter, MicroBatch, OffsetRange, group_by_user


def message(offset: int, size: int = 1, partition: int = 0) -> Message:
    return Message(Origin("t", partition, offset), b"", b"x" * size)


def cut(messages: list[Message], count: int, size: int, at_once: int = 7) -> list[MicroBatch]:
    """Cut as the consumer does: add as many messages as there is room for, and take the batch when there is none."""
    cutter, batches, position = Cutter(count, size), [], 0
    while position < len(messages) or not cutter.empty:
        while cutter.room and position < len(messages):
            taken = messages[position : position + min(at_once, cutter.room)]
            cutter.add(taken)
            position += len(taken)
        batches.append(cutter.take())
    return batches


@given(st.lists(st.integers(0, 40), max_size=80), st.integers(1, 9), st.integers(1, 60), st.integers(1, 20))
def test_no_micro_batch_is_over_its_budget_unless_it_is_one_message(
    sizes: list[int], count: int, size: int, at_once: int
) -> None:
    messages = [message(offset, length) for offset, length in enumerate(sizes)]
    batches = cut(messages, count, size, at_once)
    assert [one for batch in batches for one in batch.messages] == messages
    for batch in batches:
        assert 1 <= len(batch.messages) <= count
        assert batch.size <= size or len(batch.messages) == 1


def test_the_defaults_are_512_messages_and_32_mib() -> None:
    settings = Settings()
    assert (settings.batch_messages, settings.batch_bytes) == (512, 32 * MIB)


def test_a_message_larger_than_the_budget_travels_alone() -> None:
    batches = cut([message(0), message(1, 100), message(2)], count=10, size=50)
    assert [[one.origin.offset for one in batch.messages] for batch in batches] == [[0], [1], [2]]


def test_the_ranges_of_a_micro_batch_are_by_partition() -> None:
    batch = MicroBatch((message(5), message(9, partition=1), message(8)))
    assert batch.ranges == {0: OffsetRange("t", 0, 5, 8), 1: OffsetRange("t", 1, 9, 9)}


@given(st.lists(st.sampled_from(["a", "b", "c:d"]), max_size=40))
def test_each_users_events_stay_in_offset_order(clients: list[str]) -> None:
    events = [event(offset, client_id=client) for offset, client in enumerate(clients)]
    groups = group_by_user(events)
    assert sorted(e.origin.offset for group in groups.values() for e in group) == list(range(len(clients)))
    for user, group in groups.items():
        assert {e.user for e in group} == {user}
        assert [e.origin.offset for e in group] == sorted(e.origin.offset for e in group)
