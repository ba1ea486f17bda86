from __future__ import annotations

from threading import Thread
from time import sleep
from typing import Any

import pytest

from truepixel_dagster.dead_letters import topic as dead_letters
from truepixel_dagster.dead_letters.topic import DeadLetter, Letter, batches, newest, parse, parse_origin
from truepixel_dagster.events.event import Message
from truepixel_dagster.events.origin import Origin
from truepixel_dagster.settings import Settings
from truepixel_dagster.stream.reading import stretches

HEADERS = {"error": "why", "stage": "index", "origin": "t/1/7", "tries": "1", "origin_timestamp": "123"}


def record(offset: int = 0, **changed: str | None) -> Message:
    headers = {name: text for name, text in {**HEADERS, **changed}.items() if text is not None}
    return Message(
        Origin("dead", 0, offset), b"s:c", b"v", tuple((name, text.encode()) for name, text in headers.items()), 999
    )


def letter(offset: int = 0, **changed: str | None) -> DeadLetter:
    found = parse(record(offset, **changed))
    assert found is not None
    return found


def test_a_letter_is_read_with_its_records_own_origin_and_time() -> None:
    found = letter(3, source="pixel")
    assert found.message == Message(Origin("t", 1, 7), b"s:c", b"v", (("source", b"pixel"),), 123)
    assert (found.error, found.stage) == ("why", "index")
    assert (found.letter.tries, found.letter.written_at, found.letter.place) == (1, 999, Origin("dead", 0, 3))


def test_a_letter_without_tries_was_never_tried() -> None:
    old = letter(tries=None, origin_timestamp=None)
    assert (old.letter.tries, old.message.timestamp) == (0, 999)


@pytest.mark.parametrize("changed", [{"origin": None}, {"origin": "junk"}, {"stage": None}, {"stage": "elsewhere"}])
def test_a_record_that_is_no_dead_letter_is_skipped(changed: dict[str, Any]) -> None:
    assert parse(record(**changed)) is None


def test_the_last_dead_letter_with_the_most_tries_counts() -> None:
    letters = [
        letter(0, tries="0"),
        letter(1, tries="1", error="a"),
        letter(2, tries="1", error="b"),
        letter(3, tries="0"),
    ]
    other = letter(4, origin="t/1/8")
    found = newest([*letters, other])
    assert found[Origin("t", 1, 7)].error == "b"
    assert found[Origin("t", 1, 8)] == other.letter


def test_a_letter_is_given_up_after_two_tries() -> None:
    assert [letter(tries=str(tries)).letter.given_up for tries in range(4)] == [False, False, True, True]


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("t/1/7", Origin("t", 1, 7)),
        ("1/7", Origin("given", 1, 7)),
        ("t/1/-7", None),
        ("t/1", None),
        ("a/b/1/7", None),
        ("t/1/٣", None),
        ("", None),
    ],
)
def test_an_origin_is_topic_partition_offset_or_the_last_two(text: str, origin: Origin | None) -> None:
    assert parse_origin(text, "given") == origin


def test_partition_and_offset_alone_need_a_topic() -> None:
    assert parse_origin("1/7") is None


def of(partition: int, offset: int, size: int = 1) -> Letter:
    return Letter(Origin("t", partition, offset), "index", "", 0, 0, Origin("dead", 0, 0), size)


def test_batches_are_in_the_order_of_origins_and_cut_by_count_bytes_and_partition() -> None:
    letters = [of(1, 2), of(0, 9), of(0, 1), of(0, 2, 90), of(0, 3, 20), of(1, 1), of(0, 4)]
    found = [[(one.origin.partition, one.origin.offset) for one in batch] for batch in batches(letters, 3, 100)]
    assert found == [[(0, 1), (0, 2)], [(0, 3), (0, 4), (0, 9)], [(1, 1), (1, 2)]]


def test_a_letter_larger_than_a_batch_travels_alone() -> None:
    assert [len(batch) for batch in batches([of(0, 1), of(0, 2, 500), of(0, 3)], 9, 100)] == [1, 1, 1]


def test_offsets_far_apart_are_read_by_seeking() -> None:
    assert stretches([9000, 1, 3, 1000], gap=2000) == [[1, 3, 1000], [9000]]
    assert stretches([]) == []


def test_two_threads_that_send_first_dead_letters_share_one_producer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads once made a producer each, and the dropped one lost dead letters with committed offsets."""
    made: list[list[bytes]] = []

    class Slow:
        def __init__(self, *_: object) -> None:
            sleep(0.05)
            self.sent: list[bytes] = []
            made.append(self.sent)

        def send(self, _key: bytes, value: bytes, _headers: object) -> None:
            self.sent.append(value)

    monkeypatch.setattr(dead_letters, "EventProducer", Slow)
    letters = dead_letters.DeadLetters(Settings().kafka(), Settings().dead_letter_bytes)
    threads = [
        Thread(
            target=letters.send,
            args=(Message(Origin("t", 0, offset), b"s:c", b"%d" % offset),),
            kwargs={"error": "bad", "stage": "customer"},
        )
        for offset in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [sorted(sent) for sent in made] == [[b"0", b"1"]]
