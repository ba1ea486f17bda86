"""Which differences come of nothing but that a shop became known, or known differently, while its events were counted.

A change of the registry takes effect from then on, and for the past by materializing. The oracle goes by the registry
as it is; so where it changed after a shop's first record that is judged, the stores may hold what was right before.
"""

from __future__ import annotations

import re
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
# What depends on which visits come from outside, and on the platforms' names, by store; None for everything.
_OF_ORIGINS: dict[str, frozenset[str] | None] = {
    "events": frozenset({"ad", "channel"}),
    "ad_leads": None,
    "attributions": frozenset({"touches", "credits", "client_id"}),
    "customers": frozenset({"last_ad", "orders", "revenue", "refunded", "customer_id", "email_hash"}),
}


class Changed(msgspec.Struct, frozen=True):
    """The shops of which something changed after their first record: the time zone, or domains, hosts and aliases."""

    zones: AbstractSet[str] = frozenset()
    origins: AbstractSet[str] = frozenset()


def oracle_shops(known: Mapping[str, Known]) -> dict[str, Shop]:
    """Return the registered shops in the form that the oracle takes."""
    shops = {id_: each.shop for id_, each in known.items()}
    return {
        # Who comes back from paying is not from outside either.
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
    """Return the differences that may come of nothing but a change of the registry.

    A day's counts are excused only where a product's counts over all days are as expected: an event that is on another
    day is on one day. A week's visitors are excused where they are an estimate or the week is there on one side only.

    Arguments:
        found: All differences.
        expected: What is judged, as the oracle expects it.
        actual: The same, as the stores hold it.
        changed: What changed.
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
        field = re.split(r"[.\[]", difference.path)[0]
        return fields is None or field in fields

    return [difference for difference in found if is_excused(difference)]


def _is_balanced(product: str, expected: Docs, actual: Docs, left_out: Outside) -> bool:
    """Whether a product's counts over all days are as expected, or cannot be told because some are not judged."""
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
