"""Clusters of orders as documents in MongoDB: read them with those into which they were merged, and write them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from truepixel_dagster.orders.cluster import Cluster
from truepixel_dagster.stores.documents import SCHEMA, Reader, Unreadable
from truepixel_dagster.stores.mongodb import ORDERS, MongoStore

CLUSTER = Reader(Cluster, f"MongoDB {ORDERS}")


def read_clusters(ids: Iterable[str], mongodb: MongoStore) -> dict[str, dict[str, Any]]:
    """Return the clusters that have one of the ids, and those into which one of these was merged."""
    found = mongodb.find_by(ORDERS, "ids", ids)
    while missing := {to for doc in found.values() if (to := doc.get("merged_into")) and to not in found}:
        more = mongodb.read(ORDERS, missing)
        if not more:
            break
        found |= more
    return found


def readable(stored: Mapping[str, Mapping[str, Any]]) -> tuple[dict[str, Cluster], dict[str, str]]:
    """Return the clusters by id, and the reasons for documents that cannot be read."""
    clusters: dict[str, Cluster] = {}
    unreadable: dict[str, str] = {}
    for id_, document in stored.items():
        try:
            clusters[id_] = CLUSTER.read(id_, document)
        except Unreadable as error:
            unreadable[id_] = str(error)
    return clusters, unreadable


def as_document(cluster: Cluster, before: Mapping[str, Any]) -> dict[str, Any]:
    """Return a cluster as a document, with the unknown fields of the stored one."""
    own: dict[str, Any] = msgspec.to_builtins(msgspec.structs.replace(cluster, schema=SCHEMA))
    return {**CLUSTER.unknown(before), **own}
