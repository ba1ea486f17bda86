"""Dead letters of few clients do not stop a lane, those of most clients do."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from truepixel_dagster.dead_letters.policy import FLOOR, client_of, failing, is_outage
from truepixel_dagster.events.event import Message
from truepixel_dagster.events.origin import Origin


def messages(*keys: str) -> list[Message]:
    return [Message(Origin("t", 0, n), key.encode(), b"{") for n, key in enumerate(keys)]


def nobody(_: AbstractSet[str]) -> None:
    return None


def clients(*names: str) -> frozenset[str]:
    return frozenset(names)


MANY = frozenset(f"s:c{n}" for n in range(200))


def test_any_amount_of_one_clients_junk_counts_as_one_client() -> None:
    good = messages(*(f"s:c{n}" for n in range(10)))
    junk = messages(*["s:mallory"] * 500)
    every, bad = failing([*good, *junk], junk)
    assert len(every) == 11
    assert bad == {"s:mallory"}
    assert not is_outage(every, bad, 0.5, nobody)


def test_a_client_with_some_bad_messages_does_not_fail() -> None:
    sent = messages("s:a", "s:a", "s:a", "s:b")
    assert failing(sent, [sent[0], sent[3]])[1] == {"s:b"}
    assert failing(sent, sent[:2])[1] == {"s:a"}


def test_most_clients_failing_at_once_is_an_outage() -> None:
    assert is_outage(MANY, MANY, 0.5, nobody)
    assert is_outage(MANY, MANY, 0.5, lambda asked: asked)
    assert not is_outage(MANY, MANY, 1.0, nobody)
    few = frozenset(sorted(MANY)[:FLOOR])
    assert not is_outage(few, few, 0.5, nobody)


def test_invented_clients_are_no_outage_where_others_are_known() -> None:
    real = frozenset(f"s:real{n}" for n in range(5))
    assert not is_outage(MANY | real, MANY, 0.5, lambda asked: asked & real)
    assert not is_outage(MANY, MANY, 0.5, lambda _: frozenset())
    known = frozenset(sorted(MANY)[: 2 * FLOOR])
    assert is_outage(MANY, MANY, 0.5, lambda asked: asked & known)


def test_records_with_an_invalid_key_are_distinguished_by_its_bytes() -> None:
    broken = [Message(Origin("t", 0, n), key, b"{") for n, key in enumerate([None, b"", b"\xff", b"\xff", b"s"])]
    assert len({client_of(message) for message in broken}) == 4
