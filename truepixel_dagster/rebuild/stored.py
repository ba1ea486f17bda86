"""Events whose records Kafka's retention has removed, understood again from their own documents.

A document holds the payload, the times, the name and the place of its record: enough to decode it once more, by what
this version and the registry of shops know now. It is written in place, or under the id that the event has now and then
removed from where it was. A crash in between leaves two documents of one record, never none: readers of the history
take one of them (`history`), and the next rebuild removes the old one.
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
from truepixel_dagster.rebuild.context import Context
from truepixel_dagster.rebuild.history import Query, all_of, message_of, of_records
from truepixel_dagster.rebuild.rebuilt import Progress, Rebuilt, silent
from truepixel_dagster.rebuild.settled import Settled
from truepixel_dagster.stages.index import EVENTS, KNOWN, STORED, document, index_name
from truepixel_dagster.stores.documents import NEWER, OLDER, Unreadable, is_older, report
from truepixel_dagster.stores.elasticsearch import CONFLICT, Action, Found, Place, replacing
from truepixel_dagster.stores.redactions import ALIAS, Redactions

# Payloads may be large, and those of a chunk are in memory at once.
_CHUNK = 500
_TRIES = 5
_ALIAS = re.compile(rf"(?:.*:)?{ALIAS}[0-9a-f]{{32}}", re.DOTALL)
# As the history reads numbers, so that equal documents are equal; and back as they were written.
_EXACT = msgspec.json.Decoder(float_hook=Decimal)
_ENCODER = msgspec.json.Encoder(decimal_format="number")
Document = Mapping[str, Any]


class Rewrite(msgspec.Struct, frozen=True):
    """What one document is to become, and under which index and id."""

    old: Found
    place: Place
    origin: Origin
    source: bytes

    @property
    def moves(self) -> bool:
        """Whether its id, or its month, is another now."""
        return self.place != _place(self.old)


class _Read(msgspec.Struct):
    """What documents say: those to write anew, those that may not be read any more, and how many say nothing."""

    rewrites: list[Rewrite] = []
    hidden: list[Found] = []
    refused: int = 0
    unreadable: int = 0


def rewrite(context: Context, query: Query, progress: Progress = silent) -> Rebuilt:
    """Understand the events of some documents again and write them anew, each under its sequence number.

    A payload that this version refuses, and a document that cannot be read, stay as they are and are counted. What was
    redacted stays so. A document whose event another one stands for goes.

    Raises:
        Unavailable: A server does not answer; what was written is right, and the rest as it was.
    """
    store = context.stores.elasticsearch
    result, seen = Rebuilt(removed=remove_replaced(context, query)), 0
    store.refresh()
    redactions = Redactions(context.stores.mongodb, context.history.sites)
    for hits in chunks(store.scan(f"{EVENTS}-", query, fields=["kafka"]), _CHUNK):
        left: Sequence[Place] = [(hit["_index"], hit["_id"]) for hit in hits]
        # Those that somebody else wrote in between are read again; who goes on writing them has understood them.
        for _ in range(_TRIES):
            done, left = _rewrite(context, redactions, left)
            result += done
            if not left:
                break
        seen += len(hits)
        progress("documents understood again", seen, 0)
    return result


def remove_replaced(context: Context, query: Query) -> int:
    """Remove documents of an earlier edition where one of this edition is of the same record; how many there were.

    What a record's headers say may give its event another id than the earlier edition knew: the record tells.

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
    """Partition and offset of the records of documents, as far as they say, with their place."""
    for hit in hits:
        with suppress(Unreadable):
            origin = STORED.read(hit["_id"], hit["_source"]).kafka
            yield (origin.partition, origin.offset), (hit["_index"], hit["_id"])


def _rewrite(context: Context, redactions: Redactions, places: Sequence[Place]) -> tuple[Rebuilt, list[Place]]:
    """Write some documents anew; what was done, and those that somebody else wrote meanwhile."""
    store = context.stores.elasticsearch
    found = _understood(context, redactions, places)
    moving = [each.place for each in found.rewrites if each.moves]
    there = dict(zip(moving, context.history.found(moving)))
    rewrites = [each for each in found.rewrites if _is_readable(there.get(each.place))]
    actions = {
        _place(each.old): action
        for each in rewrites
        if (action := action_of(each, there.get(each.place), context.settled))
    }
    outcomes = dict(zip(actions, store.bulk(list(actions.values()))))
    left = [place for place, outcome in outcomes.items() if outcome.status == CONFLICT]
    bad = {place: outcome.error for place, outcome in outcomes.items() if outcome.refused}
    for (_, id_), error in bad.items():
        report(f"the event document {id_!r} stays as it is: {error}")
    # After the new ones are there, so that a crash loses none.
    moved = [each.old for each in rewrites if each.moves and _place(each.old) not in (*left, *bad)]
    store.remove(old for old in moved if _place(old) in actions)
    removed = store.remove([*found.hidden, *(old for old in moved if _place(old) not in actions)])
    changed = len(actions) - len(left) - len(bad)
    return (
        Rebuilt(
            len(rewrites) - len(left) - len(bad),
            changed,
            removed,
            unreadable=found.unreadable + len(found.rewrites) - len(rewrites),
            refused=found.refused + len(bad),
        ),
        left,
    )


def _understood(context: Context, redactions: Redactions, places: Sequence[Place]) -> _Read:
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
            report(f"the event document {old.id!r} stays as it is, because its payload is refused: {event.reason}")
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
    """The records as they may be read. A remainder is one already: its ids are aliases, and would get others."""
    views = redactions.views([message for _, message in documents])
    return [message if is_remainder(old.source) else view for (old, message), view in zip(documents, views)]


def is_remainder(source: Document) -> bool:
    """Whether a document is what remained of an event when its person was forgotten: its event id is an alias."""
    return _ALIAS.fullmatch(str(source.get("event_id"))) is not None


def understood(source: Document, message: Message, sites: Sites) -> Event | Undecodable:
    """The event of a document, as this version understands it.

    Arguments:
        source: The document.
        message: Its record, as it may be read.
        sites: What is known of the shops' sites.
    """
    event = decode(message, sites)
    if isinstance(event, Undecodable):
        return event
    arrived = to_millis(source["received_at"])
    if is_older(source):
        return msgspec.structs.replace(event, received_at=arrived)
    # This edition has decided with the record which times are to be replaced.
    return msgspec.structs.replace(
        event, occurred_at=to_millis(source["occurred_at"]), received_at=arrived, client_at=source.get("client_at")
    )


def source_of(event: Event, before: Document) -> bytes:
    """The event's document as JSON, with the fields of the one before that this version does not know."""
    source = document(event)
    unknown = {name: value for name, value in before.items() if name not in KNOWN}
    return source[:-1] + b"," + _ENCODER.encode(unknown)[1:] if unknown else source


def action_of(each: Rewrite, there: Found | None, settled: Settled) -> Action | None:
    """What writes a document anew; None where what is there stands.

    Arguments:
        each: The document.
        there: What is under its new place, where that is another.
        settled: It knows which records came back from the dead letters.

    Raises:
        Unreadable: What is there does not say which record it is of.
    """
    if not each.moves:
        same = _EXACT.decode(each.source) == each.old.source
        return None if same else replacing(each.place, each.source, each.old)
    if there is not None and _stands(there, each.origin, settled):
        return None
    return replacing(each.place, each.source, there)


def _stands(there: Found, origin: Origin, settled: Settled) -> bool:
    """Whether a document goes before one of an earlier edition that comes to its id.

    It does where it is of the same record, or of one that was first. Between partitions the older edition's was first:
    this one could not have had it under this id.
    """
    found = STORED.read(there.id, there.source).kafka
    if (found.partition, found.offset) == (origin.partition, origin.offset):
        return not is_older(there.source)
    first = found.partition == origin.partition and found.offset < origin.offset
    return first and not settled.has_returned(found)


def _is_readable(there: Found | None) -> bool:
    """Whether nothing is there, or a document that says what record it is of; another is nobody's to replace."""
    try:
        return there is None or bool(STORED.read(there.id, there.source))
    except Unreadable as error:
        report(error)
        return False


def _place(found: Found) -> Place:
    return found.index, found.id
