"""Who a request is about: everything by which one shop's records can be found to be this person's.

From a customer to the addresses, clients and orders of their records; from a client to its orders; from an order to the
clients that reported it. Never from a client or an order to another customer: a device may have several.
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

# Shorter ids are looked for where ids stand; as a word in a text they could be anything.
SHORTEST_WORD = 8
Document = Mapping[str, Any]
_TAUGHT_BY_ALL = frozenset({CLIENT, ORDER, TOKEN})


class Person(msgspec.Struct, frozen=True):
    """The ids of a person in one shop, and the addresses in plain. Records are among the ids that only a text names."""

    shop: str
    ids: frozenset[Identifier]
    addresses: frozenset[str] = frozenset()

    def of(self, *kinds: str) -> list[str]:
        """The ids of some kinds, in order."""
        return sorted({id_.value for id_ in self.ids if id_.kind in kinds})

    @property
    def users(self) -> list[str]:
        """`shop:client` of each client, a cart's or order's token among them."""
        return [f"{self.shop}:{client}" for client in self.of(CLIENT)]

    def words(self) -> re.Pattern[str] | None:
        """What finds the person in a text: an id as a whole word, or an address, also as a URL writes it."""
        named = [value for value in self.of(CLIENT, CUSTOMER, EMAIL, ORDER, TOKEN) if len(value) >= SHORTEST_WORD]
        texts = {re.escape(text) for text in [*named, *self.addresses]}
        texts |= {re.escape(address).replace("@", "%40") for address in self.addresses}
        return re.compile(rf"(?<![\w.%+-])(?:{'|'.join(sorted(texts))})(?![\w-])", re.IGNORECASE) if texts else None


def asked_for(request: PrivacyRequest) -> frozenset[Identifier]:
    """The ids that a request names."""
    named = [(CLIENT, request.client_id), (CUSTOMER, request.customer_id), (EMAIL, request.email_hash)]
    named += [(ORDER, order) for order in request.orders]
    return frozenset(Identifier(kind, value) for kind, value in named if value)


def learned(known: frozenset[Identifier], named: frozenset[Identifier]) -> frozenset[Identifier]:
    """The ids that a record or document teaches about a person.

    Arguments:
        known: Of the person.
        named: By the record; nothing is learned from one that names nothing known.
    """
    met = {id_.kind for id_ in known & named} - {RECORD}
    if not met:
        return frozenset()
    kinds = _TAUGHT_BY_ALL | ({EMAIL} if CUSTOMER in met else set())
    new = {id_ for id_ in named if id_.kind in kinds}
    # Where a theme does not pass the client id on, a webhook's client is the cart's or order's token.
    return frozenset(new | {Identifier(CLIENT, id_.value) for id_ in new if id_.kind == TOKEN})


def find(context: RebuildContext, shop: str, seeds: Iterable[Identifier]) -> Person:
    """Everything of a person in a shop: reads the shop's history, dead letters and what the stream has yet to read,
    until they teach nothing new.

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
    """Whether a record has one of the words in it, wherever."""
    parts = [message.key, message.value, *(value for _, value in message.headers)]
    return any(words.search(part.decode(errors="replace")) for part in parts if part)


def messages_of(context: RebuildContext, shop: str) -> Iterator[Message]:
    """A shop's records: those of the history, the dead letters (and those without a shop), and those not committed."""
    context.history.refresh()
    for page in context.history.documents(of_shop(shop)):
        yield from (message_of(hit["_source"]) for hit in page)
    for dead in dead_letters.read(context.settings):
        if shop_and_client(dead.message)[0] in (shop, ""):
            yield dead.message
    yield from (message for message in not_committed(context) if shop_and_client(message)[0] in (shop, ""))


def not_committed(context: RebuildContext) -> Iterator[Message]:
    """The records of all shops that the stream is not through with; requests about personal data tell nothing."""
    return map(stripped, context.log.read_all(first=context.log.committed()))


def _documents(context: RebuildContext, shop: str) -> Iterator[frozenset[Identifier]]:
    """What customers and attributions name: they may be there when their events are not any more."""
    for document in context.stores.mongodb.find(CUSTOMERS, {"shop_id": shop}):
        named = ((CLIENT, "client_id"), (CUSTOMER, "customer_id"), (EMAIL, "email_hash"))
        yield frozenset(Identifier(kind, document[field]) for kind, field in named if document.get(field))
    fields = ["client_id", "order_id", "checkout_token", "cart_token", "sightings"]
    for hit in context.stores.elasticsearch.scan(ATTRIBUTIONS, of_shop(shop), fields=fields):
        yield order_ids(hit["_source"])


def order_ids(attribution: Document) -> frozenset[Identifier]:
    """The ids that an attribution names."""
    fields = ((CLIENT, "client_id"), (ORDER, "order_id"), (TOKEN, "checkout_token"), (TOKEN, "cart_token"))
    # In the first edition each sighting named them, too.
    parts = [attribution, *attribution.get("sightings", ())]
    return frozenset(Identifier(kind, part[field]) for part in parts for kind, field in fields if part.get(field))


def of_shop(shop: str) -> Query:
    """Documents of a shop."""
    return all_of({"term": {"shop_id": shop}})
