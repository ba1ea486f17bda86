"""Read a shop's report from the stores: the sources of orders and revenue, visitors and the best products."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

import msgspec

from truepixel_dagster.orders.credit import MODELS
from truepixel_dagster.report.figures import Figures, Row, Total, fields_of
from truepixel_dagster.report.period import PRODUCT, Period, RequestedPeriod
from truepixel_dagster.resources import Stores
from truepixel_dagster.stores.elasticsearch import ElasticsearchStore
from truepixel_dagster.stores.shops import Shops

BEST_PRODUCTS = 10
BUSIEST_SHOPS = 10


class Product(msgspec.Struct, frozen=True):
    """Hold the sums of one product over the days of the period; revenue is in minor units by currency."""

    product_id: str
    units: int
    orders: int
    views: int
    revenue: dict[str, int]


class ShopReport(msgspec.Struct, frozen=True):
    """Hold one shop's report under one attribution model.

    `period` is empty for all time. `visitors` are those of `week`, the shop's current ISO week. `unreadable` documents
    are not counted, and `why_unreadable` gives the reason of the first one.
    """

    shop: str
    model: str
    by: str
    period: str
    week: str
    visitors: int
    orders: int
    test_orders: int
    sources: list[Row]
    totals: list[Total]
    products: list[Product]
    unreadable: int = 0
    why_unreadable: str | None = None

    @property
    def empty(self) -> bool:
        """Return whether the report has no data."""
        return not (self.orders or self.test_orders or self.unreadable or self.visitors or self.products)


def busiest_shops(store: ElasticsearchStore) -> list[str]:
    """Return the ids of the shops with most events, at most ten.

    Raises:
        Unavailable: Elasticsearch does not answer.
    """
    return store.most_common("events-", "shop_id", BUSIEST_SHOPS)


def has_documents(store: ElasticsearchStore, shop: str) -> bool:
    """Return whether a shop has any event or order.

    Raises:
        Unavailable: Elasticsearch does not answer.
    """
    return any(store.count(name, {"term": {"shop_id": shop}}) for name in ("attributions", "events-"))


def shop_report(
    stores: Stores,
    shop: str,
    model: str,
    by: str = "campaign",
    requested: RequestedPeriod | None = None,
    now: int | None = None,
    from_tables: Callable[[Figures, Period], None] = lambda *_: None,
) -> ShopReport:
    """Read one shop's report from the stores.

    The credits of the data-driven models are only in the lake, by whole days.

    Arguments:
        stores: The stores with the documents and the registry of shops.
        shop: The shop id.
        model: The attribution model.
        by: How to group the rows, one of `GROUPINGS`; `product` for all products instead of rows.
        requested: The period of the orders; all time by default.
        now: Milliseconds since the epoch; the current time by default.
        from_tables: Adds what only the lake has: spend, and the credits of the data-driven models.

    Raises:
        Unavailable: Elasticsearch or MongoDB does not answer.
    """
    store = stores.elasticsearch
    store.refresh()
    now = int(time.time() * 1000) if now is None else now
    shop_time = Shops(stores.mongodb).days([shop]).of(shop)
    period = (requested or RequestedPeriod()).of(shop_time, now)
    if model not in MODELS:
        period = period.of_whole_days()
    week = shop_time.week(now)
    (visitors,) = store.mget([(store.index("weekly-visitors"), f"{shop}:{week}")])
    figures = Figures(model, "channel" if by == PRODUCT else by, period)
    if model in MODELS:
        _add_documents(store, shop, figures, period)
    from_tables(figures, period)
    return ShopReport(
        shop=shop,
        model=model,
        by=by,
        period=str(period),
        week=week,
        visitors=visitors.source.get("visitors", 0) if visitors else 0,
        orders=figures.orders,
        test_orders=figures.test_orders,
        sources=[] if by == PRODUCT else figures.rows(),
        totals=figures.totals(),
        products=_products(store, shop, period)[: None if by == PRODUCT else BEST_PRODUCTS],
        unreadable=figures.unreadable,
        why_unreadable=figures.why_unreadable,
    )


def _add_documents(store: ElasticsearchStore, shop: str, figures: Figures, period: Period) -> None:
    query = _query(shop, "occurred_at", period.bounds)
    for hit in store.scan("attributions", query, fields=fields_of(figures.model)):
        figures.add(hit["_id"], hit.get("_source", {}))


def _products(store: ElasticsearchStore, shop: str, period: Period) -> list[Product]:
    counts: dict[str, Counter[str]] = {}
    revenue: dict[str, Counter[str]] = {}
    for hit in store.scan("product-stats", _query(shop, "day", period.days)):
        doc = hit["_source"]
        product = doc.get("product_id", "")
        counts.setdefault(product, Counter()).update({name: doc.get(name, 0) for name in ("units", "orders", "views")})
        revenue.setdefault(product, Counter()).update(doc.get("revenue", {}))
    best = sorted(counts, key=lambda product: (-counts[product]["units"], -counts[product]["views"], product))
    return [Product(p, counts[p]["units"], counts[p]["orders"], counts[p]["views"], dict(revenue[p])) for p in best]


def _query(shop: str, field: str, bounds: dict[str, str]) -> dict[str, object]:
    of_shop = {"term": {"shop_id": shop}}
    return {"bool": {"filter": [of_shop, *([{"range": {field: bounds}}] if bounds else [])]}}
