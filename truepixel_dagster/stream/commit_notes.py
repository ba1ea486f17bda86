"""Which runs committed a partition's records, as a note beside the committed offset: it costs no write of its own.

    >>> from truepixel_dagster.stream.commit_notes import Span, read_note, write_note
    >>> note = write_note([Span("run-1", first=0, end=57)])
    >>> read_note(note)
    (Span(run='run-1', first=0, end=57, handed_over=False),)

Dagster is told what a run committed when the run ends. One that is killed never tells; the run that takes the lane next
finds in the note which one it was and what it had committed, and makes good for it (`jobs/unreported.py`).

Whoever sets the group's offsets removes the notes, and a topic that is deleted takes them along. Each note of ours is a
list, if an empty one: where there is none, it is not known any more of which runs Dagster may not have been told.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

# Kafka keeps 4,096 bytes by default. More runs than a few never wait to be told of.
MOST_SPANS = 16


class Span(msgspec.Struct, frozen=True, array_like=True):
    """What a run committed of a partition: from its first offset to before an end; whether it gave its lane back."""

    run: str
    first: int
    end: int
    handed_over: bool = False


#: Stands for runs that are not known any more, whichever they were and whatever they committed.
UNKNOWN = Span("", 0, 1)
_NOTE = msgspec.json.Decoder(tuple[Span, ...])


def read_note(text: str | None) -> tuple[Span, ...]:
    """Return the spans of a note; unknown ones of one that is somebody else's, or is not there."""
    try:
        return _NOTE.decode(text or "")
    except (msgspec.MsgspecError, ValueError):
        return (UNKNOWN,)


def write_note(spans: Iterable[Span]) -> str:
    """Return spans as a note; where they are too many, the newest, and that there were others."""
    wanted = [span for span in spans if span.first < span.end]
    if len(wanted) > MOST_SPANS:
        wanted = [UNKNOWN, *wanted[1 - MOST_SPANS :]]
    return msgspec.json.encode(wanted).decode()
