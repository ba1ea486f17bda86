"""Check that every order is attributed, and that its credits sum to its value and to its net."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from truepixel_dagster.events.event import Event, day_of
from truepixel_dagster.health.verdict import EXAMPLES, Verdict, verdict
from truepixel_dagster.orders.event_facts import ids_of
from truepixel_dagster.rebuild.context import RebuildContext
from truepixel_dagster.rebuild.history import WITH_ORDER
from truepixel_dagster.stages import order_clusters
from truepixel_dagster.stages.attribution_document import ATTRIBUTIONS
from truepixel_dagster.stages.settling import rules_of
from truepixel_dagster.stages.stage import ATTRIBUTION
from truepixel_dagster.text import code

DAYS_NAMED = 7
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def rebuild(days: Collection[str]) -> str:
    """Return the advice for wrong orders of some days."""
    named = sorted(days)
    more = f" and {len(named) - DAYS_NAMED} more days" if len(named) > DAYS_NAMED else ""
    # A wrong document may have any text as its day.
    shown = ", ".join(day if _DAY.fullmatch(day) else code(day) for day in named[:DAYS_NAMED])
    return f"Materialize attributions, customers and product_stats for {shown}{more}"


def orders_attributed(context: RebuildContext) -> Verdict:
    """Check for orders in the event history without an attribution although a record that reports them is committed.

    Raises:
        KafkaUnavailable, Unavailable: A server does not answer.
    """
    context.history.refresh()
    sightings = 0
    # By document, because several ids and several pages report one order.
    missing: dict[str, str] = {}
    days: set[str] = set()
    for page in context.history.events(WITH_ORDER):
        reported = {
            id_: event
            for event in page
            if _reports(event)
            and context.stream.is_committed(event.origin)
            and context.stream.passed(ATTRIBUTION, event)
            for id_ in ids_of(event)[:1]
        }
        sightings += len(reported)
        for id_, document in _without_attribution(context, reported).items():
            missing.setdefault(document, id_)
            days.add(day_of(reported[id_].occurred_at))
    examples = list(missing.values())[:EXAMPLES]
    named = ", ".join(map(code, examples[:3]))
    wrong = f"{len(missing)} orders have no attribution, such as {named}" if missing else ""
    return verdict(wrong, rebuild(days), sightings=sightings, missing=len(missing), examples=examples)


def _reports(event: Event) -> bool:
    """Return whether an event reports an order itself."""
    return event.order is not None and not event.bot and bool(event.order.payload or event.order.completion)


def _without_attribution(context: RebuildContext, reported: Mapping[str, Event]) -> dict[str, str]:
    """Return the missing attributions by the reported ids; a deleted order needs none.

    An order without a cluster is named by its reported id.
    """
    store, rules = context.stores.elasticsearch, rules_of(context.settings)
    clusters, _ = order_clusters.readable(order_clusters.read_clusters(reported, context.stores.mongodb))
    wanted = {
        order.document_id: cluster.ids
        for cluster in clusters.values()
        if cluster.merged_into is None
        for order in cluster.orders(rules)
    }
    found = store.mget([(store.index(ATTRIBUTIONS), id_) for id_ in wanted], fields=["shop_id"])
    lacking = {id_: name for (name, ids), doc in zip(wanted.items(), found) if doc is None for id_ in ids}
    known = {id_ for cluster in clusters.values() for id_ in cluster.ids}
    return {id_: lacking.get(id_, id_) for id_ in reported if id_ in lacking or id_ not in known}


def credits_sum(context: RebuildContext) -> Verdict:
    """Check for attributions with a model whose credits do not sum to the order's value or net.

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
    wrong = (
        f"the credits of {uneven_ones} orders do not sum to their value or net, such as {named}" if uneven_ones else ""
    )
    return verdict(wrong, rebuild(days), orders=orders, uneven=uneven_ones, examples=examples)


def uneven(document: Mapping[str, Any]) -> list[str]:
    """Return the models whose credits do not sum to the order's value, or to its net."""
    value = (document.get("value") or {}).get("amount", 0)
    found = document.get("credits") or {}
    net = (document.get("net") or {}).get("amount")
    sums = {model: sum(credit.get("amount", 0) for credit in shares) for model, shares in found.items()}
    nets = {model: sum(credit.get("net", 0) for credit in shares) for model, shares in found.items()}
    return [model for model in found if sums[model] != value or (net is not None and nets[model] != net)]
