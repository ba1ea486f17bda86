"""Stored attributions: read documents of any version, and write them without losing unknown fields."""

from __future__ import annotations

from typing import Any

import msgspec

from truepixel_dagster.orders.document import AttributedTouch, Attribution, SightingEntry
from truepixel_dagster.stores.documents import SCHEMA, Document, Reader
from truepixel_dagster.stores.elasticsearch import Found

ATTRIBUTIONS = "attributions"


def _filled(found: dict[str, Any]) -> dict[str, Any]:
    """Return an attribution with defaults for missing fields."""
    for touch in found.get("touches", ()):
        touch["event_id"] = touch.get("event_id", "")
        touch["ad"] = {"platform": "unknown", **touch.get("ad", {})}
    head = {"occurred_at": "1970-01-01T00:00:00.000Z", "status": "open", "touches": [], "sightings": [], **found}
    for sighting in head["sightings"]:
        sighting.update({"source": "pixel", "event_id": "", **sighting})
    return {"window_days": 30, "half_life_days": 7.0, "credits": {}, **head}


ATTRIBUTION = Reader(Attribution, f"Elasticsearch {ATTRIBUTIONS}", _filled)


def stored_attribution(there: Found) -> Attribution:
    """Return the attribution of a stored document.

    Raises:
        Unreadable: The document cannot be read.
    """
    shop = {"shop_id": there.id.partition(":")[0]}
    return ATTRIBUTION.read(there.id, there.source if "shop_id" in there.source else {**shop, **there.source})


def updated(after: Attribution, there: Found | None) -> bytes | None:
    """Return an attribution as JSON, with the unknown fields of the stored document; None if nothing changes.

    Arguments:
        after: The new attribution.
        there: The stored document; None for a new one.

    Raises:
        Unreadable: A newer version wrote the stored document, or it has another shape.
    """
    after = msgspec.structs.replace(after, schema=SCHEMA)
    if there is None:
        return msgspec.json.encode(after)
    stored_attribution(there)
    before = there.source
    new: dict[str, Any] = {**ATTRIBUTION.unknown(before), **msgspec.json.decode(msgspec.json.encode(after))}
    for name in ("sightings", "touches"):
        known = {_place(entry): entry for entry in before.get(name) or () if entry and _place(entry)}
        new[name] = [{**_unknown(name, known.get(_place(entry), {})), **entry} for entry in new[name]]
    if "order_id" not in new and before.get("order_id"):
        # No record names this id: the first edition or an import added it.
        new["order_id"] = before["order_id"]
    for name in ("value", "credits", "refunded", "net"):
        if name in new:
            new[name] = {**(before.get(name) or {}), **new[name]}
    return None if new == before else msgspec.json.encode(new)


# Fields that the first edition of the data contract stored with a sighting; the facts of the order have them now.
_OF_FIRST_EDITION = frozenset({"touches", "order_id", "checkout_token", "value"})
# Fields of this version are replaced; fields that it does not know survive.
_OWN = {
    "sightings": _OF_FIRST_EDITION.union(field.name for field in msgspec.structs.fields(SightingEntry)),
    "touches": frozenset(field.name for field in msgspec.structs.fields(AttributedTouch)),
}


def _unknown(name: str, entry: Document) -> dict[str, Any]:
    return {field: value for field, value in entry.items() if field not in _OWN[name]}


def _place(entry: Document) -> tuple[int, int] | None:
    kafka = entry.get("kafka")
    return (kafka["partition"], kafka["offset"]) if kafka else None
