"""Stage 4: the profile of every customer.

A document holds the last applied offset of each partition, so that an event counts once however often it is replayed
and however the batches are cut.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import msgspec

from truepixel_dagster.events.event import Event, iso
from truepixel_dagster.events.origin import Origin
from truepixel_dagster.stages.refused import Refused
from truepixel_dagster.stores.mongodb import CUSTOMERS, MongoStore


def apply(
    stored: Mapping[str, Any] | None, events: Sequence[Event], counted: AbstractSet[Origin]
) -> dict[str, Any] | None:
    """A customer's document after events; None where all of them had been applied.

    Arguments:
        stored: The document before; None for a new customer.
        events: The customer's events, in offset order.
        counted: The origins of the events that count an order.
    """
    document = dict(stored) if stored else {}
    applied = dict(document.get("applied", {}))
    new = [event for event in events if event.origin.offset > applied.get(str(event.origin.partition), -1)]
    if not new:
        return None
    times = [iso(event.occurred_at) for event in new]
    document["shop_id"], document["client_id"] = new[0].shop_id, new[0].client_id
    document["first_seen"] = min([*times, document.get("first_seen", times[0])])
    document["last_seen"] = max([*times, document.get("last_seen", times[0])])
    document["events"] = document.get("events", 0) + len(new)
    orders = [event for event in new if event.origin in counted]
    document["orders"] = document.get("orders", 0) + len(orders)
    document["revenue"] = _revenue(document.get("revenue", {}), orders)
    for event in new:
        applied[str(event.origin.partition)] = event.origin.offset
        if event.ad:
            document["last_ad"] = msgspec.to_builtins(event.ad)
        document["email_hash"] = event.email_hash or document.get("email_hash")
        document["customer_id"] = event.customer_id or document.get("customer_id")
    document["applied"] = applied
    return document


def _revenue(before: Mapping[str, int], orders: Sequence[Event]) -> dict[str, int]:
    revenue = dict(before)
    for event in orders:
        if event.value:
            revenue[event.value.currency] = revenue.get(event.value.currency, 0) + event.value.amount
    return revenue


def run(events: Mapping[str, Sequence[Event]], counted: AbstractSet[Origin], store: MongoStore) -> tuple[Refused, ...]:
    """Apply events to their customers' documents: one read and one write.

    Arguments:
        events: The events that run on, by user, in offset order.
        counted: Stage 3's result: the origins of the events that count an order.
        store: Where the customers are.

    Returns:
        The events of documents that MongoDB refused.

    Raises:
        Unavailable: MongoDB does not answer.
    """

    def decide(stored: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        after = {user: apply(stored.get(user), mine, counted) for user, mine in events.items()}
        return {user: document for user, document in after.items() if document is not None}

    rejected = store.update(CUSTOMERS, list(events), decide)
    return tuple(Refused(event, refusal.reason) for user, refusal in rejected.items() for event in events[user])
