"""Compute the tables of the lake that come from the stores: events, orders with their credits, customers, products.

A document that cannot be read is logged and left out of the tables, as it is left out of reports.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from truepixel_dagster.answers.tables import CREDITS, CUSTOMERS, EVENTS, ORDERS, PRODUCT_STATS
from truepixel_dagster.events.event import from_millis, iso
from truepixel_dagster.events.shop_time import UTC, ShopDays, days_beside
from truepixel_dagster.events.times import to_millis
from truepixel_dagster.lake.arrow import Row
from truepixel_dagster.orders.credit import MODELS
from truepixel_dagster.rebuild.history import on_days, on_shop_days, one_of_each_record
from truepixel_dagster.rebuild.lake import Maker, Rows, Sources, Tools
from truepixel_dagster.rebuild.stamps import of_documents, of_profiles
from truepixel_dagster.report import figures
from truepixel_dagster.stages.attribution_document import ATTRIBUTIONS
from truepixel_dagster.stages.customer import PROFILE
from truepixel_dagster.stages.index import EVENTS as EVENT_DOCUMENTS
from truepixel_dagster.stores import mongodb
from truepixel_dagster.stores.documents import report

_HISTORY, _PRODUCT_STATS = f"{EVENT_DOCUMENTS}-", "product-stats"
_BY_RECORD = ("kafka.partition", "kafka.offset", "_shard_doc")
_NAMES_OF_EVENTS = ("shop_id", "event_id", "client_id", "name", "source", "order_id", "channel")
_OF_EVENTS = (*_NAMES_OF_EVENTS, "occurred_at", "received_at", "ad", "product_ids", "bot", "kafka", "schema")
_OF_ORDERS = (*sorted(figures.ORDERS.known - {"touches"}), "touches.at", "shop_id", "client_id", "order_id", "status")
_OF_PROFILES = ("shop_id", "client_id", *sorted(PROFILE.known - {"applied", "replayed", "set_by", "last_ad", "before"}))
_COUNTS = ("views", "carts", "checkouts", "orders", "units", "returned_units")
_AMOUNTS = ("revenue", "returned_revenue")
_MILLIONTHS = Decimal(1).scaleb(-6)

Document = Mapping[str, Any]
_ReadDocument = Callable[[str, Document], Iterable[Row]]


def _events_made_of(tools: Tools, days: Sequence[str]) -> Sources:
    return of_documents(tools.stores.elasticsearch, _HISTORY, "occurred_at", tools.days, days)


def _events(tools: Tools, day: str) -> Rows:
    query = on_shop_days([day], tools.days)
    hits = tools.stores.elasticsearch.scan(_HISTORY, query, fields=_OF_EVENTS, sort=_BY_RECORD)

    def rows(_id: str, document: Document) -> Iterator[Row]:
        moment = to_millis(document["occurred_at"])
        # The documents lack the UTC offset of a webhook's time.
        if tools.days.of(document["shop_id"]).day(moment) != day:
            return
        ad = document.get("ad") or {}
        yield {
            **{name: document.get(name) for name in _NAMES_OF_EVENTS},
            "day": date.fromisoformat(day),
            "occurred_at": from_millis(moment),
            "received_at": _moment(document["received_at"]),
            **{name: ad.get(name) for name in ("platform", "campaign", "campaign_id")},
            "product_ids": list(document.get("product_ids") or ()),
            "bot": document.get("bot") is True,
        }

    return {EVENTS.name: _by_shop(one_of_each_record(hits), rows)}


def _orders_made_of(tools: Tools, days: Sequence[str]) -> Sources:
    store = tools.stores.elasticsearch
    return of_documents(store, ATTRIBUTIONS, "occurred_at", tools.days, days, by_offset=True)


def _orders(tools: Tools, day: str) -> Rows:
    hits = list(tools.stores.elasticsearch.scan(ATTRIBUTIONS, on_days(days_beside([day])), fields=_OF_ORDERS))
    return {
        ORDERS.name: _by_shop(hits, lambda id_, document: _order(tools, day, id_, document)),
        CREDITS.name: _by_shop(hits, lambda id_, document: _credits(tools, day, id_, document)),
    }


def _order(tools: Tools, day: str, id_: str, document: Document) -> Iterator[Row]:
    order = _of_day(tools, day, id_, document)
    if order is None:
        return
    yield {
        **_of_attribution(day, id_),
        "order_id": document.get("order_id"),
        "client_id": document.get("client_id"),
        "occurred_at": _moment(order.occurred_at),
        "status": document.get("status") or "open",
        "sales_channel": order.sales_channel,
        "test": order.test,
        "new_customer": order.new_customer,
        "currency": order.value.currency if order.value else "",
        **figures.total_of(order),
        "touches": len(order.touches),
    }


def _credits(tools: Tools, day: str, id_: str, document: Document) -> Iterator[Row]:
    order = _of_day(tools, day, id_, document)
    if order is None or order.test:
        return
    for model in MODELS:
        for position, (credit, sums) in enumerate(figures.divided(order, model)):
            yield {
                **_of_attribution(day, id_),
                "model": model,
                "position": position,
                "channel": credit.channel,
                "platform": credit.platform,
                "campaign": credit.campaign or credit.campaign_id or "",
                "campaign_id": credit.campaign_id,
                "currency": order.value.currency if order.value else "",
                "gross": sums.gross,
                "refunded": sums.refunded,
                "net": sums.net,
                "orders": sums.orders * _MILLIONTHS,
                "new_customers": sums.new * _MILLIONTHS,
                "returning_customers": sums.returning * _MILLIONTHS,
            }


def _of_day(tools: Tools, day: str, id_: str, document: Document) -> figures.ReportedOrder | None:
    order = figures.ORDERS.read(id_, document)
    shop = id_.partition(":")[0]
    return order if tools.days.of(shop).day(to_millis(order.occurred_at), order.utc_offset) == day else None


def _of_attribution(day: str, id_: str) -> dict[str, Any]:
    shop, _, name = id_.partition(":")
    return {"shop_id": shop, "day": date.fromisoformat(day), "attribution": name}


def _customers_made_of(tools: Tools, days: Sequence[str]) -> Sources:
    return of_profiles(tools.stores.mongodb, mongodb.CUSTOMERS, "first_seen", tools.days, days)


def _customers(tools: Tools, day: str) -> Rows:
    first, end = UTC.span(*[date.fromisoformat(each) for each in (min(days_beside([day])), max(days_beside([day])))])
    of_days = {"$match": {"first_seen": {"$gte": iso(first), "$lt": iso(end)}}}
    found = tools.stores.mongodb.sums(mongodb.CUSTOMERS, [of_days, {"$project": dict.fromkeys(_OF_PROFILES, 1)}])

    def rows(id_: str, document: Document) -> Iterator[Row]:
        profile = PROFILE.read(id_, document)
        shop, _, client = id_.partition(":")
        if tools.days.of(shop).day(to_millis(profile.first_seen)) != day:
            return
        yield {
            "shop_id": shop,
            "day": date.fromisoformat(day),
            "client_id": client,
            "customer_id": profile.customer_id,
            "email_hash": profile.email_hash,
            "first_seen": _moment(profile.first_seen),
            "last_seen": _moment(profile.last_seen),
            "events": profile.events,
            "orders": profile.orders,
            "revenue": _amounts(profile.revenue),
            "refunded": _amounts(profile.refunded),
        }

    return {CUSTOMERS.name: _by_shop(({"_id": each["_id"], "_source": each} for each in found), rows)}


def _products_made_of(tools: Tools, days: Sequence[str]) -> Sources:
    # Their day is already the shop's. A changed time zone moves it when `product_stats` is materialized.
    return of_documents(tools.stores.elasticsearch, _PRODUCT_STATS, "day", ShopDays(), days)


def _products(tools: Tools, day: str) -> Rows:
    hits = tools.stores.elasticsearch.scan(_PRODUCT_STATS, {"term": {"day": day}})

    def rows(_id: str, document: Document) -> Iterator[Row]:
        yield {
            "shop_id": document["shop_id"],
            "day": date.fromisoformat(day),
            "product_id": document["product_id"],
            **{name: int(document.get(name) or 0) for name in _COUNTS},
            **{name: _amounts(document.get(name) or {}) for name in _AMOUNTS},
        }

    return {PRODUCT_STATS.name: _by_shop(hits, rows)}


def _by_shop(hits: Iterable[Any], read: _ReadDocument) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for hit in hits:
        try:
            rows = list(read(hit["_id"], hit["_source"]))
        except (KeyError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
            report(f"document {hit['_id']!r}: {error!r}")
            continue
        for row in rows:
            found.setdefault(row["shop_id"], []).append(row)
    return found


def _moment(text: str) -> datetime:
    return from_millis(to_millis(text))


def _amounts(by_currency: Mapping[str, int]) -> list[tuple[str, int]]:
    return [(currency, int(amount)) for currency, amount in sorted(by_currency.items())]


EVENTS_MAKER = Maker((EVENTS,), _events_made_of, _events)
ORDERS_MAKER = Maker((ORDERS, CREDITS), _orders_made_of, _orders)
CUSTOMERS_MAKER = Maker((CUSTOMERS,), _customers_made_of, _customers)
PRODUCTS_MAKER = Maker((PRODUCT_STATS,), _products_made_of, _products)
