"""Find the documents that an audit cannot read: they lack what every document of the pipeline has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from truepixel_dagster.audit.compare import Actual, Difference

Doc = Mapping[str, Any]
EXPECTED = "a document of the pipeline's"


def well_formed(actual: Actual) -> tuple[Actual, list[Difference]]:
    """Leave out the events and attributions that cannot be read; each is a difference."""
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
    texts = (doc.get(name) for name in ("shop_id", "client_id", "source"))
    return _is_origin(doc.get("kafka")) and all(isinstance(text, str) for text in texts) and _is_dated(doc)


def _is_attribution(doc: Doc) -> bool:
    sightings, touches = doc.get("sightings"), doc.get("touches") or []
    if not isinstance(sightings, list) or not sightings or not isinstance(touches, list):
        return False
    named = all(isinstance(entry, Mapping) and "event_id" in entry for entry in sightings)
    # The landing page in a webhook has no record of its own.
    places = [*(entry.get("kafka") for entry in sightings), *(entry["kafka"] for entry in touches if "kafka" in entry)]
    return named and isinstance(doc.get("shop_id"), str) and _is_dated(doc) and all(map(_is_origin, places))


def _is_dated(doc: Doc) -> bool:
    """Return whether a document has a time, and whether its ids and products, if any, can be looked up."""
    ids = [doc.get(name) for name in ("order_id", "checkout_token", "cart_token")]
    products = doc.get("product_ids") or []
    if not isinstance(products, list) or not all(id_ is None or isinstance(id_, str) for id_ in [*ids, *products]):
        return False
    try:
        return bool(datetime.fromisoformat(str(doc.get("occurred_at")).replace("Z", "+00:00")))
    except ValueError:
        return False


def _is_origin(kafka: Any) -> bool:
    return isinstance(kafka, Mapping) and all(isinstance(kafka.get(name), int) for name in ("partition", "offset"))
