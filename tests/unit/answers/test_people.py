"""Persons: any order of links gives the same, another link only merges, and shared ids connect no persons."""

from __future__ import annotations

import hashlib
from itertools import combinations
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from truepixel_dagster.answers.people import (
    ADDRESS,
    CLIENT,
    CUSTOMER,
    ORDER,
    Bounds,
    Link,
    Member,
    People,
    people_of,
)

UNBOUNDED = Bounds(customers_per_client=1000, customers_per_address=1000)


def client(name: str) -> Member:
    return Member(CLIENT, name)


def same(people: People, *members: Member) -> bool:
    return len({people.of(member) for member in members}) == 1


def some(letters: str) -> st.SearchStrategy[str | None]:
    return st.one_of(st.none(), st.sampled_from(letters))


SIGHTINGS = st.builds(
    Link,
    clients=st.lists(st.sampled_from("abcdef"), max_size=2, unique=True).map(tuple),
    customer=some("123"),
    address=some("xyz"),
)
ALL = [
    *(Member(CLIENT, name) for name in "abcdef"),
    *(Member(CUSTOMER, name) for name in "123"),
    *(Member(ADDRESS, name) for name in "xyz"),
]


def test_a_customer_connects_two_devices() -> None:
    people = people_of("s", [Link(("phone",), "7"), Link(("laptop",), "7")])
    assert same(people, client("phone"), client("laptop"), Member(CUSTOMER, "7"))
    assert people.clients_of(people.of(client("laptop"))) == ("laptop", "phone")


def test_an_address_connects_a_guest_to_the_customer_with_that_address() -> None:
    people = people_of("s", [Link(("phone",), address="h"), Link(("laptop",), "7", "h")])
    assert same(people, client("phone"), client("laptop"), Member(CUSTOMER, "7"), Member(ADDRESS, "h"))


def test_two_clients_of_an_order_without_customer_and_address_stay_apart() -> None:
    people = people_of("s", [Link(("phone", "laptop"))])
    assert not same(people, client("phone"), client("laptop"))
    assert list(people.connected()) == []


def test_a_person_is_named_by_its_smallest_customer_and_by_the_shop() -> None:
    people = people_of("s", [Link(("a",), "9"), Link(("a",), "10")])
    # "10" is before "9": ids are text.
    assert people.of(client("a")) == hashlib.sha256(b"s:customer:10").hexdigest()[:32]
    other = people_of("t", [Link(("a",), "9"), Link(("a",), "10")])
    assert other.of(client("a")) != people.of(client("a"))


def test_an_order_that_is_not_known_is_of_its_client() -> None:
    people = People("s", {Member(ORDER, "o"): "ann"})
    assert people.of_order("o", "kiosk") == people.of_order("o", None) == "ann"
    assert people.of_order("new", "kiosk") == people.of(client("kiosk"))
    assert people.of_order("new", None) == hashlib.sha256(b"s:order:new").hexdigest()[:32]


def test_a_device_of_too_many_customers_connects_no_persons() -> None:
    two = [Link(("kiosk", f"own-{n}"), str(n)) for n in (1, 2)]
    assert same(people_of("s", two), client("own-1"), client("own-2"))
    people = people_of("s", [*two, Link(("kiosk", "own-3"), "3")])
    assert people.shared == {client("kiosk")}
    assert not same(people, client("own-1"), client("own-2"))
    assert same(people, client("own-1"), Member(CUSTOMER, "1"))
    assert people.clients_of(people.of(client("kiosk"))) == ()


def test_a_device_with_addresses_of_many_guests_connects_no_persons() -> None:
    people = people_of("s", [Link(("kiosk",), address=name) for name in "xyz"])
    assert people.shared == {client("kiosk")}


def test_several_addresses_of_one_customer_make_no_shared_device() -> None:
    people = people_of("s", [Link(("laptop",), "7", name) for name in "xyz"])
    assert people.shared == frozenset()
    assert same(people, client("laptop"), *(Member(ADDRESS, name) for name in "xyz"))


def test_a_mailbox_of_too_many_customers_connects_no_persons() -> None:
    people = people_of("s", [Link((f"own-{n}",), str(n), "office") for n in range(3)])
    assert people.shared == {Member(ADDRESS, "office")}
    assert not any(same(people, client(f"own-{n}"), client(f"own-{m}")) for n, m in combinations(range(3), 2))


@given(st.lists(SIGHTINGS, max_size=12), st.randoms())
def test_any_order_of_the_links_gives_the_same_persons(found: list[Link], random: Random) -> None:
    shuffled = [*found, *found[:3]]
    random.shuffle(shuffled)
    one, other = people_of("s", found), people_of("s", shuffled)
    assert {member: one.of(member) for member in ALL} == {member: other.of(member) for member in ALL}
    assert one.shared == other.shared


@given(st.lists(SIGHTINGS, max_size=12), SIGHTINGS)
def test_a_further_link_only_merges(found: list[Link], more: Link) -> None:
    before, after = people_of("s", found, UNBOUNDED), people_of("s", [*found, more], UNBOUNDED)
    for one, other in combinations(ALL, 2):
        assert not same(before, one, other) or same(after, one, other)


@given(st.lists(SIGHTINGS, max_size=12))
def test_links_connect_a_person(found: list[Link]) -> None:
    """The same by another algorithm: the members that links reach from each member."""
    people = people_of("s", found, UNBOUNDED)
    for member in ALL:
        reached, before = {member}, 0
        while before != len(reached):
            before = len(reached)
            for link in found:
                own = set(link.members)
                if link.customer or link.address:
                    reached |= own if own & reached else set()
        assert {other for other in ALL if same(people, member, other)} == reached
