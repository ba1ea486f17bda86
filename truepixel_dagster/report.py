"""What a merchant asks first: which platforms and campaigns brought orders and revenue, who visited, what sells."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timezone

import msgspec

from truepixel_dagster.stores.elasticsearch import ElasticsearchStore

MODELS = ("last_click", "first_click", "linear", "time_decay", "position_based")
BEST_PRODUCTS = 10
BUSIEST_SHOPS = 10


class Source(msgspec.Struct, frozen=True):
    """One platform and campaign: the orders that it has a credit of, and its credited revenue in minor units."""

    platform: str
    campaign: str | None
    currency: str
    orders: int
    revenue: int


class Product(msgspec.Struct, frozen=True):
    """One product over all days; revenue in minor units by currency."""

    product_id: str
    units: int
    orders: int
    views: int
    revenue: dict[str, int]


class ShopReport(msgspec.Struct, frozen=True):
    """One shop's report under one attribution model."""

    shop: str
    model: str
    week: str
    visitors: int
    orders: int
    sources: list[Source]
    products: list[Product]

    @property
    def empty(self) -> bool:
        """Whether it says nothing of the shop."""
        return not (self.orders or self.visitors or self.products)


def busiest_shops(store: ElasticsearchStore) -> list[str]:
    """The ids of the shops with most events, at most ten.

    Raises:
        Unavailable: Elasticsearch does not answer.
    """
    return store.most_common("events-", "shop_id", BUSIEST_SHOPS)


def shop_report(store: ElasticsearchStore, shop: str, model: str, now: datetime | None = None) -> ShopReport:
    """Read one shop's report from the stores.

    Arguments:
        store: Where the documents are.
        shop: The shop id.
        model: One of `MODELS`.
        now: The moment whose ISO week is "this week"; the clock's by default.
    """
    store.refresh()
    of_shop = {"term": {"shop_id": shop}}
    orders: Counter[tuple[str, str | None, str]] = Counter()
    revenue: Counter[tuple[str, str | None, str]] = Counter()
    total = 0
    for hit in store.scan("attributions", of_shop):
        doc = hit["_source"]
        total += 1
        currency = (doc.get("value") or {}).get("currency", "")
        # An import may have been credited by nobody.
        own = doc.get("credits", {}).get(model, ())
        shares = [((c.get("platform", ""), c.get("campaign"), currency), c.get("amount", 0)) for c in own]
        orders.update({key for key, amount in shares if amount})
        for key, amount in shares:
            revenue[key] += amount
    sources = [Source(*key, orders=orders[key], revenue=amount) for key, amount in revenue.most_common() if orders[key]]
    year, week, _ = (now or datetime.now(timezone.utc)).isocalendar()
    this_week = f"{year}-W{week:02d}"
    (visitors,) = store.mget([(store.index("weekly-visitors"), f"{shop}:{this_week}")])
    return ShopReport(
        shop=shop,
        model=model,
        week=this_week,
        visitors=visitors.source.get("visitors", 0) if visitors else 0,
        orders=total,
        sources=sources,
        products=_best_products(store, shop),
    )


def _best_products(store: ElasticsearchStore, shop: str) -> list[Product]:
    counts: dict[str, Counter[str]] = {}
    revenue: dict[str, Counter[str]] = {}
    for hit in store.scan("product-stats", {"term": {"shop_id": shop}}):
        doc = hit["_source"]
        product = doc.get("product_id", "")
        counts.setdefault(product, Counter()).update({name: doc.get(name, 0) for name in ("units", "orders", "views")})
        revenue.setdefault(product, Counter()).update(doc.get("revenue", {}))
    best = sorted(counts, key=lambda product: (-counts[product]["units"], -counts[product]["views"], product))
    return [
        Product(p, counts[p]["units"], counts[p]["orders"], counts[p]["views"], dict(revenue[p]))
        for p in best[:BEST_PRODUCTS]
    ]
