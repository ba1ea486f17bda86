"""Limit the number of an order's ids: anybody can send pixel events, and must not fill its document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from truepixel_dagster.orders.cluster import Cluster, Group
from truepixel_dagster.orders.event_facts import ids_of
from truepixel_dagster.stages.refused import Refused

PIXEL = "pixel"


def beyond(group: Group, most: int) -> list[Refused]:
    """Return the pixel events that would give an order more ids than the limit.

    Webhooks always count, and so do events that name only ids that the order has.
    """
    homes = {id_: _home(name, group.clusters) for name, cluster in group.clusters.items() for id_ in cluster.ids}
    if len(homes) + len(group.ids) <= most:
        return []
    for event in group.events:
        if event.source != PIXEL:
            _settle_in(homes, ids_of(event))
    found: list[Refused] = []
    for event in group.events:
        places = {homes.get(id_) for id_ in ids_of(event)}
        adds = len(places) > 1 or None in places
        if event.source == PIXEL and adds and len(homes.keys() | ids_of(event)) > most:
            reason = f"pixel events may add no id to an order with {len(homes)} ids (TRUEPIXEL_IDS_PER_ORDER={most})"
            found.append(Refused(event, reason))
        else:
            _settle_in(homes, ids_of(event))
    return found


def _home(id_: str, clusters: Mapping[str, Cluster]) -> str:
    """Return the id of the cluster that a cluster was merged into, or is being merged into."""
    seen = {id_}
    while (into := clusters[id_].merged_into) and into in clusters and into not in seen:
        id_ = into
        seen.add(id_)
    return id_


def _settle_in(homes: dict[str, str], ids: Sequence[str]) -> None:
    """Assign new ids to the cluster of the known ids beside them."""
    home = next((homes[id_] for id_ in ids if id_ in homes), ids[0])
    for id_ in ids:
        homes.setdefault(id_, home)
