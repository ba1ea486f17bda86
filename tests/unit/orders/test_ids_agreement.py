"""Pixel events with one token and several order ids: stages and oracle assign each to the same order."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.orders.families import PARTITIONS, RULES, World, delivered
from truepixel_dagster.audit import oracle
from truepixel_dagster.events.decode import decode
from truepixel_dagster.events.event import Event, Message
from truepixel_dagster.events.origin import Origin
from truepixel_dagster.orders.division import orders_of
from truepixel_dagster.orders.facts import Node

AT = 1_801_476_000_000
CLIENTS, IDS, TOKENS, CARTS = ("c", "d"), ("1", "2", "3"), ("a", "b"), ("k", "l")
Partitions = list[list[Message]]


def pixel(name: str, number: int, client: str, token: str | None, cart: str | None, order_id: str | None) -> Any:
    """An event of a client who has come by an ad."""
    checkout: dict[str, Any] = {"token": token, "cartToken": cart, "currencyCode": "USD"}
    checkout |= {"totalPrice": {"amount": number}, "order": {"id": order_id}}
    return (
        client,
        {
            "id": f"p{number:02d}",
            "name": name,
            "clientId": client,
            "timestamp": f"2027-02-01T09:{number:02d}:00Z",
            "data": {"checkout": checkout} if name != "page_viewed" else {},
            "context": {"document": {"location": {"href": f"https://s.example/?gclid={number}"}}},
        },
        (("source", b"pixel"),),
    )


def webhook(
    topic: str, number: int, order_id: str | None, token: str | None, cart: str | None, landing: str | None = "/"
) -> Any:
    """An order as Shopify shows it."""
    reported_at = f"2027-02-01T10:{number:02d}:00Z"
    order: dict[str, Any] = {"id": order_id, "checkout_token": token, "cart_token": cart}
    order |= {"currency": "USD", "total_price": f"{100 + number}", "line_items": [], "financial_status": "paid"}
    order |= {"created_at": reported_at, "updated_at": reported_at, "landing_site": landing, "source_name": "web"}
    headers = (("topic", topic.encode()), ("event_id", f"w{number:02d}".encode()))
    return token or cart or order_id, {"id": order_id} if topic == "orders/delete" else order, headers


@st.composite
def _sent(draw: st.DrawFn, number: int) -> Any:
    order_id, token, cart = (draw(st.sampled_from([None, *names])) for names in (IDS, TOKENS, CARTS))
    kind = draw(
        st.sampled_from(["page_viewed", "checkout_started", "checkout_completed", "checkout_completed", "order"])
    )
    if kind != "order":
        return pixel(kind, number, draw(st.sampled_from(CLIENTS)), token, cart, order_id)
    # Most of them have no token.
    token, cart = (name if draw(st.integers(0, 3)) == 0 else None for name in (token, cart))
    if order_id and draw(st.integers(0, 9)) == 0:
        return webhook("orders/delete", number, order_id, None, None)
    has_id = not (token or cart) or draw(st.booleans())
    landing = draw(st.sampled_from([None, "/", "/?gclid=1", "/?utm_source=news&utm_medium=email"]))
    return webhook("orders/updated", number, (order_id or "1") if has_id else None, token, cart, landing)


@st.composite
def partitions(draw: st.DrawFn) -> Partitions:
    """The records of three partitions; those of a key are in one of them."""
    return placed([draw(_sent(number)) for number in range(draw(st.integers(2, 12)))])


def placed(sent: Sequence[Any]) -> Partitions:
    found: Partitions = [[] for _ in range(PARTITIONS)]
    for key, value, headers in sent:
        partition = found[sum(key.encode()) % PARTITIONS]
        origin = Origin("events", sum(key.encode()) % PARTITIONS, len(partition))
        partition.append(Message(origin, f"s:{key}".encode(), json.dumps(value).encode(), headers, AT))
    return found


def expected(found: Partitions) -> oracle.Expected:
    """What the oracle expects of the records."""
    records = [
        oracle.Record("events", m.origin.partition, m.origin.offset, m.timestamp, m.key, m.value, [*m.headers])
        for partition in found
        for m in partition
    ]
    return oracle.expected(records, touch_repeat_seconds=0)


def right(found: Partitions) -> dict[str, Any]:
    return {id_: without_kafka(document) for id_, document in expected(found).attributions.items()}


def actual(world: World) -> dict[str, Any]:
    return {id_: without_kafka(msgspec.to_builtins(found)) for id_, found in world.attributions.items()}


def without_kafka(document: Any) -> dict[str, Any]:
    """The ids, clients and money of a document."""
    names = ("order_id", "checkout_token", "cart_token", "client_id", "value", "value_from", "occurred_at")
    seen = {name: [each["event_id"] for each in document[name]] for name in ("sightings", "touches")}
    return {name: document.get(name) for name in names} | seen


def events(messages: Sequence[Message]) -> list[Event]:
    found = [decode(message) for message in messages]
    assert all(isinstance(event, Event) for event in found), found
    return [event for event in found if isinstance(event, Event)]


@given(partitions(), st.data())
def test_stages_and_oracle_agree_whatever_ids_records_name(found: Partitions, data: st.DataObject) -> None:
    world = delivered([events(partition) for partition in found], data, 8)
    assert actual(world) == right(found)
    assert world.state()["totals"] == world.state()["counted"]


def of_order(world: World, order_id: str) -> Any:
    return next(document for document in actual(world).values() if document["order_id"] == order_id)


BRIDGED = [
    webhook("orders/create", 1, "1", None, None),
    webhook("orders/create", 2, "2", None, None),
    pixel("checkout_completed", 3, "c", "a", None, "1"),
    pixel("checkout_completed", 4, "d", "a", None, "2"),
]


def test_each_of_two_completions_with_one_token_belongs_to_the_order_that_it_names() -> None:
    for sent in (BRIDGED, BRIDGED[::-1], BRIDGED[2:] + BRIDGED[:2]):
        world, found = World(), placed(sent)
        for partition in found:
            world.deliver(events(partition))
        assert actual(world) == right(found)
        assert (of_order(world, "1")["client_id"], of_order(world, "2")["client_id"]) == ("c", "d")


def test_an_event_without_an_order_id_belongs_to_the_order_of_its_token_or_cart() -> None:
    for token, cart in (("b", None), (None, "k")):
        started = pixel("checkout_started", 0, "e", token, cart, None)
        linked = pixel("checkout_completed", 5, "d", "b", "k", "2")
        world, found = World(), placed([*BRIDGED, linked, started])
        for partition in found:
            world.deliver(events(partition))
        assert actual(world) == right(found)
        (cluster,) = (cluster for cluster in world.clusters.values() if cluster.merged_into is None)
        by_id = {order.order_id: {client.client for client in order.clients} for order in cluster.orders(RULES)}
        assert "e" in by_id["2"]
        assert "e" not in by_id["1"]


def test_an_order_that_is_known_by_a_pixels_cart_alone_has_an_id() -> None:
    world, found = World(), placed([pixel("checkout_completed", 1, "c", None, "k", None)])
    for partition in found:
        if partition:
            world.deliver(events(partition))
    assert set(actual(world)) == set(right(found)) == {"s:k"}


def test_nodes_stored_before_order_ids_were_kept_apart_are_read() -> None:
    """A token's facts were one node, whatever order ids the events named."""
    stored = msgspec.convert({"kind": "token", "id": "a", "completed_at": [AT, "p"], "order_ids": ["2", "3"]}, Node)
    orders = [Node("order", id_, deleted=False, payloads=_payloads(id_)) for id_ in ("1", "2", "3")]
    found = orders_of("s", [*orders, stored])
    assert {order.order_id for order in found if order.checkout_token == "a"} == {"2"}


def _payloads(order_id: str) -> Any:
    message = placed([webhook("orders/create", 1, order_id, None, None)])
    (event,) = events([each for partition in message for each in partition])
    assert event.order is not None
    return (event.order.payload,)
