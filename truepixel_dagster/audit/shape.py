"""Which documents an audit cannot look into: they lack what every document of the pipeline has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from truepixel_dagster.audit.compare import Actual, Difference

Doc = Mapping[str, Any]
EXPECTED = "a document of the pipeline's"


def well_formed(actual: Actual) -> tuple[Actual, list[Difference]]:
    """Leave out the events and attributions that cannot be looked into; each is a difference."""
    events = {id_: doc for id_, doc in actual.events.items() if _is_event(doc)}
    attributions = {id_: doc for id_, doc in actual.attributions.items() if _is_attribution(doc)}
    odd = [
        Difference(store, id_, "differs", "document", EXPECTED, doc)
        for store, all_, good in (
            ("events", actual.events, events),
            ("attributions", actual.attributions, attributions),
        )
        for id_, doc in all_.items()
        if id_ not in good
    ]
    return replace(actual, events=events, attributions=attributions), odd


def _is_event(doc: Doc) -> bool:
    texts = (doc.get(name) for name in ("shop_id", "client_id", "occurred_at", "source"))
    return _is_origin(doc.get("kafka")) and all(isinstance(text, str) for text in texts)


def _is_attribution(doc: Doc) -> bool:
    sightings, touches = doc.get("sightings"), doc.get("touches") or []
    if not isinstance(sightings, list) or not sightings or not isinstance(touches, list):
        return False
    named = all(isinstance(entry, Mapping) and {"event_id", "client_id"} <= entry.keys() for entry in sightings)
    entries = [*sightings, *touches]
    return named and "shop_id" in doc and all(_is_origin(entry.get("kafka")) for entry in entries)


def _is_origin(kafka: Any) -> bool:
    return isinstance(kafka, Mapping) and all(isinstance(kafka.get(name), int) for name in ("partition", "offset"))
