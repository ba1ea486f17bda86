"""Stage 2: the touches of a user, in the order of offsets.

An event whose URL carries ad data is a touch. The same ad again within half an hour of the user's previous touch is
the same touch. A touch carries its partition and offset, so that adding it again changes nothing.

A document keeps the newest touches (`touches`) and, beside them, the ones that touches of the batch being worked on
have just pushed out (`older`): if the batch must run again, its orders still find the journey that they had.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from truepixel_dagster.events.ad import Ad
from truepixel_dagster.events.event import Event, iso
from truepixel_dagster.events.times import to_millis
from truepixel_dagster.stages.refused import Refused
from truepixel_dagster.stores.documents import SCHEMA, Reader
from truepixel_dagster.stores.mongodb import AD_LEADS, MongoStore


class Touch(msgspec.Struct, frozen=True):
    """One contact with an ad. `at` is ISO 8601 UTC."""

    event_id: str
    at: str
    ad: Ad
    partition: int
    offset: int

    @property
    def millis(self) -> int:
        """`at` as milliseconds since the epoch."""
        return to_millis(self.at)


class Lead(msgspec.Struct, frozen=True):
    """A user's touches: the newest ones, and the ones that this batch pushed out."""

    touches: tuple[Touch, ...] = ()
    older: tuple[Touch, ...] = ()

    @property
    def all(self) -> tuple[Touch, ...]:
        """Every touch known, in order."""
        return self.older + self.touches


def _filled(found: dict[str, Any]) -> dict[str, Any]:
    for name in ("touches", "older"):
        for touch in found.get(name, ()):
            touch["event_id"] = touch.get("event_id", "")
            touch["ad"] = {"platform": "unknown", **touch["ad"]} if "ad" in touch else {"platform": "unknown"}
    return found


LEAD = Reader(Lead, f"MongoDB {AD_LEADS}", _filled)


def document_of(lead: Lead, before: Mapping[str, Any]) -> dict[str, Any]:
    """Return the document of a lead, with whatever else the one before holds, in its touches too."""
    known = {(t["partition"], t["offset"]): t for name in ("touches", "older") for t in before.get(name) or () if t}

    def plain(touches: Sequence[Touch]) -> list[dict[str, Any]]:
        return [known.get((touch.partition, touch.offset)) or msgspec.to_builtins(touch) for touch in touches]

    own = {"touches": plain(lead.touches), "older": plain(lead.older), "schema": SCHEMA}
    return {**LEAD.unknown(before), **own}


class Leads(msgspec.Struct, frozen=True):
    """What stage 2 made of a batch: the touches of every user who has a touch or an order in it."""

    touches: dict[str, tuple[Touch, ...]]
    added: int
    refused: tuple[Refused, ...]


def add_touches(lead: Lead, events: Sequence[Event], *, kept: int, repeat: int) -> Lead:
    """A user's lead after the events of a batch.

    Arguments:
        lead: The lead before.
        events: The user's events of the batch, in offset order.
        kept: The number of newest touches to keep.
        repeat: Milliseconds within which the same ad again is the same touch.

    Returns:
        The same lead where nothing was new.
    """
    partition, first = events[0].origin.partition, events[0].origin.offset
    # A user's partition changes only when partitions are added: what came from another one came before.
    before = [touch for touch in lead.all if touch.partition != partition]
    here = [touch for touch in lead.all if touch.partition == partition]
    known = {touch.offset for touch in here}
    for event in events:
        if event.ad is None or event.origin.offset in known:
            continue
        position = sum(touch.offset < event.origin.offset for touch in here)
        previous = here[position - 1] if position else (before[-1] if before else None)
        if previous and previous.ad.same_as(event.ad) and abs(event.occurred_at - previous.millis) <= repeat:
            continue
        at = iso(event.occurred_at)
        here.insert(position, Touch(event.event_id, at, event.ad, partition, event.origin.offset))
    if len(here) == len(known):
        return lead
    touches = before + here
    since = sum(touch.partition == partition and touch.offset >= first for touch in touches)
    needed = touches[-(kept + since) :]
    return Lead(tuple(needed[-kept:]), tuple(needed[:-kept]))


class Decided(NamedTuple):
    """The leads of users, the documents of those that changed, and why documents cannot be read; by user."""

    leads: dict[str, Lead]
    changed: dict[str, dict[str, Any]]
    unreadable: dict[str, str]


def decide(
    events: Mapping[str, Sequence[Event]], stored: Mapping[str, Mapping[str, Any]], *, kept: int, repeat: int
) -> Decided:
    """Decide what becomes of the leads of all users given.

    Arguments:
        events: Events by user, in offset order.
        stored: The documents that exist, by user.
        kept: As in `add_touches`.
        repeat: As in `add_touches`.
    """
    decided = Decided({}, {}, {})
    for user, mine in events.items():
        document = stored.get(user, {})
        try:
            before = LEAD.read(user, document)
            after = decided.leads[user] = add_touches(before, mine, kept=kept, repeat=repeat)
        except ValueError as error:
            decided.unreadable[user] = str(LEAD.unreadable(user, error))
            continue
        if after is not before:
            decided.changed[user] = document_of(after, document)
    return decided


def read(events: Iterable[Event], store: MongoStore) -> dict[str, dict[str, Any]]:
    """The documents of all users who have a touch or an order among the events.

    Raises:
        Unavailable: MongoDB does not answer.
    """
    return store.read(AD_LEADS, {event.user for event in events if concerns(event)})


def run(
    events: Mapping[str, Sequence[Event]],
    store: MongoStore,
    *,
    kept: int,
    repeat: int,
    stored: Mapping[str, dict[str, Any]] | None = None,
) -> Leads:
    """Add the batch's touches to their users' documents: one read and one write.

    Arguments:
        events: The events that run on, by user, in offset order.
        store: Where the leads are.
        kept: The number of newest touches to keep.
        repeat: Milliseconds within which the same ad again is the same touch.
        stored: What was read of these events, and maybe of more, before; None has it read now.

    Raises:
        Unavailable: MongoDB does not answer.
    """
    concerned = {user: mine for user, mine in events.items() if any(concerns(event) for event in mine)}
    leads: dict[str, Lead] = {}
    unreadable: dict[str, str] = {}
    added = 0

    def decided(stored: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        nonlocal added, unreadable
        after = decide(concerned, stored, kept=kept, repeat=repeat)
        leads.update(after.leads)
        unreadable = after.unreadable
        added += len(after.changed)
        return after.changed

    rejected = store.update(AD_LEADS, list(concerned), decided, stored)
    reasons = {**{user: refusal.reason for user, refusal in rejected.items()}, **unreadable}
    refused = tuple(Refused(event, reason) for user, reason in reasons.items() for event in concerned[user])
    return Leads({user: lead.all for user, lead in leads.items()}, added, refused)


def concerns(event: Event) -> bool:
    """Whether an event may be a touch, or needs those that there are."""
    return event.ad is not None or (event.order is not None and event.order.sighting)
