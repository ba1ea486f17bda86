"""Is every order attributed, and do the credits of each sum to its value?"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from truepixel_dagster.events.event import day_of
from truepixel_dagster.health.verdict import EXAMPLES, Verdict, verdict
from truepixel_dagster.rebuild.context import Context
from truepixel_dagster.rebuild.history import WITH_ORDER
from truepixel_dagster.stages.attribution import ATTRIBUTIONS
from truepixel_dagster.text import code

DAYS_NAMED = 7
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def rebuild(days: Collection[str]) -> str:
    """What to do about orders of some days that are wrong."""
    named = sorted(days)
    more = f" and {len(named) - DAYS_NAMED} more days" if len(named) > DAYS_NAMED else ""
    # A document may hold anything in the place of its day.
    shown = ", ".join(day if _DAY.fullmatch(day) else code(day) for day in named[:DAYS_NAMED])
    return f"Materialize attributions, customers and product_stats for {shown}{more}"


def orders_attributed(context: Context) -> Verdict:
    """Look for orders in the event history that have no attribution though their sighting is committed.

    Raises:
        KafkaUnavailable, Unavailable: A server does not answer.
    """
    store = context.stores.elasticsearch
    context.history.refresh()
    sightings = missing = 0
    examples: list[str] = []
    days: set[str] = set()
    for page in context.history.events(WITH_ORDER):
        seen = {
            event.attribution_id: event
            for event in page
            if event.order
            and event.order.sighting
            and context.settled.is_committed(event.origin)
            and context.settled.passed("attribution", event)
        }
        ids = [id_ for id_ in seen if id_]
        sightings += len(ids)
        found = store.mget([(store.index(ATTRIBUTIONS), id_) for id_ in ids], fields=["shop_id"])
        absent = [id_ for id_, doc in zip(ids, found) if doc is None]
        missing += len(absent)
        days.update(day_of(seen[id_].occurred_at) for id_ in absent)
        examples += absent[: EXAMPLES - len(examples)]
    wrong = f"{missing} orders have no attribution, such as {', '.join(map(code, examples[:3]))}" if missing else ""
    return verdict(wrong, rebuild(days), sightings=sightings, missing=missing, examples=examples)


def credits_sum(context: Context) -> Verdict:
    """Look for attributions with a model whose credits do not sum to the order's value.

    Raises:
        Unavailable: Elasticsearch does not answer.
    """
    store = context.stores.elasticsearch
    store.refresh()
    orders = uneven_ones = 0
    examples: list[str] = []
    days: set[str] = set()
    for hit in store.scan(ATTRIBUTIONS, fields=["value", "credits", "occurred_at"]):
        orders += 1
        models = uneven(hit["_source"])
        if models:
            uneven_ones += 1
            days.add(str(hit["_source"].get("occurred_at", "unknown"))[:10])
            if len(examples) < EXAMPLES:
                examples.append(f"{hit['_id']} ({', '.join(models)})")
    named = ", ".join(map(code, examples[:3]))
    wrong = f"the credits of {uneven_ones} orders do not sum to their value, such as {named}" if uneven_ones else ""
    return verdict(wrong, rebuild(days), orders=orders, uneven=uneven_ones, examples=examples)


def uneven(attribution: Mapping[str, Any]) -> list[str]:
    """The models whose credits do not sum to the order's value."""
    value = (attribution.get("value") or {}).get("amount", 0)
    found = attribution.get("credits") or {}
    sums = {model: sum(credit.get("amount", 0) for credit in shares) for model, shares in found.items()}
    return [model for model, total in sums.items() if total != value]
