"""Compute the table of people, the persons of each shop, from stored orders and profiles."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from truepixel_dagster.answers.people import (
    CLIENT,
    ORDER,
    Bounds,
    Link,
    Member,
    People,
    people_of,
)
from truepixel_dagster.answers.tables import PEOPLE
from truepixel_dagster.lake.arrow import Row
from truepixel_dagster.lake.files import Lake
from truepixel_dagster.orders.order import Order
from truepixel_dagster.rebuild.lake import Maker, Rows, Sources, Tools, by_day, digest, make
from truepixel_dagster.stages.order_clusters import CLUSTER
from truepixel_dagster.stages.settling import rules_of
from truepixel_dagster.stores.documents import Reader, Unreadable, report
from truepixel_dagster.stores.mongodb import CUSTOMERS, ORDERS
from truepixel_dagster.stores.redactions import ALIAS


class _Identity(msgspec.Struct, frozen=True):
    """The fields of a customer's document that identify a person; the others would take most of the time to read."""

    customer_id: str | None = None
    email_hash: str | None = None


_IDENTITY = Reader(_Identity, f"MongoDB {CUSTOMERS}")
#: People belong to no day: their files have this one.
ALWAYS = "1970-01-01"


def made_people(tools: Tools) -> None:
    """Write the table of people if it does not exist yet.

    Raises:
        OSError, Unavailable: A disk, bucket or server does not answer.
    """
    if not tools.lake.made(PEOPLE, ALWAYS):
        make(tools, PEOPLE_MAKER, [ALWAYS])


def people_in(lake: Lake, shop: str) -> People:
    """Return the persons of a shop from the table.

    Raises:
        LakeError: Another process is replacing the table.
    """
    rows = lake.read(PEOPLE, ALWAYS, shop, ["person_id", "kind", "id", "connected", "shared"])
    persons = {
        Member(row["kind"], row["id"]): row["person_id"]
        for row in rows
        if row["connected"] or row["shared"] or row["kind"] == ORDER
    }
    return People(shop, persons, frozenset(Member(row["kind"], row["id"]) for row in rows if row["shared"]))


def orders_of(tools: Tools, shop: str) -> Iterator[Order]:
    """Yield the orders of a shop without test orders; an unreadable one is logged and left out.

    Raises:
        Unavailable: MongoDB does not answer.
    """
    rules = rules_of(tools.settings)
    for document in tools.stores.mongodb.find(ORDERS, of_shop(shop)):
        try:
            cluster = CLUSTER.read(document["_id"], document)
        except Unreadable as error:
            report(error)
            continue
        if cluster.merged_into is None:
            yield from (order for order in cluster.orders(rules) if not order.test)


def link_of(order: Order) -> Link:
    """Return the ids that an order names, without aliases: these stand for redacted persons and connect nothing."""
    customer, address = order.identity
    return _link([client.client for client in order.clients], customer, address)


def name_of(order: Order) -> str:
    """Return the name of an order, as in the column `attribution`."""
    return order.document_id.partition(":")[2]


def _sources(tools: Tools, days: Sequence[str]) -> Sources:
    group = {"$group": {"_id": "$shop_id", "count": {"$sum": 1}, "sum": {"$sum": "$v"}}}
    found = [
        {each["_id"]: f"{each['count']}:{each['sum']}" for each in tools.stores.mongodb.sums(name, [group])}
        for name in (ORDERS, CUSTOMERS)
    ]
    shops = sorted({shop for stamps in found for shop in stamps if shop})
    made_of = {shop: digest(*(stamps.get(shop, "") for stamps in found)) for shop in shops}
    return dict.fromkeys(days, made_of)


def _rows(tools: Tools, day: str) -> Rows:
    shops = _sources(tools, [day])[day]
    return {PEOPLE.name: _OneAtATime(sorted(shops), lambda shop: list(_of_people(tools, shop)))}


class _OneAtATime(Mapping[str, Sequence[Row]]):
    """Compute the rows of a shop on access: the rows of all shops may not fit into memory."""

    def __init__(self, shops: Sequence[str], rows: Callable[[str], Sequence[Row]]) -> None:
        self._shops = shops
        self._rows = rows

    def __getitem__(self, shop: str) -> Sequence[Row]:
        return self._rows(shop)

    def __iter__(self) -> Iterator[str]:
        return iter(self._shops)

    def __len__(self) -> int:
        return len(self._shops)


def _of_people(tools: Tools, shop: str) -> Iterator[Row]:
    owners: dict[str, Member] = {}
    clients: dict[str, None] = {}

    def links() -> Iterator[Link]:
        for order in orders_of(tools, shop):
            found = link_of(order)
            clients.update(dict.fromkeys(found.clients))
            if found.owner and not name_of(order).startswith(ALIAS):
                owners[name_of(order)] = found.owner
            yield found
        for document in tools.stores.mongodb.find(CUSTOMERS, of_shop(shop), _IDENTITY.known):
            found = _of_profile(document)
            clients.update(dict.fromkeys(found.clients))
            yield found

    bounds = Bounds(tools.settings.customers_per_client, tools.settings.customers_per_address)
    people = people_of(shop, links(), bounds)
    connected = dict.fromkeys(people.connected())
    alone = (owner for owner in owners.values() if owner.kind != CLIENT)
    for member in dict.fromkeys([*connected, *alone, *(Member(CLIENT, client) for client in clients)]):
        is_shared = member in people.shared
        yield _row(shop, people.of(member), member, connected=member in connected and not is_shared, shared=is_shared)
    for order, owner in owners.items():
        yield _row(shop, people.of(owner), Member(ORDER, order), connected=False, shared=False)


def _row(shop: str, person: str, member: Member, *, connected: bool, shared: bool) -> Row:
    own = {"kind": member.kind, "id": member.id, "connected": connected, "shared": shared}
    return {"shop_id": shop, "person_id": person, **own}


def _of_profile(document: Mapping[str, Any]) -> Link:
    try:
        profile = _IDENTITY.read(document["_id"], document)
    except Unreadable as error:
        report(error)
        return Link()
    return _link([document["_id"].partition(":")[2]], profile.customer_id, profile.email_hash)


def _link(clients: Sequence[str], customer: str | None, address: str | None) -> Link:
    known = tuple(client for client in clients if _unless_alias(client))
    return Link(known, _unless_alias(customer), _unless_alias(address))


def _unless_alias(id_: str | None) -> str | None:
    return None if id_ is None or id_.startswith(ALIAS) else id_


def of_shop(shop: str) -> dict[str, Any]:
    """Return the query for the documents whose id begins with the shop."""
    # `;` is the character after `:`.
    return {"_id": {"$gte": f"{shop}:", "$lt": f"{shop};"}}


PEOPLE_MAKER = Maker((PEOPLE,), _sources, by_day(_rows))
