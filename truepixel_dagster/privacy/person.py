"""Find the ids of the person that a request names, within one shop.

A customer leads to the addresses, clients and orders of its records, a client to its orders, and an order to the
clients that reported it. A client or an order never leads to another customer, because several may share a device.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from truepixel_dagster.dead_letters import topic as dead_letters
from truepixel_dagster.events.event import Message
from truepixel_dagster.events.identifiers import (
    CLIENT,
    CUSTOMER,
    EMAIL,
    ORDER,
    RECORD,
    TOKEN,
    Identifier,
    addresses,
    identifiers,
    shop_and_client,
)
from truepixel_dagster.events.privacy_request import PrivacyRequest, stripped
from truepixel_dagster.events.shape import email_hash
from truepixel_dagster.rebuild.context import RebuildContext
from truepixel_dagster.rebuild.history import Query, all_of, message_of
from truepixel_dagster.stages.attribution_document import ATTRIBUTIONS
from truepixel_dagster.stores.mongodb import CUSTOMERS

# Shorter ids are only searched in fields of ids, because a short word in a text could be anything.
SHORTEST_WORD = 8
Document = Mapping[str, Any]
_TAUGHT_BY_ALL = frozenset({CLIENT, ORDER, TOKEN})


class Person(msgspec.Struct, frozen=True):
    """Hold the ids of a person in one shop, and the plain addresses. Ids of kind record are found by text only."""

    shop: str
    ids: frozenset[Identifier]
    addresses: frozenset[str] = frozenset()

    def of(self, *kinds: str) -> list[str]:
        """Return the ids of some kinds, sorted."""
        return sorted({id_.value for id_ in self.ids if id_.kind in kinds})

    @property
    def users(self) -> list[str]:
        """Return `shop:client` of each client; a cart's or an order's token may be one."""
        return [f"{self.shop}:{client}" for client in self.of(CLIENT)]

    def words(self) -> re.Pattern[str] | None:
        """Return the pattern of the person in a text: an id as a whole word, or an address, also URL-encoded."""
        named = [value for value in self.of(CLIENT, CUSTOMER, EMAIL, ORDER, TOKEN) if len(value) >= SHORTEST_WORD]
        texts = {re.escape(text) for text in [*named, *self.addresses]}
        texts |= {re.escape(address).replace("@", "%40") for address in self.addresses}
        return re.compile(rf"(?<![\w.%+-])(?:{'|'.join(sorted(texts))})(?![\w-])", re.IGNORECASE) if texts else None


def asked_for(request: PrivacyRequest) -> frozenset[Identifier]:
    """Return the ids that a request names."""
    named = [(CLIENT, request.client_id), (CUSTOMER, request.customer_id), (EMAIL, request.email_hash)]
    named += [(ORDER, order) for order in request.orders]
    return frozenset(Identifier(kind, value) for kind, value in named if value)


def learned(known: frozenset[Identifier], named: frozenset[Identifier]) -> frozenset[Identifier]:
    """Return the new ids of a person that a record or document adds.

    Arguments:
        known: The person's known ids.
        named: The ids that the record names; it adds nothing if none of them is known.
    """
    met = {id_.kind for id_ in known & named} - {RECORD}
    if not met:
        return frozenset()
    kinds = _TAUGHT_BY_ALL | ({EMAIL} if CUSTOMER in met else set())
    new = {id_ for id_ in named if id_.kind in kinds}
    # If a theme does not pass the client id on, a webhook's client is the cart's or the order's token.
    return frozenset(new | {Identifier(CLIENT, id_.value) for id_ in new if id_.kind == TOKEN})


def find(context: RebuildContext, shop: str, seeds: Iterable[Identifier]) -> Person:
    """Return the person with all ids in a shop: read the shop's history, dead letters and unprocessed records until
    they add nothing.

    Raises:
        KafkaUnavailable, Unavailable: A server does not answer.
    """
    person = Person(shop, frozenset(seeds))
    while True:
        before, words = person, person.words()
        for named in _documents(context, shop):
            person = msgspec.structs.replace(person, ids=person.ids | learned(person.ids, named))
        for message in messages_of(context, shop):
            person = _after(person, message, words)
        if person == before:
            return person


def _after(person: Person, message: Message, words: re.Pattern[str] | None) -> Person:
    named = identifiers(message)
    if person.ids & named and shop_and_client(message)[0]:
        ids = person.ids | learned(person.ids, named)
        known = {address for address in addresses(message) if Identifier(EMAIL, email_hash(address) or "") in ids}
        return msgspec.structs.replace(person, ids=ids, addresses=person.addresses | known)
    if words is not None and names(words, message):
        return msgspec.structs.replace(person, ids=person.ids | {id_ for id_ in named if id_.kind == RECORD})
    return person


def names(words: re.Pattern[str], message: Message) -> bool:
    """Return whether any part of a record contains one of the words."""
    parts = [message.key, message.value, *(value for _, value in message.headers)]
    return any(words.search(part.decode(errors="replace")) for part in parts if part)


def messages_of(context: RebuildContext, shop: str) -> Iterator[Message]:
    """Yield a shop's records: of the history, dead letters (with those without a shop), and uncommitted ones."""
    context.history.refresh()
    for page in context.history.documents(of_shop(shop)):
        yield from (message_of(hit["_source"]) for hit in page)
    for dead in dead_letters.read(context.settings.kafka()):
        if shop_and_client(dead.message)[0] in (shop, ""):
            yield dead.message
    yield from (message for message in not_committed(context) if shop_and_client(message)[0] in (shop, ""))


def not_committed(context: RebuildContext) -> Iterator[Message]:
    """Yield the uncommitted records of all shops, without privacy requests, which add no ids."""
    return map(stripped, context.log.read_all(first=context.log.committed()))


def _documents(context: RebuildContext, shop: str) -> Iterator[frozenset[Identifier]]:
    """Yield the ids that customers and attributions name; they may exist longer than their events."""
    for document in context.stores.mongodb.find(CUSTOMERS, {"shop_id": shop}):
        named = ((CLIENT, "client_id"), (CUSTOMER, "customer_id"), (EMAIL, "email_hash"))
        yield frozenset(Identifier(kind, document[field]) for kind, field in named if document.get(field))
    fields = ["client_id", "order_id", "checkout_token", "cart_token", "sightings"]
    for hit in context.stores.elasticsearch.scan(ATTRIBUTIONS, of_shop(shop), fields=fields):
        yield order_ids(hit["_source"])


def order_ids(attribution: Document) -> frozenset[Identifier]:
    """Return the ids that an attribution names."""
    fields = ((CLIENT, "client_id"), (ORDER, "order_id"), (TOKEN, "checkout_token"), (TOKEN, "cart_token"))
    # In the first edition, each sighting named them too.
    parts = [attribution, *attribution.get("sightings", ())]
    return frozenset(Identifier(kind, part[field]) for part in parts for kind, field in fields if part.get(field))


def of_shop(shop: str) -> Query:
    """Return the query for documents of a shop."""
    return all_of({"term": {"shop_id": shop}})
