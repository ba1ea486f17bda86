"""The check of the collector's promises detects each way to break one."""

from __future__ import annotations

from truepixel_dagster.local.chaos.promises import Broken, Found, Promised, broken

PROMISED = {f"d{number}": Promised(b"1:c", b"body %d" % number) for number in range(3)}
TOPIC = [
    Found(0, offset, promise.key, promise.value, {"event_id": event_id.encode()})
    for offset, (event_id, promise) in enumerate(PROMISED.items())
]


def test_a_promised_record_on_the_topic_is_kept_beside_any_others() -> None:
    others = [Found(0, 7, b"1:x", b"of somebody else", {"event_id": b"d9"}), Found(0, 8, b"", b"", {})]
    assert broken(PROMISED, [*TOPIC, *others]) == Broken([], [], [])


def test_copies_after_the_first_record_change_nothing_unless_they_are_altered() -> None:
    copies = [record._replace(offset=record.offset + 10) for record in TOPIC]
    assert broken(PROMISED, [*TOPIC, *copies]) == Broken([], [], [])
    assert broken(PROMISED, [*TOPIC, copies[0]._replace(value=b"body")]) == Broken([], ["d0"], [])


def test_a_promised_record_missing_from_the_topic_is_lost() -> None:
    assert broken(PROMISED, TOPIC[1:]) == Broken(["d0"], [], [])


def test_another_body_or_key_is_altered() -> None:
    assert broken(PROMISED, [TOPIC[0], TOPIC[1]._replace(value=b"body 2"), TOPIC[2]]).altered == ["d1"]
    assert broken(PROMISED, [TOPIC[0], TOPIC[1]._replace(key=b"1:d"), TOPIC[2]]).altered == ["d1"]


def test_a_key_in_another_order_or_in_two_partitions_is_out_of_order() -> None:
    first, second, third = TOPIC
    assert broken(PROMISED, [first, third._replace(offset=1), second._replace(offset=2)]).out_of_order == ["d2"]
    assert broken(PROMISED, [first, second, third._replace(partition=1)]).out_of_order == ["d2"]
    # Records of different keys have no order.
    others = PROMISED | {"d1": Promised(b"1:d", b"body 1")}
    assert broken(others, [first._replace(offset=5), second._replace(key=b"1:d")]).out_of_order == []
