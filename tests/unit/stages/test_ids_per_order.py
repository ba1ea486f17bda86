"""The limit of ids per order: what pixels add beyond it is rejected, what Shopify reports is accepted."""

from __future__ import annotations

from tests.unit.stages.events_made_up import completed, webhook
from truepixel_dagster.events.event import Event
from truepixel_dagster.orders.cluster import Cluster, groups_of
from truepixel_dagster.stages.ids_per_order import beyond

MOST = 5


def refused(events: list[Event], clusters: dict[str, Cluster]) -> list[str]:
    (group,) = groups_of(events, clusters)
    return [found.event.event_id for found in beyond(group, MOST)]


def cluster(*ids: str, into: str | None = None) -> Cluster:
    return Cluster("s", tuple(f"s:{id_}" for id_ in ids), merged_into=into)


FULL = {"s:1": cluster("1", "a", "b", "c", "d")}


def test_every_id_up_to_the_bound_is_accepted() -> None:
    assert refused([completed(1, token="d", order_id="1")], {"s:1": cluster("1", "a", "b", "c")}) == []


def test_an_id_too_many_is_refused_by_a_reason_that_names_the_setting() -> None:
    (group,) = groups_of([completed(1, token="x", order_id="1")], FULL)
    (found,) = beyond(group, MOST)
    assert found.reason == "pixel events may add no id to an order with 5 ids (TRUEPIXEL_IDS_PER_ORDER=5)"


def test_an_event_that_adds_no_id_is_accepted() -> None:
    assert refused([completed(1, token="a", order_id="1"), completed(2, token="x", order_id="1")], FULL) == ["e2"]


def test_shopifys_ids_are_accepted() -> None:
    hook = webhook(1, order_id="1", token="x", cart="y")
    assert refused([hook, completed(2, token="x", order_id="1"), completed(3, token="z", order_id="1")], FULL) == ["e3"]


def test_two_orders_are_not_merged_beyond_the_bound() -> None:
    both = {"s:1": cluster("1", "a"), "s:2": cluster("2", "c", "d")}
    assert refused([completed(1, token="a", order_id="2"), completed(2, token="a", order_id="1")], both) == []
    more = {"s:1": cluster("1", "a", "b"), "s:2": cluster("2", "c", "d", "e")}
    assert refused([completed(1, token="a", order_id="2"), completed(2, token="a", order_id="1")], more) == ["e1"]
    merged = {"s:1": cluster("1", "a", "b"), "s:2": cluster("2", "c", "d", "e", into="s:1")}
    assert refused([completed(1, token="a", order_id="2")], merged) == []
