"""Customers: what each client did, the orders that are theirs, and who they are."""

from __future__ import annotations

from collections.abc import Iterable

from truepixel_dagster.audit.oracle.attributions import Resolved
from truepixel_dagster.audit.oracle.events import Event
from truepixel_dagster.audit.oracle.ids import payload_of
from truepixel_dagster.audit.oracle.records import Doc
from truepixel_dagster.audit.oracle.times import iso
from truepixel_dagster.audit.oracle.values import add

When = tuple[int, str]


def customers_of(events: Iterable[Event], orders: Iterable[Resolved]) -> dict[str, Doc]:
    """Return the document of each client that is neither anonymous nor a bot."""
    customers: dict[str, Doc] = {}
    said: dict[str, list[tuple[When, str | None, str | None]]] = {}
    for event in sorted(events, key=lambda event: event.origin):
        if event.bot or event.nobody:
            continue
        _see(customers.setdefault(event.user, _new()), event)
        when = (event.occurred_at, event.event_id)
        said.setdefault(event.user, []).append((when, event.content.email_hash, event.content.customer_id))
    for resolved in orders:
        if not resolved.counts:
            continue
        shop, figures = resolved.order.shop, resolved.figures
        if resolved.client is not None:
            customer = customers.setdefault(f"{shop}:{resolved.client}", _new())
            customer["orders"] += 1
            if figures.value is not None:
                add(customer["revenue"], figures.value)
                add(customer["refunded"], {"amount": figures.refunded, "currency": figures.value["currency"]})
        identity = _identity(resolved)
        for candidate in resolved.candidates:
            if identity is not None:
                said.setdefault(f"{shop}:{candidate.client}", []).append(identity)
    for user, identities in said.items():
        _identify(customers.setdefault(user, _new()), identities)
    return customers


def _new() -> Doc:
    return {"events": 0, "orders": 0, "revenue": {}, "refunded": {}}


def _see(customer: Doc, event: Event) -> None:
    at = iso(event.occurred_at)
    customer["first_seen"] = min(customer.get("first_seen", at), at)
    customer["last_seen"] = max(customer.get("last_seen", at), at)
    customer["events"] += 1
    if event.is_visit:
        customer["last_ad"] = event.content.ad


def _identity(resolved: Resolved) -> tuple[When, str | None, str | None] | None:
    """Return whose an order is, by the newest payload that says it, at the time of the newest."""
    payloads = [payload_of(event) for event in resolved.order.payloads]
    if not payloads:
        return None
    when = (payloads[0].updated_at, resolved.order.payloads[0].event_id)
    email_hash = next((payload.email_hash for payload in payloads if payload.email_hash), None)
    customer_id = next((payload.customer_id for payload in payloads if payload.customer_id), None)
    return when, email_hash, customer_id


def _identify(customer: Doc, said: list[tuple[When, str | None, str | None]]) -> None:
    for _, email_hash, customer_id in sorted(said, key=lambda each: each[0]):
        if email_hash is not None:
            customer["email_hash"] = email_hash
        if customer_id is not None:
            customer["customer_id"] = customer_id
