from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from truepixel_dagster.stream.commit_notes import MOST_SPANS, Span, read_note, write_note

SPANS = st.lists(
    st.builds(Span, st.uuids().map(str), st.integers(0, 2**62), st.integers(0, 2**62), st.booleans()), max_size=40
)


@given(SPANS)
def test_a_note_comes_back_and_fits(spans: list[Span]) -> None:
    note = write_note(spans)
    assert read_note(note) == tuple([span for span in spans if span.first < span.end][-MOST_SPANS:])
    # What Kafka keeps beside an offset by default.
    assert len(note.encode()) < 4096


def test_nothing_to_tell_is_no_note() -> None:
    assert write_note([]) == write_note([Span("r", 5, 5)]) == ""


@pytest.mark.parametrize(
    "text", [None, "", "consumer-7", "{}", "[1]", '[["r"]]', '[["r", 1, 2, 3]]', "\x00", "[" * 5000]
)
def test_a_note_of_somebody_else_says_nothing(text: str | None) -> None:
    assert read_note(text) == ()
