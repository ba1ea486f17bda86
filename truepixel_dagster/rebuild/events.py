"""Rebuild the event history outside of the stream's consumer group: from Kafka or, where retention has removed the
records, from the documents themselves."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from hashlib import blake2b
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from truepixel_dagster.chunks import chunks
from truepixel_dagster.dead_letters.topic import DeadLetters
from truepixel_dagster.events.decode import Undecodable, decode
from truepixel_dagster.events.event import Event, Message, day_of
from truepixel_dagster.events.identifiers import topic_of
from truepixel_dagster.events.origin import Origin
from truepixel_dagster.events.shop import SHOP_UPDATED
from truepixel_dagster.rebuild import stored
from truepixel_dagster.rebuild.context import RebuildContext
from truepixel_dagster.rebuild.history import all_of, before, on_days
from truepixel_dagster.rebuild.shops import learn_from
from truepixel_dagster.rebuild.stats import Progress, RebuildStats, silent
from truepixel_dagster.retention import check_kept
from truepixel_dagster.stages.index import EVENTS, KNOWN, STORED, document, index_name
from truepixel_dagster.stages.stage import INDEX
from truepixel_dagster.stores.documents import Unreadable, report
from truepixel_dagster.stores.elasticsearch import Found, Place
from truepixel_dagster.stores.redactions import Redactions
from truepixel_dagster.stores.shops import learn

# How far a sender's clock may be ahead of Kafka's: the search for a day's records begins this long before it.
CLOCKS_APART = timedelta(days=1)
_TOLD_EVERY = 5000
# The reasons why records are rejected, by partition and offset.
Refusals = dict[tuple[int, int], str]


class Range(msgspec.Struct, frozen=True):
    """Hold offsets by partition: from `first` up to but excluding `end`."""

    first: Mapping[int, int]
    end: Mapping[int, int]

    def holds(self, origin: Origin) -> bool:
        """Return whether a record is within the range."""
        return self.first.get(origin.partition, 0) <= origin.offset < self.end.get(origin.partition, 0)

    @property
    def records(self) -> int:
        """Return how many offsets the range spans."""
        return sum(max(0, end - self.first.get(partition, 0)) for partition, end in self.end.items())


def range_of(context: RebuildContext, days: Sequence[str]) -> Range:
    """Return where the records of some days may be: from a day before the first, limited by retention, to the committed
    offsets. An event may arrive long after it happened, so the range cannot end earlier.

    Raises:
        KafkaUnavailable: Kafka does not answer.
    """
    first_day = datetime.fromisoformat(min(days)).replace(tzinfo=timezone.utc)
    since = context.log.offsets_at(int((first_day - CLOCKS_APART).timestamp() * 1000))
    low = {entry.partition: entry.low for entry in context.log.lag()}
    return Range({p: max(low.get(p, 0), offset) for p, offset in since.items()}, context.stream.committed)


def rebuild_days(context: RebuildContext, days: Sequence[str], progress: Progress = silent) -> RebuildStats:
    """Index the events of some days again and remove documents that no record in Kafka stands for.

    The registry of shops is updated from the records first. Documents whose records retention has removed are decoded
    again from the payload that they contain (`stored`). If an older version could decode a record that this one cannot,
    a dead letter replaces the document.

    Raises:
        HistoryDropped: Retention has removed the events of a day.
        KafkaUnavailable, Unavailable: A server does not answer. The documents written so far are correct, and the
            others are unchanged.
    """
    check_kept(days, context.kept)
    where = range_of(context, days)
    if _learn(context, where, progress):
        context = context.with_shops_of_now()
    # First, so that these documents exist when a later record of the same event id is read.
    result = stored.rewrite(context, all_of(on_days(days), before(where.first)), progress)
    wanted = set(days)
    known = array("Q")
    refused: Refusals = {}
    for chunk in chunks(read(context, where, progress), context.settings.batch_messages):
        decoded = [decode(message, context.history.sites) for message in chunk]
        of_days = [event for event in decoded if isinstance(event, Event) and day_of(event.occurred_at) in wanted]
        known.extend(_digest(event.document_id, event.origin) for event in of_days)
        refused.update(_without_letter(context, decoded))
        result += RebuildStats(len(of_days), index_events(context, of_days))
    return result + RebuildStats(removed=_remove_others(context, days, where, known, refused, progress))


def index_events(context: RebuildContext, events: Sequence[Event]) -> int:
    """Write the documents of events as the stream does; return how many were created or corrected.

    The first record of an event id wins: it replaces a later record's document, and a later record that finds an
    earlier record's document is a duplicate. Between partitions, the existing document counts as the first.
    """
    store = context.stores.elasticsearch
    firsts: dict[Place, Event] = {}
    for event in events:
        if context.stream.passed(INDEX, event):
            firsts.setdefault((index_name(event, store), event.document_id), event)
    keys = list(firsts)
    found = dict(zip(keys, store.mget(keys)))
    sources = {key: _set_right(context, event, found[key]) for key, event in firsts.items()}
    written = store.replace({key: source for key, source in sources.items() if source}, found)
    # On a conflict, another writer wrote the same document. A refused document already has its dead letter.
    return written.created + written.replaced


def _set_right(context: RebuildContext, event: Event, found: Found | None) -> bytes | None:
    """Return the document that the stream would have written; None where the existing one is right."""
    source = document(event)
    if found is None:
        return source
    try:
        origin = STORED.read(found.id, found.source).kafka
    except Unreadable as error:
        report(error)
        return None
    # A reprocessed dead letter may be the earlier record and yet have arrived later.
    is_first = (
        origin.partition == event.origin.partition
        and event.origin.offset < origin.offset
        and not context.stream.has_returned(event.origin)
    )
    new = msgspec.json.decode(source)
    if origin == event.origin:
        # The document of the same record keeps fields that this version does not know.
        unknown = {name: value for name, value in found.source.items() if name not in KNOWN}
        new = {**new, **unknown}
        # Append bytes instead of encoding again, so that the payload's numbers keep their form.
        source = source[:-1] + b"," + msgspec.json.encode(unknown)[1:] if unknown else source
    return source if is_first or (origin == event.origin and found.source != new) else None


def read(context: RebuildContext, where: Range, progress: Progress = silent) -> Iterator[Message]:
    """Yield the records of a range after redaction, reporting the progress every few thousand."""
    total, count = where.records, 0
    redactions = Redactions(context.stores.mongodb, context.history.sites)
    records = context.log.read_all(first=where.first, end=where.end)
    for chunk in chunks(records, context.settings.batch_messages):
        yield from redactions.shown(chunk)
        before, count = count, count + len(chunk)
        if count // _TOLD_EVERY > before // _TOLD_EVERY:
            progress("records read", count, total)


def events_of(context: RebuildContext, messages: Iterable[Message]) -> list[Event]:
    """Return the events among records, decoded with the current registry of shops."""
    decoded = (decode(message, context.history.sites) for message in messages)
    return [event for event in decoded if isinstance(event, Event)]


def _learn(context: RebuildContext, where: Range, progress: Progress) -> bool:
    """Store what a range's records, and documents from before it, say of their shops; return whether any was new.

    Call this before indexing, because decoding visits needs it. The first edition stored none of it, and a registry may
    have been lost.
    """
    learned = learn_from(context, before(where.first))
    for chunk in chunks(read(context, where, progress), context.settings.batch_messages):
        news = [message for message in chunk if topic_of(message) == SHOP_UPDATED]
        learned |= bool(news and learn(context.stores.mongodb, events_of(context, news)))
    return learned


def _without_letter(context: RebuildContext, decoded: Iterable[Event | Undecodable]) -> Refusals:
    """Return the reasons of undecodable records that have no dead letter."""
    refused = (item for item in decoded if isinstance(item, Undecodable))
    found = {(item.message.origin.partition, item.message.origin.offset): item.reason for item in refused}
    return {place: reason for place, reason in found.items() if place not in context.stream.waiting}


def _make_letters(context: RebuildContext, refused: Refusals) -> None:
    """Write dead letters of records before their documents are removed."""
    if not refused:
        return
    offsets: dict[int, list[int]] = {}
    for partition, offset in sorted(refused):
        offsets.setdefault(partition, []).append(offset)
    letters = DeadLetters(context.settings.kafka(), context.settings.dead_letter_bytes)
    for message in Redactions(context.stores.mongodb, context.history.sites).shown(context.log.read_at(offsets)):
        letters.send(message, error=refused[message.origin.partition, message.origin.offset], stage="decode")
    letters.flush()
    letters.close()


def _remove_others(
    context: RebuildContext,
    days: Sequence[str],
    where: Range,
    digests: array[int],
    refused: Refusals,
    progress: Progress,
) -> int:
    """Remove the documents of these days that name a record in this range but do not belong to one."""
    store = context.stores.elasticsearch
    store.refresh()
    stands = np.sort(np.frombuffer(digests, dtype=np.uint64)) if digests else np.empty(0, np.uint64)
    removed = seen = 0
    for hits in chunks(store.scan(f"{EVENTS}-", on_days(days), fields=["kafka"]), 1000):
        hits = [hit for hit in hits if _says_where(hit["_source"])]
        origins = [STORED.read(hit["_id"], hit["_source"]).kafka for hit in hits]
        asked = np.array([_digest(hit["_id"], origin) for hit, origin in zip(hits, origins)], dtype=np.uint64)
        known = _among(asked, stands)
        bad = [(hit, origin) for hit, origin, stays in zip(hits, origins, known) if not stays and where.holds(origin)]
        places = {(origin.partition, origin.offset) for _, origin in bad}
        _make_letters(context, {place: refused[place] for place in places & refused.keys()})
        removed += store.remove(filter(None, store.mget([(hit["_index"], hit["_id"]) for hit, _ in bad])))
        seen += len(hits)
        progress("documents examined", seen, 0)
    return removed


def _says_where(source: Mapping[str, Any]) -> bool:
    """Return whether a document names its record; a document that does not is never removed."""
    try:
        STORED.read("", source)
    except Unreadable:
        return False
    return True


def _among(asked: npt.NDArray[np.uint64], ordered: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    """Return which of some numbers are among others, which are sorted."""
    if not len(ordered):
        return np.zeros(len(asked), np.bool_)
    places = np.minimum(np.searchsorted(ordered, asked), len(ordered) - 1)
    found: npt.NDArray[np.bool_] = ordered[places] == asked
    return found


def _digest(id_: str, origin: Origin) -> int:
    text = f"{id_}\n{origin.partition}/{origin.offset}"
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")
