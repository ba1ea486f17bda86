"""Check the journeys of the lake against the stream's attributions, for orders whose touches are all of one client."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from truepixel_dagster.answers.journeys import ALL_MODELS
from truepixel_dagster.answers.tables import JOURNEYS
from truepixel_dagster.chunks import chunks
from truepixel_dagster.health.verdict import EXAMPLES, Verdict, verdict
from truepixel_dagster.lake.arrow import Row
from truepixel_dagster.orders.credit import MODELS
from truepixel_dagster.rebuild.journeys import JOURNEYS_MAKER
from truepixel_dagster.rebuild.lake import Tools, stale_days
from truepixel_dagster.stages.attribution_document import ATTRIBUTIONS
from truepixel_dagster.text import code

_DAYS_NAMED = 7
_ORDERS_AT_ONCE = 500
_FIELDS = ["client_id", "credits", "value", "net"]


def journeys_match(tools: Tools) -> Verdict:
    """Compare each day of `journeys` that is not stale with the attributions.

    For each order, the rows must sum to its value and net by every model. If all touches are of the order's own client,
    the credits by the stream's models must equal the stream's. Days that become stale meanwhile are left out.

    Raises:
        LakeError: A file is being replaced.
        OSError, Unavailable: A disk, bucket or server does not answer.
    """
    days = tools.lake.days(JOURNEYS)
    stale = _stale(tools, days)
    orders = across = 0
    wrong: dict[tuple[str, str], list[str]] = {}
    for day in days:
        for shop in tools.lake.shops(JOURNEYS, day):
            if (day, shop) in stale:
                continue
            for order, rows, document in _with_attributions(tools, shop, tools.lake.read(JOURNEYS, day, shop)):
                orders += 1
                is_across = any(row["client_id"] != document.get("client_id") for row in rows)
                across += is_across
                if not (_sums_are_right(rows, document) and (is_across or _credits_are_right(rows, document))):
                    wrong.setdefault((day, shop), []).append(f"{shop}:{order}")
    now = _stale(tools, days) if wrong else stale
    found = {place: names for place, names in wrong.items() if place not in now}
    examples = [name for names in found.values() for name in names]
    named = ", ".join(map(code, examples[:3]))
    said = (
        f"the journeys of {len(examples)} orders differ from the stream's attributions, such as {named}"
        if found
        else ""
    )
    advice = f"Materialize journeys for {', '.join(sorted({day for day, _ in found})[:_DAYS_NAMED])}"
    return verdict(
        said, advice, orders=orders, across_devices=across, stale_files=len(now), examples=examples[:EXAMPLES]
    )


def _stale(tools: Tools, days: Sequence[str]) -> set[tuple[str, str]]:
    """Return the days and shops whose journeys are older than their attributions."""
    stale = stale_days(tools, [JOURNEYS_MAKER], days).get(JOURNEYS.name, {})
    return {(day, shop) for day, shops in stale.items() for shop in shops}


def _with_attributions(tools: Tools, shop: str, rows: Sequence[Row]) -> list[tuple[str, list[Row], Mapping[str, Any]]]:
    by_order = {order: list(own) for order, own in groupby(rows, key=lambda row: str(row["attribution"]))}
    store = tools.stores.elasticsearch
    found: dict[str, Mapping[str, Any]] = {}
    for names in chunks(by_order, _ORDERS_AT_ONCE):
        places = [(store.index(ATTRIBUTIONS), f"{shop}:{name}") for name in names]
        documents = store.mget(places, fields=_FIELDS)
        found.update({name: document.source if document else {} for name, document in zip(names, documents)})
    return [(order, own, found[order]) for order, own in by_order.items()]


def _credits_are_right(rows: Sequence[Row], document: Mapping[str, Any]) -> bool:
    return all(_credited(rows, model) == _stored(document, model) for model in MODELS)


def _credited(rows: Sequence[Row], model: str) -> dict[str | None, tuple[int, int]]:
    found = {row["event_id"]: (row[model], row[f"{model}_net"]) for row in rows}
    return {event: each for event, each in found.items() if any(each)}


def _stored(document: Mapping[str, Any], model: str) -> dict[str | None, tuple[int, int]]:
    """Return the credits of a document; in the first edition they have no net, so the net is the amount."""
    credits_ = document.get("credits", {}).get(model, ())
    found = {each.get("event_id"): (each["amount"], each.get("net", each["amount"])) for each in credits_}
    return {event: each for event, each in found.items() if any(each)}


def _sums_are_right(rows: Sequence[Row], document: Mapping[str, Any]) -> bool:
    value = (document.get("value") or {}).get("amount", 0)
    net = (document.get("net") or {}).get("amount", value)
    return all(
        (sum(row[model] for row in rows), sum(row[f"{model}_net"] for row in rows)) == (value, net)
        for model in ALL_MODELS
    )
