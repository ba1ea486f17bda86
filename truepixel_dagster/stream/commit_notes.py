"""Note beside the committed offset which runs committed a partition's records, without an additional write.

    >>> from truepixel_dagster.stream.commit_notes import Span, read_note, write_note
    >>> note = write_note([Span("run-1", first=0, end=57)])
    >>> read_note(note)
    (Span(run='run-1', first=0, end=57, handed_over=False),)

A run reports what it committed when it ends. A killed run reports nothing: the run that takes the lane next finds in
the note which run it was and what it had committed, and reports that for it (`jobs/unreported.py`).

Setting the group's offsets removes the notes, and so does deleting the topic. A note is always a list, perhaps an empty
one: without a note, it is unknown which runs have not reported.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

# Kafka keeps 4,096 bytes by default. Only a few runs ever wait for their report.
MOST_SPANS = 16


class Span(msgspec.Struct, frozen=True, array_like=True):
    """The range that a run committed in a partition, without its end, and whether the run handed its lane over."""

    run: str
    first: int
    end: int
    handed_over: bool = False


#: Stands for unknown runs, whatever they committed.
UNKNOWN = Span("", 0, 1)
_NOTE = msgspec.json.Decoder(tuple[Span, ...])


def read_note(text: str | None) -> tuple[Span, ...]:
    """Return the spans of a note; `UNKNOWN` for a note of another program, or a missing one."""
    try:
        return _NOTE.decode(text or "")
    except (msgspec.MsgspecError, ValueError):
        return (UNKNOWN,)


def write_note(spans: Iterable[Span]) -> str:
    """Return spans as a note; if they are too many, the newest, and `UNKNOWN` for the others."""
    wanted = [span for span in spans if span.first < span.end]
    if len(wanted) > MOST_SPANS:
        wanted = [UNKNOWN, *wanted[1 - MOST_SPANS :]]
    return msgspec.json.encode(wanted).decode()
