"""Check that every Kafka record is accounted for: indexed, a duplicate of an indexed event, or a dead letter."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timezone

from truepixel_dagster.chunks import chunks
from truepixel_dagster.events.decode import decode
from truepixel_dagster.events.event import Event, Message
from truepixel_dagster.health.verdict import EXAMPLES, Verdict, verdict
from truepixel_dagster.rebuild.context import RebuildContext
from truepixel_dagster.rebuild.history import beyond
from truepixel_dagster.retention import outdated
from truepixel_dagster.stages.index import EVENTS, index_name
from truepixel_dagster.stores.redactions import Redactions

ADVICE = "Run `truepixel replay --partition P --offsets FIRST:LAST` to process them again"


class Marks:
    """Hold one bit for each offset of a partition, from `first` up to but excluding `end`."""

    def __init__(self, first: int, end: int) -> None:
        self._first = first
        self._count = max(0, end - first)
        self._bits = bytearray((self._count + 7) // 8)

    def mark(self, offset: int) -> None:
        """Mark an offset; ignore it if it is outside of the range."""
        at = offset - self._first
        if 0 <= at < self._count:
            self._bits[at >> 3] |= 1 << (at & 7)

    def unmarked(self) -> Iterator[int]:
        """Yield the offsets that were not marked, in order."""
        for at in range(self._count):
            if not self._bits[at >> 3] >> (at & 7) & 1:
                yield self._first + at


def records_accounted(context: RebuildContext) -> Verdict:
    """Check for unaccounted records below the committed offsets. This needs one bit of memory for each record.

    Raises:
        KafkaUnavailable, Unavailable: A server does not answer.
    """
    lows = {entry.partition: entry.low for entry in context.log.lag()}
    committed = context.stream.committed
    marks = {partition: Marks(low, committed[partition]) for partition, low in lows.items()}
    for partition, offset in (*context.stream.waiting, *_indexed(context, lows, committed)):
        if partition in marks:
            marks[partition].mark(offset)
    redactions = Redactions(context.stores.mongodb, context.history.sites)
    lost: list[str] = []
    duplicates = unaccounted = 0
    for partition, own in marks.items():
        for offsets in chunks(own.unmarked(), 10_000):
            messages = context.log.read_at({partition: offsets})
            for chunk in chunks(messages, context.settings.batch_messages):
                readable = redactions.shown(chunk)
                missing = _not_duplicates(context, readable)
                duplicates += len(readable) - len(missing)
                unaccounted += len(missing)
                lost += [str(message.origin) for message in missing][: EXAMPLES - len(lost)]
    records = sum(max(0, committed[partition] - low) for partition, low in lows.items())
    named = ", ".join(lost[:3])
    wrong = f"{unaccounted} of {records} records are neither indexed nor duplicates nor dead letters, such as {named}"
    return verdict(
        wrong if unaccounted else "",
        ADVICE,
        records=records,
        unaccounted=unaccounted,
        duplicates=duplicates,
        dead_letters_waiting=len(context.stream.waiting),
        examples=lost,
    )


def _indexed(
    context: RebuildContext, lows: Mapping[int, int], committed: Mapping[int, int]
) -> Iterator[tuple[int, int]]:
    query = beyond({p: low - 1 for p, low in lows.items()}, {p: end - 1 for p, end in committed.items()})
    if query is None:
        return
    context.history.refresh()
    for hit in context.stores.elasticsearch.scan(f"{EVENTS}-", query, fields=["kafka"]):
        # The query requires both fields.
        yield hit["_source"]["kafka"]["partition"], hit["_source"]["kafka"]["offset"]


def _not_duplicates(context: RebuildContext, messages: Sequence[Message]) -> list[Message]:
    """Return the messages whose event id is not indexed, without those of months that retention has dropped."""
    store = context.stores.elasticsearch
    places = {}
    for message in messages:
        event = decode(message, context.history.sites)
        if isinstance(event, Event):
            places[message.origin] = (index_name(event, store), event.document_id)
    old = _outdated(context, {index for index, _ in places.values()})
    known = dict(zip(places, store.mget(list(places.values()), fields=["kafka"])))
    return [
        message
        for message in messages
        if known.get(message.origin) is None and places.get(message.origin, ("", ""))[0] not in old
    ]


def _outdated(context: RebuildContext, indices: Iterable[str]) -> set[str]:
    prefix = context.stores.elasticsearch.index(f"{EVENTS}-")
    today = datetime.now(timezone.utc).date()
    return set(outdated(indices, prefix, today, context.settings.event_retention_months))
