"""Excuse differences that exist only because the registry of shops changed while a shop's events were counted.

A change of the registry affects later events, and earlier ones after materializing. The oracle uses the current
registry. So if it changed after a shop's first judged record, the stores may hold what was right before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import Any

import msgspec

from truepixel_dagster.audit.compare import Actual, Difference
from truepixel_dagster.audit.oracle import Expected, Shop
from truepixel_dagster.audit.scope import Outside
from truepixel_dagster.stores.shops import Known

Docs = Mapping[str, Mapping[str, Any]]
_COUNTS = ("views", "carts", "checkouts", "orders", "units", "returned_units")
_AMOUNTS = ("revenue", "returned_revenue")
# The fields by store that depend on which visits come from outside and on the platforms' names; None means all fields.
_OF_ORIGINS: dict[str, frozenset[str] | None] = {
    "events": frozenset({"ad", "channel"}),
    "ad_leads": None,
    "attributions": frozenset({"touches", "credits", "client_id"}),
    "customers": frozenset({"last_ad", "orders", "revenue", "refunded", "customer_id", "email_hash"}),
}


class Changed(msgspec.Struct, frozen=True):
    """Hold the shops that changed after their first record: their time zone, or their domains, hosts and aliases."""

    zones: AbstractSet[str] = frozenset()
    origins: AbstractSet[str] = frozenset()


def oracle_shops(known: Mapping[str, Known]) -> dict[str, Shop]:
    """Return the registered shops in the form that the oracle takes."""
    shops = {id_: each.shop for id_, each in known.items()}
    return {
        # A visitor who returns from a payment page does not come from outside either.
        id_: Shop(shop.time_zone, tuple(sorted(shop.domains | shop.payment_hosts)), shop.aliases)
        for id_, shop in shops.items()
    }


def changed_since(known: Mapping[str, Known], first: Mapping[str, int]) -> Changed:
    """Return what changed after the first record of each shop.

    Arguments:
        known: The registry.
        first: When the first judged record of each shop was written to Kafka, in milliseconds since the epoch.
    """
    return Changed(
        frozenset(id_ for id_, at in first.items() if id_ in known and _is_later(known[id_].since, at)),
        frozenset(id_ for id_, at in first.items() if id_ in known and _is_later(known[id_].origins_since, at)),
    )


def _is_later(since: int | None, at: int) -> bool:
    return since is not None and since >= at


def excused(
    found: Iterable[Difference], expected: Expected, actual: Actual, changed: Changed, left_out: Outside
) -> list[Difference]:
    """Return the differences that a change of the registry alone may explain.

    A day's counts are excused only if the product's counts over all days are as expected: a moved event is still on one
    day. A week's visitors are excused if they are an estimate, or if only one side has the week.

    Arguments:
        found: All differences.
        expected: The judged documents that the oracle expects.
        actual: The judged documents of the stores.
        changed: The changes of the registry.
        left_out: What is not judged.
    """
    balanced: dict[str, bool] = {}

    def is_moved(id_: str) -> bool:
        product = id_.rpartition(":")[0]
        if product not in balanced:
            balanced[product] = _is_balanced(product, expected.product_stats, actual.product_stats, left_out)
        return balanced[product]

    def is_excused(difference: Difference) -> bool:
        shop = difference.id.partition(":")[0]
        if shop in changed.zones and difference.store == "product_stats":
            return is_moved(difference.id)
        if shop in changed.zones and difference.store == "weekly_visitors":
            return actual.weekly_visitors.get(difference.id, {}).get("exact") is not True
        if shop not in changed.origins or difference.store not in _OF_ORIGINS:
            return False
        fields = _OF_ORIGINS[difference.store]
        return fields is None or difference.top_field in fields

    return [difference for difference in found if is_excused(difference)]


def _is_balanced(product: str, expected: Docs, actual: Docs, left_out: Outside) -> bool:
    """Return whether a product's counts over all days are as expected, or unknown because some are not judged."""
    shop, _, name = product.partition(":")
    if (shop, name) in left_out.products or any(id_.rpartition(":")[0] == product for id_ in left_out.product_days):
        return True
    return _sums(product, expected) == _sums(product, actual)


def _sums(product: str, docs: Docs) -> dict[str, int]:
    sums: Counter[str] = Counter()
    for id_, doc in docs.items():
        if id_.rpartition(":")[0] == product:
            sums.update({name: doc.get(name) or 0 for name in _COUNTS})
            for name in _AMOUNTS:
                sums.update({f"{name}:{currency}": amount for currency, amount in (doc.get(name) or {}).items()})
    return {name: amount for name, amount in sums.items() if amount}
