"""Find duplicates: the first record of an event id counts, and the others are duplicates."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from collections.abc import Set as AbstractSet

from truepixel_dagster.audit.oracle.events import Event
from truepixel_dagster.audit.oracle.records import Origin


def without_duplicates(
    decoded: list[Event], winners: Mapping[str, Origin], late: AbstractSet[Origin], duplicate_origins: set[Origin]
) -> list[Event]:
    """Return the first record of each event id; `duplicate_origins` gets the origins of the others."""
    same_id: dict[str, list[Event]] = defaultdict(list)
    for event in decoded:
        same_id[event.id].append(event)
    kept = {id_: _first(events, winners.get(id_), late).origin for id_, events in same_id.items()}
    duplicate_origins.update(event.origin for event in decoded if event.origin != kept[event.id])
    return [event for event in decoded if event.origin == kept[event.id]]


def _first(events: list[Event], winner: Origin | None, late: AbstractSet[Origin]) -> Event:
    """Return the first event: the one that the caller names, if it is late or the first of its partition.

    Otherwise it is the first that was read.
    """
    first_of_partition: dict[int, Event] = {}
    for event in events:
        if event.origin not in late:
            first_of_partition.setdefault(event.partition, event)
    for event in (*first_of_partition.values(), *(event for event in events if event.origin in late)):
        if event.origin == winner:
            return event
    return events[0]
