"""Compute stamps, which show cheaply whether documents of a shop's day have changed: a count, and sums of versions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from truepixel_dagster.events.event import iso
from truepixel_dagster.events.shop_time import UTC, ShopDays
from truepixel_dagster.stores.elasticsearch import ElasticsearchStore
from truepixel_dagster.stores.mongodb import MongoStore
from truepixel_dagster.stores.redactions import ALIAS

Stamps = dict[str, dict[str, str]]
_DAY = 86_400_000
_UTC = "UTC"
# A redacted profile returns under an alias with version 1, so the stamp must include the ids.
_SUMS: Mapping[str, Any] = {
    "count": {"$sum": 1},
    "versions": {"$sum": "$v"},
    "lengths": {"$sum": {"$strLenBytes": "$_id"}},
    "aliases": {"$sum": {"$cond": [{"$eq": [{"$indexOfBytes": ["$client_id", ALIAS]}, 0]}, 1, 0]}},
}


def of_documents(
    store: ElasticsearchStore,
    name: str,
    field: str,
    shops: ShopDays,
    days: Sequence[str],
    *,
    by_offset: bool = False,
) -> Stamps:
    """Return a stamp for each day and shop that has documents in the indices `name`*.

    Arguments:
        store: Elasticsearch.
        name: The prefix of the indices.
        field: The date field that decides a document's day.
        shops: The time zones of shops; if one is unknown, its days are UTC.
        days: Days in ISO form; the stamps cover all days from the first to the last.
        by_offset: Whether `utc_offset`, in minutes, decides the day of documents of shops without a known time zone.

    Raises:
        Unavailable: Elasticsearch does not answer.
    """
    store.refresh()
    found: Stamps = {}
    # A field with days would reject times without this format.
    span = {**_span(days), "format": "strict_date_time"}
    for zone, of_shops in _zones(shops).items():
        query = {"bool": {"filter": [of_shops, {"range": {field: span}}]}}
        offset = by_offset and zone == ""
        for shop, day, minutes, stamp in store.stamps(name, query, field, zone or _UTC, by_offset=offset):
            own = found.setdefault(day, {})
            own[shop] = " ".join(filter(None, (own.get(shop, zone), f"{minutes}:{stamp}")))
    return {day: found[day] for day in days if day in found}


def of_profiles(store: MongoStore, name: str, field: str, shops: ShopDays, days: Sequence[str]) -> Stamps:
    """Return a stamp for each day and shop that has documents in a collection of MongoDB.

    The arguments are those of `of_documents`.

    Raises:
        Unavailable: MongoDB does not answer.
    """
    found: Stamps = {}
    span = {f"${name}": moment for name, moment in _span(days).items()}
    own = _by_zone(shops)
    known: list[tuple[str, Mapping[str, Any]]] = [(zone, {"$in": names}) for zone, names in own.items()]
    for zone, of_shops in [*known, ("", {"$nin": [shop for names in own.values() for shop in names]})]:
        day = {"$dateToString": {"date": {"$toDate": f"${field}"}, "format": "%Y-%m-%d", "timezone": zone or _UTC}}
        group = {"_id": {"shop": "$shop_id", "day": day}, **_SUMS}
        for each in store.sums(name, [{"$match": {"shop_id": of_shops, field: span}}, {"$group": group}]):
            place = each["_id"]
            found.setdefault(place["day"], {})[place["shop"]] = f"{zone} {':'.join(str(each[name]) for name in _SUMS)}"
    return {day: found[day] for day in days if day in found}


def _zones(shops: ShopDays) -> Mapping[str, Mapping[str, Any]]:
    """Return a query for the shops of each time zone; the empty name stands for shops without one."""
    own = _by_zone(shops)
    everyone = [shop for names in own.values() for shop in names]
    known: dict[str, Mapping[str, Any]] = {zone: {"terms": {"shop_id": names}} for zone, names in own.items()}
    return {**known, "": {"bool": {"must_not": {"terms": {"shop_id": everyone}}}}}


def _by_zone(shops: ShopDays) -> dict[str, list[str]]:
    own: dict[str, list[str]] = {}
    for shop, zone in sorted(shops.zones.items()):
        own.setdefault(zone, []).append(shop)
    return own


def _span(days: Sequence[str]) -> dict[str, str]:
    """Return the bounds of times that may be on some days in any time zone: from the day before to the day after."""
    first, end = UTC.span(date.fromisoformat(min(days)), date.fromisoformat(max(days)))
    return {"gte": iso(first - _DAY), "lt": iso(end + _DAY)}
