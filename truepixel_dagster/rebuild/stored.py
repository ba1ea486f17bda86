"""Decode events again from their own documents, because Kafka's retention has removed their records.

A document has the payload, times, name and position of its record: enough to decode it again with this version and the
current registry of shops. The result replaces the document. If the event now has another id, the result is written
under that id first, and then the old document is removed. A crash in between leaves two documents of one record, never
none: readers of the history take one of them (`history`), and the next rebuild removes the old one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from decimal import Decimal
from typing import Any

import msgspec

from truepixel_dagster.chunks import chunks
from truepixel_dagster.events.decode import Undecodable, decode
from truepixel_dagster.events.event import Event, Message
from truepixel_dagster.events.origin import Origin
from truepixel_dagster.events.sites import Sites
from truepixel_dagster.events.times import to_millis
from truepixel_dagster.rebuild.context import RebuildContext
from truepixel_dagster.rebuild.history import Query, all_of, message_of, of_records
from truepixel_dagster.rebuild.stats import Progress, RebuildStats, silent
from truepixel_dagster.rebuild.stream_progress import StreamProgress
from truepixel_dagster.stages.index import EVENTS, KNOWN, STORED, document, index_name
from truepixel_dagster.stores.documents import NEWER, OLDER, Unreadable, is_older, report
from truepixel_dagster.stores.elasticsearch import CONFLICT, Action, Found, Place, replacing
from truepixel_dagster.stores.redactions import ALIAS, Redactions

# Payloads may be large, and all payloads of a chunk are in memory at once.
_CHUNK = 500
_TRIES = 5
_ALIAS = re.compile(rf"(?:.*:)?{ALIAS}[0-9a-f]{{32}}", re.DOTALL)
# Decode numbers as the history does, so that equal documents compare equal; encode them in their original form.
_EXACT = msgspec.json.Decoder(float_hook=Decimal)
_ENCODER = msgspec.json.Encoder(decimal_format="number")
Document = Mapping[str, Any]


class Rewrite(msgspec.Struct, frozen=True):
    """Hold what one document becomes, and its new index and id."""

    old: Found
    place: Place
    origin: Origin
    source: bytes

    @property
    def moves(self) -> bool:
        """Return whether its id or its month has changed."""
        return self.place != _place(self.old)


class _Read(msgspec.Struct):
    """Hold the documents to rewrite, the redacted ones to remove, and how many cannot be used."""

    rewrites: list[Rewrite] = []
    hidden: list[Found] = []
    refused: int = 0
    unreadable: int = 0


def rewrite(context: RebuildContext, query: Query, progress: Progress = silent) -> RebuildStats:
    """Decode the events of some documents again and rewrite them, each under its sequence number.

    A document with a payload that this version refuses, or that cannot be read, stays unchanged and is counted.
    Redacted documents stay redacted. A document is removed if another one represents its event.

    Raises:
        Unavailable: A server does not answer. The documents written so far are correct, and the others are unchanged.
    """
    store = context.stores.elasticsearch
    result, seen = RebuildStats(removed=remove_replaced(context, query)), 0
    store.refresh()
    redactions = Redactions(context.stores.mongodb, context.history.sites)
    for hits in chunks(store.scan(f"{EVENTS}-", query, fields=["kafka"]), _CHUNK):
        left: Sequence[Place] = [(hit["_index"], hit["_id"]) for hit in hits]
        # Documents that changed in between are read again. A writer that keeps changing them decodes them itself.
        for _ in range(_TRIES):
            done, left = _rewrite(context, redactions, left)
            result += done
            if not left:
                break
        seen += len(hits)
        progress("documents decoded again", seen, 0)
    return result


def remove_replaced(context: RebuildContext, query: Query) -> int:
    """Remove documents of an earlier edition if this edition has one of the same record; return how many.

    A record's headers may give its event another id than the earlier edition did, so records are compared, not ids.

    Raises:
        Unavailable: A server does not answer.
    """
    store = context.stores.elasticsearch
    store.refresh()
    removed = 0
    for hits in chunks(store.scan(f"{EVENTS}-", all_of(OLDER, query), fields=["kafka"]), _CHUNK):
        older = list(_records(hits))
        if not older:
            continue
        twins = store.scan(f"{EVENTS}-", all_of(NEWER, of_records(at for at, _ in older)), fields=["kafka"])
        replaced = {at for at, _ in _records(twins)}
        found = store.mget([place for at, place in older if at in replaced], fields=["kafka"])
        removed += store.remove(old for old in found if old)
    return removed


def _records(hits: Iterable[Any]) -> Iterator[tuple[tuple[int, int], Place]]:
    """Yield partition and offset of each document's record, with the document's place; skip unreadable documents."""
    for hit in hits:
        with suppress(Unreadable):
            origin = STORED.read(hit["_id"], hit["_source"]).kafka
            yield (origin.partition, origin.offset), (hit["_index"], hit["_id"])


def _rewrite(
    context: RebuildContext, redactions: Redactions, places: Sequence[Place]
) -> tuple[RebuildStats, list[Place]]:
    """Rewrite some documents; return what was done, and the documents that changed in between."""
    store = context.stores.elasticsearch
    found = _understood(context, redactions, places)
    moving = [each.place for each in found.rewrites if each.moves]
    there = dict(zip(moving, context.history.found(moving)))
    rewrites = [each for each in found.rewrites if _is_readable(there.get(each.place))]
    actions = {
        _place(each.old): action
        for each in rewrites
        if (action := action_of(each, there.get(each.place), context.stream))
    }
    outcomes = dict(zip(actions, store.bulk(list(actions.values()))))
    left = [place for place, outcome in outcomes.items() if outcome.status == CONFLICT]
    bad = {place: outcome.error for place, outcome in outcomes.items() if outcome.refused}
    for (_, id_), error in bad.items():
        report(f"event document {id_!r} stays unchanged: {error}")
    # Remove them after the new documents exist, so that a crash loses none.
    moved = [each.old for each in rewrites if each.moves and _place(each.old) not in (*left, *bad)]
    store.remove(old for old in moved if _place(old) in actions)
    removed = store.remove([*found.hidden, *(old for old in moved if _place(old) not in actions)])
    changed = len(actions) - len(left) - len(bad)
    return (
        RebuildStats(
            len(rewrites) - len(left) - len(bad),
            changed,
            removed,
            unreadable=found.unreadable + len(found.rewrites) - len(rewrites),
            refused=found.refused + len(bad),
        ),
        left,
    )


def _understood(context: RebuildContext, redactions: Redactions, places: Sequence[Place]) -> _Read:
    read = _Read()
    documents = list(_readable(context.history.found(places), read))
    views = _views(redactions, documents)
    for (old, _), view in zip(documents, views):
        if view is None:
            read.hidden.append(old)
            continue
        event = understood(old.source, view, context.history.sites)
        if isinstance(event, Undecodable):
            read.refused += 1
            report(f"event document {old.id!r} stays unchanged: its payload is refused: {event.reason}")
            continue
        place = (index_name(event, context.stores.elasticsearch), event.document_id)
        read.rewrites.append(Rewrite(old, place, event.origin, source_of(event, old.source)))
    return read


def _readable(found: Sequence[Found | None], read: _Read) -> Iterator[tuple[Found, Message]]:
    for old in found:
        if old is None:
            continue
        try:
            STORED.read(old.id, old.source)
            yield old, message_of(old.source)
        except (Unreadable, KeyError, TypeError, ValueError, AttributeError) as error:
            read.unreadable += 1
            report(error if isinstance(error, Unreadable) else f"event document {old.id!r}: {error!r}")


def _views(redactions: Redactions, documents: Sequence[tuple[Found, Message]]) -> list[Message | None]:
    """Return the records after redaction. Anonymised ones stay: redacting their aliases again would change them."""
    views = redactions.views([message for _, message in documents])
    return [message if is_anonymised(old.source) else view for (old, message), view in zip(documents, views)]


def is_anonymised(source: Document) -> bool:
    """Return whether a document was anonymised: its event id is an alias then."""
    return _ALIAS.fullmatch(str(source.get("event_id"))) is not None


def understood(source: Document, message: Message, sites: Sites) -> Event | Undecodable:
    """Return the event of a document, decoded by this version.

    Arguments:
        source: The document.
        message: Its record after redaction.
        sites: The known sites of shops.
    """
    event = decode(message, sites)
    if isinstance(event, Undecodable):
        return event
    arrived = to_millis(source["received_at"])
    if is_older(source):
        return msgspec.structs.replace(event, received_at=arrived)
    # A document of this edition has the right times: the record decided which of them to replace.
    return msgspec.structs.replace(
        event, occurred_at=to_millis(source["occurred_at"]), received_at=arrived, client_at=source.get("client_at")
    )


def source_of(event: Event, before: Document) -> bytes:
    """Return the event's document as JSON, with the previous document's fields that this version does not know."""
    source = document(event)
    unknown = {name: value for name, value in before.items() if name not in KNOWN}
    return source[:-1] + b"," + _ENCODER.encode(unknown)[1:] if unknown else source


def action_of(each: Rewrite, there: Found | None, stream: StreamProgress) -> Action | None:
    """Return the action that rewrites a document; None if the existing document stays.

    Arguments:
        each: The document.
        there: The document at its new place, if its place changes.
        stream: Says which dead letters were reprocessed.

    Raises:
        Unreadable: The document at its new place does not name its record.
    """
    if not each.moves:
        same = _EXACT.decode(each.source) == each.old.source
        return None if same else replacing(each.place, each.source, each.old)
    if there is not None and _stands(there, each.origin, stream):
        return None
    return replacing(each.place, each.source, there)


def _stands(there: Found, origin: Origin, stream: StreamProgress) -> bool:
    """Return whether a document wins over one of an earlier edition that gets its id.

    It wins if it has the same record, or an earlier one. Between partitions the older edition's document is the earlier
    one: this edition could not find it, because it looked under the new id.
    """
    found = STORED.read(there.id, there.source).kafka
    if (found.partition, found.offset) == (origin.partition, origin.offset):
        return not is_older(there.source)
    first = found.partition == origin.partition and found.offset < origin.offset
    return first and not stream.has_returned(found)


def _is_readable(there: Found | None) -> bool:
    """Return whether a place is free or has a document that names its record; no other document is replaced."""
    try:
        return there is None or bool(STORED.read(there.id, there.source))
    except Unreadable as error:
        report(error)
        return False


def _place(found: Found) -> Place:
    return found.index, found.id
