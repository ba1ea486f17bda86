"""Redact a person or a whole shop in every store. Every step may be repeated without harm.

A person's events and orders are anonymised (`events/anonymous.py`), and profiles and touches are rebuilt from them. All
data of a shop is deleted.

During a redaction, the stream may read an event or an order again and index its anonymised record before the redaction
has replaced the existing document. The stream then counts it twice. The redaction notices this when it writes the
anonymised document, and rebuilds the product statistics of that day.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from truepixel_dagster.chunks import chunks
from truepixel_dagster.events.decode import Undecodable, decode
from truepixel_dagster.events.event import Event, Message, day_of
from truepixel_dagster.events.identifiers import CLIENT, ORDER, TOKEN
from truepixel_dagster.events.sites import Sites
from truepixel_dagster.flush import PRODUCT_STATS, WEEKLY_VISITORS
from truepixel_dagster.privacy.anonymous_order import anonymous_attribution, attribution_id
from truepixel_dagster.privacy.person import Person, of_shop, order_ids
from truepixel_dagster.rebuild import ad_leads, attributions, customers, product_stats, weekly_visitors
from truepixel_dagster.rebuild.attributions import names_of, rules_of
from truepixel_dagster.rebuild.context import RebuildContext
from truepixel_dagster.rebuild.history import message_of, of_users
from truepixel_dagster.rebuild.shops import learn_again
from truepixel_dagster.stages.attribution_document import ATTRIBUTIONS
from truepixel_dagster.stages.index import EVENTS, document, index_name
from truepixel_dagster.stores.elasticsearch import Action, ElasticsearchStore
from truepixel_dagster.stores.errors import Unavailable
from truepixel_dagster.stores.mongodb import AD_LEADS, CONNECTIONS, CUSTOMERS, ORDERS, SHOPS
from truepixel_dagster.stores.redactions import Redactions
from truepixel_dagster.stores.shops import all_days

_CHUNK = 500
Document = Mapping[str, Any]


class Forgotten(msgspec.Struct):
    """Hold the number of redacted documents by store, the users of anonymised ones, and days that may count twice."""

    counts: dict[str, int] = {}
    users: set[str] = set()
    recount: set[str] = set()


def forget_person(context: RebuildContext, person: Person, redactions: Redactions) -> Forgotten:
    """Replace all data of a person by anonymised data. Call `recompute` next for what depends on it.

    Raises:
        KafkaUnavailable, Unavailable: A server does not answer; run it again.
    """
    aliases = {redactions.alias(person.shop, CLIENT, client) for client in person.of(CLIENT)}
    forgotten = Forgotten(users={*person.users, *(f"{person.shop}:{alias}" for alias in aliases)})
    _forget_events(context, person.shop, redactions, forgotten)
    _forget_orders(context, person, redactions, forgotten)
    forgotten.counts[ORDERS] = _forget_clusters(context, person, redactions, forgotten)
    mongodb = context.stores.mongodb
    for name in (AD_LEADS, CUSTOMERS):
        gone = (mongodb.delete(name, {"_id": {"$in": users}}) for users in chunks(person.users, _CHUNK))
        forgotten.counts[name] = sum(gone)
    forgotten.counts["redis"] = context.stores.redis.forget_tokens(person.shop, person.of(TOKEN))
    ad_leads.rebuild_users(context, forgotten.users)
    return forgotten


def recompute(context: RebuildContext, forgotten: Forgotten) -> None:
    """Rebuild from the history what depends on anonymised events: orders, customers, and days that may count twice.

    Raises:
        KafkaUnavailable, Unavailable: A server does not answer; run it again.
    """
    context = context._replace(days=all_days(context.stores.mongodb))
    with_window = context.kept + context.settings.window
    context.history.refresh()
    orders = set()
    for users in chunks(sorted(forgotten.users), _CHUNK):
        for page in context.history.events(of_users(users)):
            recent = (event for event in page if day_of(event.occurred_at) >= with_window.isoformat())
            orders |= names_of(event for event in recent if event.user in forgotten.users)
    attributions.rebuild_orders(context, orders, rules_of(context))
    customers.rebuild_users(context, forgotten.users)
    days = sorted(day for day in forgotten.recount if day >= context.first_day.isoformat())
    if days:
        product_stats.rebuild_days(context, days)


def forget_shop(context: RebuildContext, shop: str, redactions: Redactions) -> Forgotten:
    """Delete all data of a shop, and rebuild what came after its redaction.

    Raises:
        KafkaUnavailable, Unavailable: A server does not answer; run it again.
    """
    store, mongodb = context.stores.elasticsearch, context.stores.mongodb
    forgotten = Forgotten()
    _forget_events(context, shop, redactions, forgotten)
    for name in (ATTRIBUTIONS, PRODUCT_STATS, WEEKLY_VISITORS):
        hits = chunks(store.scan(name, of_shop(shop), fields=["shop_id"]), _CHUNK)
        forgotten.counts[name] = sum(_delete(store, page) for page in hits)
    for name in (AD_LEADS, CUSTOMERS, ORDERS):
        forgotten.counts[name] = mongodb.delete(name, ids_of_shop(shop))
    forgotten.counts[SHOPS] = mongodb.delete(SHOPS, {"_id": shop})
    # Keep the connection of a shop that was connected again after it was uninstalled.
    left = {"_id": shop, "uninstalled_at": {"$exists": True}}
    forgotten.counts[CONNECTIONS] = mongodb.delete(CONNECTIONS, left)
    learn_again(context, shop)
    context = context._replace(days=all_days(mongodb))
    forgotten.counts["redis"] = context.stores.redis.forget_shop(shop)
    days: set[str] = set()
    weeks: set[str] = set()
    for page in context.history.outlines(of_shop(shop)):
        forgotten.users.update(event.user for event in page)
        days.update(context.days.day(event) for event in page)
        weeks.update(context.days.week(event) for event in page)
    forgotten.recount = days
    ad_leads.rebuild_users(context, forgotten.users)
    first_day = context.first_day.isoformat()
    whole_weeks = sorted(week for week in weeks if weekly_visitors.days_of(week)[0] >= first_day)
    weekly_visitors.rebuild_weeks(context, whole_weeks)
    return forgotten


def ids_of_shop(shop: str) -> dict[str, Any]:
    """Return the query for documents whose id begins with the shop; `;` follows `:` in ASCII."""
    return {"_id": {"$gte": f"{shop}:", "$lt": f"{shop};"}}


def is_order_of(person: Person, attribution: Document) -> bool:
    """Return whether an attribution is of one of the person's orders."""
    return any(id_.kind in (ORDER, TOKEN) for id_ in order_ids(attribution) & person.ids)


def _forget_events(context: RebuildContext, shop: str, redactions: Redactions, forgotten: Forgotten) -> None:
    """Replace a shop's redacted events by anonymised ones, or delete them.

    The anonymised event is written first, so that a count from the history cannot miss it.
    """
    store = context.stores.elasticsearch
    count = 0
    context.history.refresh()
    for hits in context.history.documents(of_shop(shop)):
        messages = [message_of(hit["_source"]) for hit in hits]
        views = redactions.views(messages)
        changed = [(hit, view) for hit, message, view in zip(hits, messages, views) if view is not message]
        events = [_event(view, context.history.sites) for _, view in changed if view]
        places = [(index_name(event, store), event.document_id) for event in events]
        forgotten.users.update(event.user for event in events)
        forgotten.recount.update(
            context.days.day(event)
            for event, there in zip(events, store.mget(places, fields=["kafka"]))
            if there and there.source.get("kafka") != msgspec.to_builtins(event.origin)
        )
        actions = [Action("index", index, id_, document(event)) for (index, id_), event in zip(places, events)]
        _write(store, actions)
        count += _delete(store, [hit for hit, _ in changed])
    forgotten.counts[EVENTS] = count
    context.history.refresh()


def _event(message: Message, sites: Sites) -> Event:
    event = decode(message, sites)
    assert not isinstance(event, Undecodable)  # noqa: S101 (what remains of an event is one)
    return event


def _forget_orders(context: RebuildContext, person: Person, redactions: Redactions, forgotten: Forgotten) -> None:
    store = context.stores.elasticsearch
    count = 0
    for hits in chunks(store.scan(ATTRIBUTIONS, of_shop(person.shop)), _CHUNK):
        mine = [hit for hit in hits if is_order_of(person, hit["_source"])]
        new = [
            anonymous_attribution(hit["_source"], lambda kind, value: redactions.alias(person.shop, kind, value))
            for hit in mine
        ]
        index = store.index(ATTRIBUTIONS)
        there = store.mget([(index, attribution_id(doc)) for doc in new])
        # If the stream has already written one from anonymised records, it is recomputed with them.
        absent = [doc for doc, found in zip(new, there) if found is None]
        _write(store, [Action("index", index, attribution_id(doc), msgspec.json.encode(doc)) for doc in absent])
        count += _delete(store, mine)
    forgotten.counts[ATTRIBUTIONS] = count
    store.refresh()


def clusters_of(person: Person) -> dict[str, Any]:
    """Return the query for the clusters of a person's orders."""
    ids = [f"{person.shop}:{id_}" for id_ in person.of(ORDER, TOKEN)]
    return {"$or": [{"users": {"$in": person.users}}, {"ids": {"$in": ids}}]}


def _forget_clusters(context: RebuildContext, person: Person, redactions: Redactions, forgotten: Forgotten) -> int:
    """Delete the clusters of a person's orders; they are recomputed from the anonymised records.

    If the stream has already read an anonymised record, it has counted the order twice, so its days are rebuilt.
    """
    mongodb, shop = context.stores.mongodb, person.shop
    found = list(mongodb.find(ORDERS, {"shop_id": shop, **clusters_of(person)}))
    aliases = {f"{shop}:{redactions.alias(shop, kind, id_)}" for kind in (ORDER, TOKEN) for id_ in person.of(kind)}
    met = mongodb.find_by(ORDERS, "ids", aliases)
    forgotten.recount.update(day for doc in met.values() for day in doc.get("days", ()))
    for doc in found:
        # Other users that an order names, such as the token in its webhook's key.
        forgotten.users.update(user for user in doc.get("users", ()) if user not in person.users)
    return mongodb.delete(ORDERS, {"_id": {"$in": [doc["_id"] for doc in found]}})


def _write(store: ElasticsearchStore, actions: Sequence[Action]) -> None:
    changed = next((outcome.error for outcome in store.write(actions) if outcome.error), None)
    if changed:
        raise Unavailable(
            f"Elasticsearch at {store.address}: anonymised documents conflict with existing ones: {changed}"
        )


def _delete(store: ElasticsearchStore, hits: Iterable[Any]) -> int:
    actions = [Action("delete", hit["_index"], hit["_id"]) for hit in hits]
    store.write(actions)
    return len(actions)
