"""Compute the tables of the lake that come from the stores: events, orders with their credits, customers, products.

A document that cannot be read is logged and left out of the tables, as it is left out of reports.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from functools import partial
from typing import Any, TypeVar

import msgspec

from truepixel_dagster.answers.tables import CREDITS, CUSTOMERS, EVENTS, ORDERS, PRODUCT_STATS, VISITS
from truepixel_dagster.answers.visits import SeenEvent, by_source, visits_of
from truepixel_dagster.events.event import from_millis, iso
from truepixel_dagster.events.shop_time import UTC, ShopDays, days_beside
from truepixel_dagster.events.times import to_millis
from truepixel_dagster.events.user_key import is_no_client
from truepixel_dagster.lake.arrow import Row
from truepixel_dagster.orders.credit import MODELS
from truepixel_dagster.rebuild.history import on_days, on_shop_days, one_of_each_record
from truepixel_dagster.rebuild.lake import KEPT_ALIVE, Maker, Rows, Sources, Tools, by_day, in_days
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
_PIXEL = "pixel"
_PAGE = 5000
_MILLIONTHS = Decimal(1).scaleb(-6)

Document = Mapping[str, Any]
T = TypeVar("T")
R = TypeVar("R")
_Placed = tuple[str, tuple[Document, figures.ReportedOrder]]


def _events_made_of(tools: Tools, days: Sequence[str]) -> Sources:
    return of_documents(tools.stores.elasticsearch, _HISTORY, "occurred_at", tools.days, days)


def _events(tools: Tools, day: str) -> Rows:
    on, query = date.fromisoformat(day), on_shop_days([day], tools.days)
    hits = tools.stores.elasticsearch.scan(_HISTORY, query, fields=_OF_EVENTS, sort=_BY_RECORD, size=_PAGE)

    def rows(_id: str, document: Document) -> Iterator[Row]:
        moment = to_millis(document["occurred_at"])
        # The documents lack the UTC offset of a webhook's time.
        if tools.days.of(document["shop_id"]).day(moment) != day:
            return
        ad = document.get("ad") or {}
        yield {
            **{name: document.get(name) for name in _NAMES_OF_EVENTS},
            "day": on,
            "occurred_at": from_millis(moment),
            "received_at": _moment(document["received_at"]),
            **{name: ad.get(name) for name in ("platform", "campaign", "campaign_id")},
            "product_ids": list(document.get("product_ids") or ()),
            "bot": document.get("bot") is True,
        }

    events = _by_shop(_documents(one_of_each_record(hits)), rows)
    return {EVENTS.name: events, VISITS.name: {shop: list(_visits(shop, on, own)) for shop, own in events.items()}}


def _visits(shop: str, day: date, events: Iterable[Row]) -> Iterator[Row]:
    """Yield the visits of people by source."""
    of_people = (each for each in events if each["source"] == _PIXEL and not each["bot"])
    seen = (msgspec.convert(each, SeenEvent) for each in of_people if not is_no_client(each["client_id"]))
    for visits in by_source(visits_of(seen)):
        yield {"shop_id": shop, "day": day, **msgspec.structs.asdict(visits), **msgspec.structs.asdict(visits.source)}


def _orders_made_of(tools: Tools, days: Sequence[str]) -> Sources:
    store = tools.stores.elasticsearch
    return of_documents(store, ATTRIBUTIONS, "occurred_at", tools.days, days, by_offset=True)


def _orders(tools: Tools, days: Sequence[str]) -> Iterator[tuple[str, Rows]]:
    query = on_days(days_beside(days))
    store, in_time = tools.stores.elasticsearch, ("occurred_at", "_shard_doc")
    hits = store.scan(ATTRIBUTIONS, query, fields=_OF_ORDERS, sort=in_time, keep_alive=KEPT_ALIVE)

    def placed(id_: str, document: Document) -> tuple[int, str, _Placed]:
        order = figures.ORDERS.read(id_, document)
        at, shop = to_millis(order.occurred_at), id_.partition(":")[0]
        return at, tools.days.of(shop).day(at, order.utc_offset), (id_, (document, order))

    for day, found in in_days(days, _readable(_documents(hits), placed)):
        rows_of = partial(_by_shop, found)
        yield day, {ORDERS.name: rows_of(partial(_order, day)), CREDITS.name: rows_of(partial(_credits, day))}


def _order(day: str, id_: str, placed: tuple[Document, figures.ReportedOrder]) -> Iterator[Row]:
    document, order = placed
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


def _credits(day: str, id_: str, placed: tuple[Document, figures.ReportedOrder]) -> Iterator[Row]:
    _, order = placed
    if order.test:
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

    return {CUSTOMERS.name: _by_shop(((each["_id"], each) for each in found), rows)}


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

    return {PRODUCT_STATS.name: _by_shop(_documents(hits), rows)}


def _documents(hits: Iterable[Any]) -> Iterator[tuple[str, Document]]:
    return ((hit["_id"], hit["_source"]) for hit in hits)


def _by_shop(found: Iterable[tuple[str, T]], rows: Callable[[str, T], Iterable[Row]]) -> dict[str, list[Row]]:
    """Return the rows of documents by shop."""
    by_shop: dict[str, list[Row]] = {}
    for of_document in _readable(found, lambda id_, each: list(rows(id_, each))):
        for row in of_document:
            by_shop.setdefault(row["shop_id"], []).append(row)
    return by_shop


def _readable(found: Iterable[tuple[str, T]], read: Callable[[str, T], R]) -> Iterator[R]:
    """Yield the converted documents; log and leave out unreadable ones."""
    for id_, each in found:
        try:
            yield read(id_, each)
        except (KeyError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
            report(f"document {id_!r}: {error!r}")


def _moment(text: str) -> datetime:
    return from_millis(to_millis(text))


def _amounts(by_currency: Mapping[str, int]) -> list[tuple[str, int]]:
    return [(currency, int(amount)) for currency, amount in sorted(by_currency.items())]


EVENTS_MAKER = Maker((EVENTS, VISITS), _events_made_of, by_day(_events))
ORDERS_MAKER = Maker((ORDERS, CREDITS), _orders_made_of, _orders)
CUSTOMERS_MAKER = Maker((CUSTOMERS,), _customers_made_of, by_day(_customers))
PRODUCTS_MAKER = Maker((PRODUCT_STATS,), _products_made_of, by_day(_products))
