"""Documents in Elasticsearch are replaced only under the sequence number under which they were read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing

import msgspec
import pytest

from truepixel_dagster.settings import Settings
from truepixel_dagster.stores.elasticsearch import CONFLICT, Action, ElasticsearchStore, Found, Outcome, Place
from truepixel_dagster.stores.errors import Unavailable

A, B, C = ("orders", "a"), ("orders", "b"), ("orders", "c")
POISON = b'{"n":"poison"}'


class InMemory(ElasticsearchStore):
    """Holds the documents itself, with sequence numbers as Elasticsearch has them, and counts requests."""

    def __init__(self) -> None:
        super().__init__(Settings().elasticsearch())
        self.documents: dict[Place, Found] = {}
        self.reads: list[list[Place]] = []
        self.writes: list[list[Action]] = []
        #: Called before each write: a concurrent writer.
        self.meanwhile: Callable[[], None] = lambda: None

    def put(self, place: Place, n: int) -> None:
        self.documents[place] = Found(*place, {"n": n}, self._next(place), 1)

    def numbers(self) -> dict[Place, int]:
        return {place: found.source["n"] for place, found in self.documents.items()}

    def mget(self, documents: Sequence[Place], fields: Sequence[str] | None = None) -> list[Found | None]:
        self.reads.append(list(documents))
        return [self.documents.get(place) for place in documents]

    def bulk(self, actions: Sequence[Action]) -> list[Outcome]:
        self.meanwhile()
        self.writes.append(list(actions))
        return [self._one(action) for action in actions]

    def _one(self, action: Action) -> Outcome:
        place = (action.index, action.id)
        there = self.documents.get(place)
        if action.if_seq_no != (there.seq_no if there else None) or (there and action.op == "create"):
            return Outcome(CONFLICT, "version conflict")
        if action.source == POISON:
            return Outcome(400, "mapping: n")
        if action.op == "delete":
            del self.documents[place]
            return Outcome(200)
        self.documents[place] = Found(*place, msgspec.json.decode(action.source), self._next(place), 1)
        return Outcome(201)

    def _next(self, place: Place) -> int:
        return self.documents[place].seq_no + 1 if place in self.documents else 0


@pytest.fixture
def store() -> Iterator[InMemory]:
    with closing(InMemory()) as found:
        yield found


def one_more(there: Mapping[Place, Found | None]) -> dict[Place, bytes]:
    """Count one more in each document."""
    return {place: msgspec.json.encode({"n": (old.source["n"] if old else 0) + 1}) for place, old in there.items()}


def test_a_batch_is_read_and_written_in_one_request_each(store: InMemory) -> None:
    store.put(A, 1)
    done = store.update([A, B], one_more)
    assert (done.created, done.replaced, done.deleted, done.rereads) == (1, 1, 0, 0)
    assert store.numbers() == {A: 2, B: 1}
    assert (len(store.reads), len(store.writes)) == (1, 1)


def test_only_concurrently_changed_documents_are_read_and_decided_again(store: InMemory) -> None:
    store.put(A, 1)
    others: Iterator[Callable[[], None]] = iter([lambda: store.put(A, 10), lambda: store.put(A, 20)])
    store.meanwhile = lambda: next(others, lambda: None)()
    done = store.update([A, B], one_more)
    assert store.numbers() == {A: 21, B: 1}
    assert (done.rereads, done.conflicts, store.reads) == (2, [], [[A, B], [A], [A]])


def test_a_document_created_concurrently_is_not_overwritten(store: InMemory) -> None:
    others = iter([lambda: store.put(A, 10)])
    store.meanwhile = lambda: next(others, lambda: None)()
    store.update([A], one_more)
    assert store.numbers() == {A: 11}


def test_documents_that_keep_changing_end_in_an_error_with_that_reason(
    store: InMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("truepixel_dagster.stores.elasticsearch.documents.pause", lambda _attempt: None)
    store.put(A, 0)
    store.meanwhile = lambda: store.put(A, 0)
    with pytest.raises(Unavailable, match=r"Elasticsearch at .*: other writers changed 1 documents during each of 40"):
        store.update([A, B], one_more)
    assert len(store.writes) == 40


def test_a_refused_document_is_named_and_holds_up_no_other(store: InMemory) -> None:
    done = store.update([A, B], lambda _: {A: POISON, B: b'{"n":1}'})
    assert (done.refused, done.created, store.numbers()) == ({A: "mapping: n"}, 1, {B: 1})


def test_nothing_to_change_writes_nothing_and_none_deletes(store: InMemory) -> None:
    store.put(A, 1)
    assert store.update([A], lambda _: {}).replaced == 0
    assert store.update([A, B], lambda _: {A: None, B: None}).deleted == 1
    assert store.numbers() == {}
    assert [len(actions) for actions in store.writes] == [0, 1]


def test_documents_read_ahead_are_not_read_again_and_others_are_read_before_they_are_written(store: InMemory) -> None:
    store.put(B, 5)
    store.put(C, 7)
    asked: list[list[Place]] = []

    def decide(there: Mapping[Place, Found | None]) -> dict[Place, bytes]:
        asked.append(list(there))
        # The first decision finds out that C is to be written, too.
        return one_more(there) | ({C: b'{"n":0}'} if A in there else {})

    done = store.update([A, B], decide, {A: None})
    assert asked == [[A], [B, C]]
    assert (store.reads, store.numbers(), done.rereads) == ([[B, C]], {A: 1, B: 6, C: 8}, 1)


def test_only_unchanged_documents_are_removed(store: InMemory) -> None:
    store.put(A, 1)
    store.put(B, 1)
    read = list(store.documents.values())
    store.put(B, 2)
    assert store.remove(read) == 1
    assert store.numbers() == {B: 2}
