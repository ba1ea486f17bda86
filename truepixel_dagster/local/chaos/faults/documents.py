"""Documents of another shape than the pipeline writes, as an import or a newer version would leave them."""

from __future__ import annotations

from random import Random

from truepixel_dagster.local.chaos.faults.hit import Hit, ended
from truepixel_dagster.local.chaos.pipeline import Pipeline
from truepixel_dagster.local.chaos.visits import visit
from truepixel_dagster.local.chaos.waiting import RECOVERY_SECONDS, ChaosFailed
from truepixel_dagster.stores.mongodb import AD_LEADS, CUSTOMERS

NEWER, KEPT = "of_a_newer_version", {"kept": [1, "two", None]}


def odd(pipeline: Pipeline, rng: Random) -> Hit:
    """Documents with fields of a newer version, which stay, and an unreadable one, whose events wait"""
    shop = f"odd-{rng.getrandbits(40):x}"
    newer, broken = (f"{shop}.myshopify.com:client-{client}" for client in range(2))
    with pipeline.mongodb() as client:
        leads, customers = (client[pipeline.settings.database][name] for name in (AD_LEADS, CUSTOMERS))
        _visited(pipeline, shop, 0)
        for store in (leads, customers):
            store.update_one({"_id": newer}, {"$set": {NEWER: KEPT}})
        touches = (leads.find_one({"_id": broken}) or {})["touches"]
        leads.update_one({"_id": broken}, {"$set": {"touches": "none that anybody could read"}})
        _visited(pipeline, shop, 1)
        for store in (leads, customers):
            if (store.find_one({"_id": newer}) or {}).get(NEWER) != KEPT:
                raise ChaosFailed(f"{store.name} {newer}: an unknown field was lost")
        leads.update_one({"_id": broken}, {"$set": {"touches": touches}})
    pipeline.operate("dead-letters", "replay", "--shop", f"{shop}.myshopify.com", "--yes")
    return ended("documents of another shape: unknown fields kept, one dead letter reprocessed")


def _visited(pipeline: Pipeline, shop: str, number: int) -> None:
    """Return a new visit of both users, each time from another ad."""
    pipeline.send(visit(shop, 2 * number + client, client=client, campaign=f"c{number}") for client in range(2))
    if not pipeline.wait_until_processed(pipeline.high(), RECOVERY_SECONDS):
        raise ChaosFailed(f"the events of {shop} were not processed")
