"""Search every store, the dead letters and the buffers for a redacted person's ids and addresses.

The search reads every document of the shop in full, not indexed fields. It finds ids as whole words in any text, and
short ids in fields of ids. If the person has come back, data from after the redaction is skipped.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

import msgspec

from truepixel_dagster.events.identifiers import CLIENT, RECORD, Identifier, identifiers, shop_and_client
from truepixel_dagster.flush import PRODUCT_STATS, WEEKLY_VISITORS
from truepixel_dagster.privacy.forget import ids_of_shop
from truepixel_dagster.privacy.person import Person, names, of_shop, order_ids
from truepixel_dagster.rebuild.context import RebuildContext
from truepixel_dagster.rebuild.history import message_of
from truepixel_dagster.stages.attribution_document import ATTRIBUTIONS
from truepixel_dagster.stages.index import EVENTS
from truepixel_dagster.stores.mongodb import AD_LEADS, CUSTOMERS, ORDERS, PRIVACY_REQUESTS, REDACTIONS, SHOPS
from truepixel_dagster.stores.redactions import Redactions
from truepixel_dagster.stream.reading import read_all

DEAD_LETTERS, REDIS = "dead letters", "redis"


class Searched(msgspec.Struct):
    """Hold how many documents of one place were searched, and how many contained data."""

    looked_at: int = 0
    found: int = 0

    def count(self, found: bool) -> None:
        """Count one document."""
        self.looked_at += 1
        self.found += found


def search(context: RebuildContext, person: Person, redactions: Redactions, request: str) -> dict[str, Searched]:
    """Search for a person; return the results by place.

    Arguments:
        context: The settings, stores and history.
        person: The person.
        redactions: Say what came after the redaction.
        request: The id of the current request, which still names the person.

    Raises:
        KafkaUnavailable, Unavailable: A server does not answer.
    """
    look = _Look(person)
    found = {EVENTS: _events(context, look, redactions)}
    later = look.later
    found[ATTRIBUTIONS] = Searched()
    for hit in context.stores.elasticsearch.scan(ATTRIBUTIONS, of_shop(person.shop)):
        document = hit["_source"]
        named = order_ids(document)
        is_later = look.came_later(document.get("sightings") or ())
        found[ATTRIBUTIONS].count(not is_later and look.finds(hit["_id"], document, named))
    found[ORDERS] = Searched()
    for document in context.stores.mongodb.find(ORDERS, ids_of_shop(person.shop)):
        sightings = [sighting for node in document.get("nodes", ()) for sighting in node.get("sightings", ())]
        named = frozenset(Identifier(CLIENT, user.partition(":")[2]) for user in document.get("users", ()))
        is_later = look.came_later(sightings) if sightings else named <= {Identifier(CLIENT, id_) for id_ in later}
        found[ORDERS].count(not is_later and look.finds(document["_id"], document, named))
    for name in (PRODUCT_STATS, WEEKLY_VISITORS):
        found[name] = Searched()
        for hit in context.stores.elasticsearch.scan(name, of_shop(person.shop)):
            found[name].count(look.finds(hit["_id"], hit["_source"]))
    for name in (CUSTOMERS, AD_LEADS):
        found[name] = Searched()
        for document in context.stores.mongodb.find(name, ids_of_shop(person.shop)):
            client = document["_id"].split(":", 1)[1]
            named = frozenset({Identifier(CLIENT, client)})
            found[name].count(client not in later and look.finds(document["_id"], document, named))
    for name in (REDACTIONS, PRIVACY_REQUESTS):
        found[name] = Searched()
        for document in context.stores.mongodb.find(name, {"_id": {"$ne": request}}):
            if document.get("request", {}).get("shop_id", person.shop) == person.shop:
                found[name].count(look.finds(document["_id"], document))
    found[DEAD_LETTERS] = _dead_letters(context, look)
    found[REDIS] = _redis(context, look)
    return found


def search_shop(context: RebuildContext, shop: str, redactions: Redactions, request: str) -> dict[str, Searched]:
    """Search for remaining data of a shop; return the results by place."""
    elasticsearch, mongodb = context.stores.elasticsearch, context.stores.mongodb
    context.history.refresh()
    found = {EVENTS: Searched()}
    for page in context.history.documents(of_shop(shop)):
        messages = [message_of(hit["_source"]) for hit in page]
        for message, view in zip(messages, redactions.views(messages)):
            found[EVENTS].count(view is not message)
    rests = found[EVENTS].looked_at > found[EVENTS].found
    for name in (ATTRIBUTIONS, PRODUCT_STATS, WEEKLY_VISITORS):
        found[name] = _left(elasticsearch.scan(name, of_shop(shop)), rests)
    for name in (CUSTOMERS, AD_LEADS, ORDERS):
        found[name] = _left(mongodb.find(name, ids_of_shop(shop)), rests)
    found[SHOPS] = _left(mongodb.find(SHOPS, {"_id": shop}), rests)
    of_others = {"request.shop_id": shop, "_id": {"$ne": request}}
    found[PRIVACY_REQUESTS] = _left(mongodb.find(PRIVACY_REQUESTS, of_others), rests=False)
    found[DEAD_LETTERS] = Searched()
    for record in read_all(context.settings.kafka(), context.settings.dead_topic):
        if shop_and_client(record)[0] == shop:
            found[DEAD_LETTERS].count(redactions.views([record])[0] is not record)
    found[REDIS] = Searched()
    for name, _ in context.stores.redis.texts():
        found[REDIS].count(not rests and f":{quote(shop, safe='')}:" in name)
    return found


def _left(documents: Iterable[Any], rests: bool) -> Searched:
    """Count documents as found, unless the shop has data from after the redaction."""
    found = Searched()
    for _ in documents:
        found.count(not rests)
    return found


class _Look:
    def __init__(self, person: Person) -> None:
        self.person = person
        self.words = person.words()
        self.ids = frozenset(id_ for id_ in person.ids if id_.kind != RECORD)
        self.later: set[str] = set()
        self.later_records: set[tuple[int, int]] = set()

    def came_later(self, sightings: Iterable[Mapping[str, Any]]) -> bool:
        """Return whether all records that reported an order came after the redaction."""
        places = ((each["kafka"]["partition"], each["kafka"]["offset"]) for each in sightings)
        return all(place in self.later_records for place in places)

    def finds(self, id_: str, document: Mapping[str, Any], named: frozenset[Identifier] = frozenset()) -> bool:
        """Return whether a document names the person."""
        if named & self.ids:
            return True
        if self.words is None:
            return False
        text = f"{id_} {json.dumps(document, default=str, ensure_ascii=False)}"
        return bool(self.words.search(text))


def _events(context: RebuildContext, look: _Look, redactions: Redactions) -> Searched:
    """Search the history; it also shows which clients have come back."""
    found = Searched()
    context.history.refresh()
    for page in context.history.documents(of_shop(look.person.shop)):
        messages = [message_of(hit["_source"]) for hit in page]
        for hit, message, view in zip(page, messages, redactions.views(messages)):
            named = look.finds(hit["_id"], hit["_source"], identifiers(message))
            # No redaction changed it although its ids are redacted, so it came after the redaction.
            after = view is message and bool(identifiers(message) & look.ids)
            if after:
                look.later.add(hit["_source"]["client_id"])
                look.later_records.add((message.origin.partition, message.origin.offset))
            found.count(named and not after)
    return found


def _dead_letters(context: RebuildContext, look: _Look) -> Searched:
    """Search whole dead letters with their headers: those of the shop, and those without a shop."""
    found = Searched()
    for record in read_all(context.settings.kafka(), context.settings.dead_topic):
        if shop_and_client(record)[0] in (look.person.shop, ""):
            named = bool(identifiers(record) & look.ids)
            found.count(named or (look.words is not None and names(look.words, record)))
    return found


def _redis(context: RebuildContext, look: _Look) -> Searched:
    """Search keys and their values; counters and visitors of other shops are skipped."""
    found = Searched()
    for name, text in context.stores.redis.texts():
        _, kind, shop, *_ = [*name.split(":"), "", ""]
        if kind in ("buffer", "claim", "visitors") and shop != quote(look.person.shop, safe=""):
            continue
        found.count(look.finds(name, {"text": text}))
    return found
