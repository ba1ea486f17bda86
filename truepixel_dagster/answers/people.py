"""Join the clients, customers and addresses of one shop into persons.

    >>> from truepixel_dagster.answers.people import Member, Link, people_of
    >>> phone, laptop = Link(clients=("phone",), customer="7"), Link(clients=("laptop",), customer="7")
    >>> people = people_of("shop", [phone, laptop])
    >>> people.of(Member("client", "phone")) == people.of(Member("client", "laptop"))
    True
    >>> people.of(Member("client", "tablet")) == people.of(Member("client", "phone"))
    False

A link names ids that were seen together. Ids that links connect are one person, in any order of the links,
so a further link can only merge persons. There is one exception: a client with too many customers is a shared
device, an address with too many customers is a shared mailbox, and neither connects persons any more.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations
from typing import NamedTuple

import msgspec

CUSTOMER, ADDRESS, CLIENT, ORDER = "customer", "address", "client", "order"
#: The kinds of ids that connect. A person's id derives from its smallest id of the first of these kinds.
KINDS = (CUSTOMER, ADDRESS, CLIENT)
_DIGITS = 32


class Member(NamedTuple):
    """Hold one id of a person: a customer id, the hash of an e-mail address, a client id, or the name of an order."""

    kind: str
    id: str

    @property
    def rank(self) -> tuple[int, str]:
        """Return the sort key that selects the member that names a person."""
        return KINDS.index(self.kind), self.id


class Link(msgspec.Struct, frozen=True):
    """Hold the ids that one order, or one client's profile, names."""

    clients: tuple[str, ...] = ()
    customer: str | None = None
    address: str | None = None

    @property
    def members(self) -> tuple[Member, ...]:
        """Return all ids of it."""
        own = ((CUSTOMER, self.customer), (ADDRESS, self.address))
        return (*(Member(kind, id_) for kind, id_ in own if id_), *(Member(CLIENT, client) for client in self.clients))

    @property
    def owner(self) -> Member | None:
        """Return the id that identifies the person best: the customer, else the address, else the first client."""
        return next(iter(self.members), None)


class Bounds(msgspec.Struct, frozen=True):
    """Limit the customers of one client or address; with more, it connects no persons."""

    customers_per_client: int = 2
    customers_per_address: int = 2


class People:
    """Map the ids of one shop to persons. An id that is not connected to another is a person of its own.

    Arguments:
        shop: The shop.
        persons: The person's id of each member that is connected.
        shared: The clients and addresses that connect no persons because they have too many customers.
    """

    def __init__(self, shop: str, persons: Mapping[Member, str], shared: frozenset[Member] = frozenset()) -> None:
        self._shop = shop
        self._persons = persons
        self.shared = shared
        clients: dict[str, list[str]] = defaultdict(list)
        for member, person in persons.items():
            if member.kind == CLIENT:
                clients[person].append(member.id)
        self._clients = {person: tuple(sorted(own)) for person, own in clients.items() if len(own) > 1}

    def of(self, member: Member) -> str:
        """Return the id of a member's person: 32 hexadecimal digits that depend on the shop."""
        return self._persons.get(member) or _digest(self._shop, member)

    def of_order(self, order: str, client: str | None) -> str:
        """Return the id of the person who placed an order.

        Arguments:
            order: Its name. An unknown order belongs to the person of its client.
            client: The client whose order it is, if that is known.
        """
        member = Member(ORDER, order)
        return self.of(member if client is None or member in self._persons else Member(CLIENT, client))

    def clients_of(self, person: str) -> tuple[str, ...]:
        """Return the clients of a person, sorted, if there are several; otherwise none."""
        return self._clients.get(person, ())

    def connected(self) -> Iterator[Member]:
        """Yield the members that are connected to another or shared, sorted."""
        yield from sorted(self._persons, key=lambda member: member.rank)


def people_of(shop: str, links: Iterable[Link], bounds: Bounds = Bounds()) -> People:  # noqa: B008 (frozen)
    """Join links into persons. Memory grows with the number of connected ids.

    Arguments:
        shop: The shop of all links; persons of one shop do not depend on other shops.
        links: In any order; repeated ones change nothing.
        bounds: The limits for shared devices and mailboxes.
    """
    connected: dict[Member, set[Member]] = defaultdict(set)
    for link in links:
        for one, other in combinations(link.members, 2):
            if not one.kind == other.kind == CLIENT:
                connected[one].add(other)
                connected[other].add(one)
    shared = frozenset(member for member in connected if _is_shared(member, connected, bounds))
    roots = _roots(connected, shared)
    digests = {root: _digest(shop, root) for root in roots.values()}
    persons = {member: digests[root] for member, root in roots.items()}
    return People(shop, {**persons, **{member: _digest(shop, member) for member in shared}}, shared)


def _is_shared(member: Member, connected: Mapping[Member, set[Member]], bounds: Bounds) -> bool:
    """Return whether a client or address has too many customers; an address without a customer counts as one."""
    others = connected[member]
    customers = {other for other in others if other.kind == CUSTOMER}
    if member.kind == ADDRESS:
        return len(customers) > bounds.customers_per_address
    guests = {other for other in others if other.kind == ADDRESS and not _has_customer(connected[other])}
    return member.kind == CLIENT and len(customers | guests) > bounds.customers_per_client


def _has_customer(others: set[Member]) -> bool:
    return any(other.kind == CUSTOMER for other in others)


def _roots(connected: Mapping[Member, set[Member]], shared: frozenset[Member]) -> dict[Member, Member]:
    """Return for each linked member the member that names its person: union-find by the rank of the ids."""
    parents: dict[Member, Member] = {}

    def root(member: Member) -> Member:
        while (parent := parents.setdefault(member, member)) != member:
            # Halving the path keeps all paths short.
            parents[member] = parents[parent]
            member = parents[member]
        return member

    for member, others in connected.items():
        if member in shared:
            continue
        for other in others:
            if other not in shared and (one := root(member)) != (two := root(other)):
                first, second = sorted((one, two), key=lambda each: each.rank)
                parents[second] = first
    return {member: root(member) for member in parents}


def _digest(shop: str, member: Member) -> str:
    # A shop id holds no colon, so no two shops and members have one text.
    text = f"{shop}:{member.kind}:{member.id}"
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:_DIGITS]
