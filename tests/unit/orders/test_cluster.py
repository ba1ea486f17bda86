"""The final state depends only on the set of records, not on lanes, batches or crashes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.orders.families import Crashed, World, delivered, families, whole
from tests.unit.stages.events_made_up import completed, usd, webhook
from truepixel_dagster.events.event import Event
from truepixel_dagster.events.order import SoldLine
from truepixel_dagster.stages.ad_lead import LEAD, Lead, NotedOrder, noted_in, with_noted

Partitions = list[list[Event]]


@given(families(), st.data())
def test_the_final_state_is_that_of_the_set_of_records(partitions: Partitions, data: st.DataObject) -> None:
    found = delivered(partitions, data, 12).state()
    assert found == whole(partitions).state()
    # Only orders count products here: the sum of all changes equals the counts of the orders.
    assert found["totals"] == found["counted"]


def test_a_record_that_was_counted_takes_up_no_order_that_another_has_closed() -> None:
    """Its changes would be reported for a record that no longer counts."""
    line = SoldLine("p", 1, usd(5))
    pixel, link = completed(0, token="b", lines=(line,)), completed(1, token="b", order_id="9", partition=2)
    order = webhook(2, order_id="9", token=None, partition=1, says={"lines": (line, line)})
    world = World()
    world.deliver([pixel])
    world.deliver([order])
    with pytest.raises(Crashed):
        world.deliver([link], writes=2)
    assert [cluster.merged_into for _, cluster in sorted(world.clusters.items())] == [None, "s:9"]
    world.deliver([pixel])
    world.deliver([order])
    world.deliver([link])
    assert world.state() == whole([[pixel], [order], [link]]).state()
    assert world.totals["p", "2026-01-01", "units"] == 2


@given(families())
def test_users_named_in_notes_are_found_again_in_the_orders(partitions: Partitions) -> None:
    """The orders restore a user's document that was lost."""
    world = whole(partitions)
    found: dict[str, set[NotedOrder]] = {}
    for cluster in world.clusters.values():
        for user, orders in noted_in(cluster).items() if cluster.merged_into is None else ():
            found.setdefault(user, set()).update(orders)
    leads = {user: LEAD.read(user, document) for user, document in world.leads.items()}
    known = {user: lead for user, lead in leads.items() if lead.orders}
    assert found.keys() == known.keys()
    for user, lead in known.items():
        assert with_noted(lead, found[user]) is lead
        again = with_noted(Lead(), found[user])
        assert {(each.kind, each.id) for each in again.orders} == {(each.kind, each.id) for each in lead.orders}


@given(families(), st.data())
def test_a_redelivery_changes_nothing(partitions: Partitions, data: st.DataObject) -> None:
    world = whole(partitions)
    clusters, state = dict(world.clusters), world.state()
    for partition in data.draw(st.permutations(partitions)):
        if partition:
            start = data.draw(st.integers(0, len(partition) - 1))
            world.deliver(partition[start:])
    assert world.clusters == clusters
    assert world.state() == state
