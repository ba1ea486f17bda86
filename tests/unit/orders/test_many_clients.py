"""An order with very many clients: the stages and the oracle keep the same few of them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest

from tests.examples import sampled
from tests.unit.orders.families import RULES, World
from tests.unit.stages.events_made_up import completed
from truepixel_dagster.audit import oracle
from truepixel_dagster.events.decode import decode
from truepixel_dagster.events.event import Event, Message
from truepixel_dagster.events.origin import Origin
from truepixel_dagster.orders import facts
from truepixel_dagster.orders.division import orders_of
from truepixel_dagster.orders.event_facts import facts_of
from truepixel_dagster.orders.facts import CLIENTS_KEPT
from truepixel_dagster.stages.attribution import identities_of

AT = 1_801_476_000_000
ORDER = {
    "id": 7,
    "checkout_token": "token",
    "created_at": "2027-02-01T10:00:00Z",
    "updated_at": "2027-02-01T10:00:00Z",
    "currency": "USD",
    "total_price": "5.00",
    "line_items": [],
    "financial_status": "paid",
    "customer": {"id": 99},
}


def seen(number: int, count: int, with_ad: set[int]) -> dict[str, Any]:
    """A client completes the checkout, the first ones last."""
    query = "?utm_source=google&utm_medium=cpc&utm_campaign=x" if number in with_ad else ""
    return {
        "id": f"e{number:03d}",
        "name": "checkout_completed",
        "clientId": f"c{number:03d}",
        "timestamp": f"2027-02-01T09:{(count - number) // 60:02d}:{(count - number) % 60:02d}Z",
        "data": {"checkout": {"token": "token", "currencyCode": "USD"}},
        "context": {"document": {"location": {"href": f"https://s.example/{query}"}}},
    }


def messages(count: int, with_ad: set[int]) -> list[Message]:
    pixels = [(f"s:c{number:03d}", seen(number, count, with_ad), (("source", b"pixel"),)) for number in range(count)]
    hook = ("s:token", ORDER, (("topic", b"orders/create"), ("event_id", b"w")))
    return [
        Message(Origin("events", 0, offset), key.encode(), json.dumps(value).encode(), headers, AT)
        for offset, (key, value, headers) in enumerate([*pixels, hook])
    ]


def record(message: Message) -> oracle.Record:
    origin = message.origin
    return oracle.Record(
        origin.topic, origin.partition, origin.offset, message.timestamp, message.key, message.value, [*message.headers]
    )


@pytest.mark.parametrize("most", sampled([CLIENTS_KEPT, 1, 7, 110]))
@pytest.mark.parametrize("with_ad", [set(), {0}, {3, 90}, set(range(70)), set(range(120))], ids=len)
def test_stages_and_oracle_keep_the_same_clients_of_very_many(with_ad: set[int], most: int) -> None:
    sent = messages(120, with_ad)
    right = oracle.expected(map(record, sent), clients_per_order=most)
    world = World(msgspec.structs.replace(RULES, clients_per_order=most))
    events = [decode(message) for message in sent]
    for event in events:
        assert isinstance(event, Event)
        world.deliver([event])
    (cluster,) = world.clusters.values()
    known = {user for user, said in identities_of(cluster, world.rules).items() if said}
    assert len(known) == most
    of_customer = {user for user, doc in right.customers.items() if doc.get("customer_id") == "99"}
    # A webhook's own event identifies the client in its key.
    assert known == of_customer - {"s:token"}
    (found,), (wanted,) = world.attributions.values(), right.attributions.values()
    assert (found.client_id, len(found.touches)) == (wanted["client_id"], len(wanted["touches"]))


def test_very_many_checkouts_of_one_cart_take_no_quadratic_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each sighting is examined a logarithmic number of times, and not once for each other sighting."""
    count, looked_at = 1024, 0

    def counting(found: Iterable[facts.Sighting], most: int) -> tuple[facts.Sighting, ...]:
        nonlocal looked_at
        sightings = list(found)
        looked_at += len(sightings)
        return kept_sightings(sightings, most)

    kept_sightings = facts.kept_sightings
    monkeypatch.setattr(facts, "kept_sightings", counting)
    made = (facts_of(completed(n, token=f"t{n:04d}", client_id=f"c{n % 5}"), ()) for n in range(count))
    (order,) = orders_of("s", [node for node in made if node])
    assert len(order.sightings(2 * count)) == count
    assert order.checkout_token == "t0000"
    assert looked_at <= count * 12
