"""The client of an order, and the touches that led to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from truepixel_dagster.audit.oracle.events import Event
from truepixel_dagster.audit.oracle.figures import Figures
from truepixel_dagster.audit.oracle.ids import Order, checkout_of, payload_of
from truepixel_dagster.audit.oracle.records import Origin
from truepixel_dagster.audit.oracle.times import DAY_MS, MINUTE_MS
from truepixel_dagster.audit.oracle.touches import Touch
from truepixel_dagster.audit.oracle.values import is_nobody

# How surely a record names the client of an order, surest first.
COMPLETED, CHECKOUT, NOTED, KEY = range(4)
CLOCKS_GRACE_MS = 5 * MINUTE_MS


@dataclass
class Candidate:
    """A client that records of an order name: how surely, since when, and the client's last such record."""

    client: str
    rank: int
    naming: list[Event] = field(default_factory=list)
    bound: Origin | None = None
    known: list[Touch] = field(default_factory=list)
    journey: list[Touch] = field(default_factory=list)

    def sureness(self) -> tuple[int, tuple[int, str], str]:
        """Return the sort key: the surest naming is lowest, then the earliest, or the latest of begun checkouts."""
        times = sorted((event.occurred_at, event.event_id) for event in self.naming)
        since = (-times[-1][0], "") if self.rank == CHECKOUT else times[0]
        return self.rank, since, self.client


def candidates_of(
    order: Order, figures: Figures, touches: Mapping[str, list[Touch]], kept: int, window_days: int, most: int
) -> list[Candidate]:
    """Return the clients that the order's records name, its own client first.

    If there are more than `most`, keep the surest, clients with visits first.
    """
    found: dict[str, Candidate] = {}
    for client, rank, event in _namings(order):
        if is_nobody(client):
            continue
        candidate = found.setdefault(client, Candidate(client, rank))
        if rank < candidate.rank:
            candidate.rank, candidate.naming = rank, []
        if rank == candidate.rank:
            candidate.naming.append(event)
        if rank != NOTED:
            candidate.bound = max(candidate.bound or event.origin, event.origin)
    for candidate in found.values():
        own = touches.get(f"{order.shop}:{candidate.client}", [])
        candidate.known = _known(own, candidate.bound, kept)
        candidate.journey = _journey(candidate.known, figures.at, window_days)
    surest = sorted(found.values(), key=lambda each: (not each.known, each.sureness()))[:most]
    return sorted(surest, key=lambda each: (not each.journey, each.sureness()))


def _namings(order: Order) -> list[tuple[str, int, Event]]:
    seen = [(event.client, COMPLETED if checkout_of(event).completed else CHECKOUT, event) for event in order.checkouts]
    noted = [(client, NOTED, event) for event in order.payloads if (client := payload_of(event).noted_client)]
    keys = [(event.client, KEY, event) for event in (*order.payloads, *order.refunds)]
    return [*seen, *noted, *keys]


def _known(touches: list[Touch], bound: Origin | None, kept: int) -> list[Touch]:
    """Return the newest touches before the client's last record that names the order."""
    return [touch for touch in touches if bound is None or (touch.origin or bound) <= bound][-kept:]


def _journey(known: list[Touch], ordered_at: int, window_days: int) -> list[Touch]:
    """Return the known touches within the window of the order's time."""
    earliest, latest = ordered_at - window_days * DAY_MS, ordered_at + CLOCKS_GRACE_MS
    return [touch for touch in known if earliest <= touch.at <= latest]


def landing_touch(order: Order, figures: Figures) -> list[Touch]:
    """Return the landing page in the order's webhook, which an order placed online has if it has no other touch."""
    for event in order.payloads:
        payload = payload_of(event)
        if payload.has_landing:
            if payload.landing is None:
                return []
            return [Touch(event.event_id, figures.at, payload.landing, payload.landing_referrer)]
    return []
