"""The status that an order's payload shows, and the order of its payloads by age."""

from __future__ import annotations

from truepixel_dagster.audit.oracle.events import Event, Payload

# Of two payloads of one moment the later status wins.
RANKS = ("open", "paid", "partially_refunded", "refunded", "cancelled", "voided")


def status_of(payload: Payload) -> str:
    """Return the status that a payload shows by itself."""
    if payload.financial_status == "voided":
        return "voided"
    if payload.cancelled:
        return "cancelled"
    if payload.financial_status in ("refunded", "partially_refunded", "paid"):
        return payload.financial_status
    return "open"


def version(event: Event) -> tuple[int, int, str]:
    """Return the sort key by age: the time of the update, then the later status, then the higher event id."""
    payload = event.content.payload
    if payload is None:
        raise TypeError(f"{event.id} is no order payload")
    return payload.updated_at, RANKS.index(status_of(payload)), event.event_id
