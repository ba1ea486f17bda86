"""Facts merge in any order and any number of times to the same result."""

from __future__ import annotations

from functools import reduce
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.orders.families import families
from tests.unit.stages.events_made_up import (
    DAY,
    NOON,
    completed,
    in_checkout,
    linked,
    payload,
    refund,
    refunded,
    touch,
    usd,
    webhook,
)
from truepixel_dagster.events.event import Event
from truepixel_dagster.events.order import OrderPayload, SoldLine
from truepixel_dagster.orders.event_facts import facts_of, ids_of
from truepixel_dagster.orders.facts import (
    CLIENTS_KEPT,
    ClientFacts,
    Kept,
    Node,
    kept_payloads,
    merged,
    merged_client,
    preference,
)

MANY = 100


def known(event: Event) -> list[int]:
    """The touches of a made up user: one at every other place before an event."""
    return list(range(0, event.origin.offset + 1, 2))


def nodes(partitions: list[list[Event]]) -> list[Node]:
    """The facts of a family's events, as if of one id."""
    found: list[Node] = []
    for event in (event for partition in partitions for event in partition):
        touches = [touch(n, partition=event.origin.partition) for n in known(event)]
        if facts := facts_of(event, touches):
            found.append(Node("order", "1", *(getattr(facts, name) for name in Node.__struct_fields__[2:])))
    return found


def together(parts: list[Node], most: int = MANY) -> Node:
    first = parts[0]
    return reduce(lambda one, other: merged(one, other, Kept(most, 50)), parts, merged(first, first, Kept(most, 50)))


@given(families(), st.data(), st.sampled_from([1, 3, MANY]))
def test_merging_is_commutative_associative_and_idempotent(
    partitions: list[list[Event]], data: st.DataObject, most: int
) -> None:
    parts = nodes(partitions)
    if not parts:
        return
    whole = together(parts, most)
    assert together(data.draw(st.permutations(parts)), most) == whole
    cut = data.draw(st.integers(0, len(parts)))
    halves = [together(half, most) for half in (parts[:cut], parts[cut:]) if half]
    assert together(halves, most) == whole
    again = data.draw(st.lists(st.sampled_from([*parts, whole]), max_size=4))
    assert together([whole, *again], most) == whole


PAYLOADS = st.lists(
    st.builds(
        lambda number, **fields: payload(f"w{number}", updated_at=NOON + number % 3, **fields),
        st.integers(0, 9),
        status=st.sampled_from(["open", "paid", "voided"]),
        total=st.none() | st.integers(0, 5).map(usd),
        customer_orders=st.none() | st.integers(1, 2),
        cart_token=st.sampled_from([None, "k"]),
        lines=st.none() | st.just((SoldLine("p", 1),)),
    ),
    min_size=1,
    max_size=8,
    unique_by=lambda each: each.event_id,
)


@given(PAYLOADS)
def test_the_kept_payloads_have_the_facts_of_all(payloads: list[OrderPayload]) -> None:
    ordered = sorted(payloads, key=lambda p: (p.updated_at, ["open", "paid", "voided"].index(p.status), p.event_id))
    kept = kept_payloads(payloads)
    assert [each for each in ordered if each in kept] == list(kept)
    assert kept[-1] is ordered[-1]

    def newest(name: str, among: list[OrderPayload]) -> object:
        return next((value for each in reversed(among) if (value := getattr(each, name)) is not None), None)

    for name in ("total", "lines", "cart_token", "at"):
        assert newest(name, list(kept)) == newest(name, ordered)
    assert newest("customer_orders", list(kept)[::-1]) == newest("customer_orders", ordered[::-1])
    assert len(kept) <= 10


def test_the_newest_payload_is_of_the_later_update_then_the_later_status_then_the_higher_id() -> None:
    ranked = [
        payload("z", updated_at=NOON, status="voided"),
        payload("b", updated_at=NOON + 1, status="open"),
        payload("a", updated_at=NOON + 1, status="paid"),
        payload("b", updated_at=NOON + 1, status="paid"),
    ]
    for older, newer in pairwise(ranked):
        assert kept_payloads([newer, older])[-1] is newer


def test_a_refund_that_is_reported_twice_counts_once_with_the_larger_amount() -> None:
    small, large = refunded(1, refund("r", 100)), refunded(2, refund("r", 300))
    other = refunded(3, refund("s", 50))
    parts = [facts for event in (large, small, other) if (facts := facts_of(event, ()))]
    assert [money.amount for each in together(parts).refunds for money in each.amounts] == [300, 50]


def test_an_event_is_of_the_ids_that_it_names_in_its_shop() -> None:
    assert ids_of(webhook(1, order_id="77", token="tok", cart="cart")) == ("s:77", "s:tok", "s:cart")
    assert ids_of(webhook(1, order_id="77", token="same", cart="same")) == ("s:77", "s:same")
    assert ids_of(refunded(1, refund("r", 1))) == ("s:77",)


def test_events_that_only_link_ids_and_bots_have_no_facts() -> None:
    assert facts_of(linked(1), ()) is None
    assert facts_of(completed(1, bot=True), ()) is None


def test_an_order_of_an_invalid_client_has_no_client() -> None:
    facts = facts_of(completed(1, client_id="undefined", anonymous=True), ())
    assert facts is not None
    assert (facts.clients, facts.completion is not None, len(facts.sightings)) == ((), True, 1)


def test_an_order_keeps_few_of_very_many_sightings_the_first_ones() -> None:
    parts = [part for n in reversed(range(9)) for part in nodes([[completed(n)]])]
    assert [each.event_id for each in together(parts, 3).sightings] == ["e0", "e1", "e2"]


def test_a_clients_last_record_decides_how_far_its_touches_reach() -> None:
    early, late = in_checkout(3), completed(7)
    one = facts_of(early, [touch(1)])
    other = facts_of(late, [touch(1), touch(5)])
    assert one is not None
    assert other is not None
    client = merged_client(other.clients[0], one.clients[0], 50)
    assert (client.last, [each.offset for each in client.touches]) == ((0, 7), [1, 5])
    assert (client.in_checkout, client.completed) == ((NOON, "e3"), (NOON, "e7"))


def test_a_reprocessed_touch_counts_for_records_that_were_processed_before_it() -> None:
    keyed, late = facts_of(webhook(9), []), facts_of(completed(4), [touch(4)])
    assert keyed is not None
    assert late is not None
    for one, other in ((keyed, late), (late, keyed)):
        client = merged_client(one.clients[0], other.clients[0], 50)
        assert (client.last, [each.offset for each in client.touches]) == ((0, 9), [4])


def test_the_newest_of_united_touches_are_kept() -> None:
    one, other = (facts_of(completed(9), [touch(n) for n in offsets]) for offsets in ((1, 2), (2, 3)))
    assert one is not None
    assert other is not None
    client = merged_client(one.clients[0], other.clients[0], 2)
    assert [each.offset for each in client.touches] == [2, 3]


def test_a_completed_checkout_precedes_a_begun_one_then_a_note_and_then_a_key() -> None:
    ranked = [
        ClientFacts("z", completed=(NOON, "a")),
        ClientFacts("a", completed=(NOON + DAY, "a"), keyed=(0, "")),
        ClientFacts("y", in_checkout=(NOON + DAY, "a")),
        ClientFacts("b", in_checkout=(NOON, "a"), noted=(0, "")),
        ClientFacts("x", noted=(NOON, "a")),
        ClientFacts("c", noted=(NOON + 1, "a"), keyed=(0, "")),
        ClientFacts("w", keyed=(NOON, "a")),
        ClientFacts("v", keyed=(NOON + 1, "a")),
    ]
    assert sorted({*ranked}, key=preference) == ranked


def test_an_order_keeps_few_of_very_many_clients_and_those_that_may_be_its_own() -> None:
    parts = [facts for n in range(3 * CLIENTS_KEPT) if (facts := facts_of(completed(n, client_id=f"c{n:03d}"), ()))]
    visited = facts_of(completed(999, at=NOON + DAY, client_id="z"), [touch(1)])
    assert visited is not None
    whole = together([*parts, visited])
    assert len(whole.clients) == CLIENTS_KEPT
    assert whole.clients[-1].client == "z"
    assert whole == together([visited, *parts[::-1]])
