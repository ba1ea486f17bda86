from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from truepixel_dagster.stream.commit_notes import MOST_SPANS, UNKNOWN, Span, read_note, write_note

SPANS = st.lists(
    st.builds(Span, st.uuids().map(str), st.integers(0, 2**62), st.integers(0, 2**62), st.booleans()), max_size=40
)


@given(SPANS)
def test_a_note_comes_back_and_fits(spans: list[Span]) -> None:
    note = write_note(spans)
    wanted = [span for span in spans if span.first < span.end]
    if len(wanted) > MOST_SPANS:
        wanted = [UNKNOWN, *wanted[-MOST_SPANS + 1 :]]
    assert read_note(note) == tuple(wanted)
    # The size of a note that Kafka keeps beside an offset by default.
    assert len(note.encode()) < 4096


def test_an_empty_note_is_a_note_of_ours_too() -> None:
    assert write_note([]) == write_note([Span("r", 5, 5)]) == "[]"
    assert read_note("[]") == ()


@pytest.mark.parametrize(
    "text", [None, "", "consumer-7", "{}", "[1]", '[["r"]]', '[["r", 1, 2, 3]]', "\x00", "[" * 5000]
)
def test_without_a_note_of_ours_it_is_not_known_who_committed(text: str | None) -> None:
    assert read_note(text) == (UNKNOWN,)
