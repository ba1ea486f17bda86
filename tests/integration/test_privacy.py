"""A person or a shop forgotten on the genuine servers: nothing is left, nothing else has changed, nothing comes back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient

from tests.integration.driving import audited, drain, record, send
from tests.integration.test_cli import truepixel
from tests.integration.test_dead_letters import states
from tests.integration.test_pipeline import NOON, completed, order, pixel
from truepixel_dagster.audit.account import account
from truepixel_dagster.events.shape import email_hash
from truepixel_dagster.jobs.drain import environment
from truepixel_dagster.jobs.letters_replay import replay as replay_letters
from truepixel_dagster.local.traffic import traffic
from truepixel_dagster.resources import Stores
from truepixel_dagster.settings import Settings
from truepixel_dagster.stores.mongodb import PRIVACY_REQUESTS
from truepixel_dagster.stream.client_config import client_config
from truepixel_dagster.stream.topics import ends, read_all

SHOP, OTHER = "700000001", "700000002"
CLIENT, SECOND_CLIENT, CUSTOMER = "client-anna-1", "client-anna-2", "5550001234567"
EMAIL, TOKEN, CART, ORDER = "Anna.Lee@example.com", "token-anna-00001", "cart-anna-000001", 6660001234567
TRACES = [
    CLIENT,
    SECOND_CLIENT,
    CUSTOMER,
    EMAIL.lower(),
    email_hash(EMAIL) or "",
    TOKEN,
    CART,
    str(ORDER),
    "clickanna1",
]


def of_person(shop: str, number: int = 0) -> list[tuple[bytes | None, bytes | None, Any]]:
    """Two clients of a customer, an order seen by pixel and webhook, a cart, a refund, and two dead letters."""

    def visit(client: str, event: dict[str, Any]) -> tuple[bytes, bytes, Any]:
        return record(f"{shop}:{client}", {**event, "clientId": client, "id": f"{event['id']}-{shop}"})

    customer = {"id": int(CUSTOMER), "email": EMAIL, "first_name": "Anna"}
    bought = order(ORDER, TOKEN, cart_token=CART, email=EMAIL, customer=customer, landing_site="/?fbclid=clickanna1")
    paid = {**bought, "financial_status": "paid"}
    cart = {"id": CART, "token": CART, "line_items": [], "updated_at": NOON, "created_at": NOON}
    refund = {"id": 7770001, "order_id": ORDER, "created_at": NOON, "refund_line_items": []}
    second = order(ORDER + 1, "token-anna-00002", customer=customer, email=EMAIL, created_at=NOON)
    return [
        visit(CLIENT, pixel("view", query="?utm_source=news&utm_campaign=spring&gclid=clickanna1")),
        visit(CLIENT, pixel("seen", "product_viewed", productVariant={"product": {"id": "p1"}, "price": None})),
        record(f"{shop}:{CART}", cart, topic="carts/update", event_id=f"cart-{shop}"),
        visit(CLIENT, completed("done", TOKEN)),
        record(f"{shop}:{TOKEN}", bought, topic="orders/create", event_id=f"create-{shop}"),
        record(f"{shop}:{TOKEN}", paid, topic="orders/paid", event_id=f"paid-{shop}"),
        record(f"{shop}:{TOKEN}", refund, topic="refunds/create", event_id=f"refund-{shop}"),
        visit(SECOND_CLIENT, pixel("other", "product_viewed", productVariant={"product": {"id": "p2"}, "price": None})),
        record(f"{shop}:{SECOND_CLIENT}", second, topic="orders/create", event_id=f"second-{shop}"),
        record(f"{shop}:{CLIENT}", f"no json, but {EMAIL}".encode()),
        record(f"{shop}:{CLIENT}", b'{"id": "twice", "name": "x", "clientId": "c", "zz": {"a": 1, "a": 2}}'),
    ]


def strangers(count: int = 400) -> list[tuple[bytes | None, bytes | None, Any]]:
    return [(r.key, r.value, r.headers) for r in traffic(count, seed=11, shops=2, malformed=0.02)]


@pytest.fixture
def lenient(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    found = settings.model_copy(update={"dead_letter_share": 1.0})
    for name, value in environment(found).items():
        if name.startswith("TRUEPIXEL_"):
            monkeypatch.setenv(name, value)
    monkeypatch.setenv("TRUEPIXEL_EVENT_RETENTION_MONTHS", "600")
    return found


def everything(settings: Settings, stores: Stores, shop: str | None) -> Iterator[tuple[str, str]]:
    """All that every store, the dead letters and the buffers hold, as text; of one shop as far as a key names one."""
    stores.elasticsearch.refresh()
    for hit in stores.elasticsearch.scan(""):
        if shop in (None, hit["_source"]["shop_id"]):
            yield hit["_index"], json.dumps([hit["_id"], hit["_source"]])
    database = stores.mongodb.client[settings.database]
    for name in database.list_collection_names():
        for document in database[name].find():
            of_shop = document.get("shop_id") or str(document["_id"]).partition(":")[0]
            if shop in (None, of_shop) or name in ("redactions", PRIVACY_REQUESTS):
                yield name, json.dumps(document, default=str)
    for letter in read_all(settings, settings.dead_topic):
        if (
            shop is None
            or not (letter.key or b"").startswith(b"70000000")
            or (letter.key or b"").startswith(shop.encode())
        ):
            yield "dead letters", repr(letter)
    yield from stores.redis.texts()


def traces(settings: Settings, stores: Stores, shop: str | None = SHOP, of: list[str] = TRACES) -> list[str]:
    return [
        f"{place}: {trace} in {text[:300]}"
        for place, text in everything(settings, stores, shop)
        for trace in of
        if trace in text.lower()
    ]


def from_the_beginning(settings: Settings) -> None:
    admin = AdminClient(client_config(settings))
    places = [TopicPartition(settings.topic, partition, 0) for partition in ends(settings)]
    (done,) = admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(settings.group, places)]).values()
    done.result()


def nothing_brings_it_back(settings: Settings, stores: Stores) -> None:
    """The topic through the stream once more, the topic replayed, its letters replayed, the days rebuilt."""
    assert traces(settings, stores) == []
    audited(settings, stores)
    from_the_beginning(settings)
    drain(settings)
    truepixel(settings, "replay", "--from", "2h")
    replay_letters(settings)
    assert traces(settings, stores) == []
    audited(settings, stores)
    told = account(settings)
    assert told.lost == []


def redact(settings: Settings, *whom: str) -> dict[str, Any]:
    (found,) = json.loads(truepixel(settings, "privacy", "redact", "--yes", "--json", *whom))["requests"]
    assert all(place["found"] == 0 for place in found["searched"].values())
    return dict(found)


def test_a_customer_is_forgotten_in_one_shop_and_no_replay_brings_the_person_back(
    lenient: Settings, stores: Stores
) -> None:
    send(lenient, [*strangers(), *of_person(SHOP), *of_person(OTHER)])
    drain(lenient)
    before = account(lenient)
    other = sorted(everything(lenient, stores, OTHER))
    assert len(traces(lenient, stores)) > 20
    audited_before = states(lenient, stores)

    dry = json.loads(
        truepixel(lenient, "privacy", "redact", "--shop", SHOP, "--customer", CUSTOMER, "--dry-run", "--json")
    )
    assert dry["documents"]["events"] == 9
    assert len(traces(lenient, stores)) > 20

    done = redact(lenient, "--shop", SHOP, "--customer", CUSTOMER)
    assert (done["documents"]["events"], done["documents"]["attributions"], done["documents"]["dead letters"]) == (
        9,
        2,
        2,
    )
    assert done["searched"]["events"]["looked_at"] == 9
    assert states(lenient, stores) == audited_before
    after = account(lenient)
    assert (after.produced, after.indexed, after.attributions, after.dead_letters) == (
        before.produced,
        before.indexed,
        before.attributions,
        before.dead_letters,
    )
    of_others = [
        pair for pair in sorted(everything(lenient, stores, OTHER)) if pair[0] not in ("redactions", PRIVACY_REQUESTS)
    ]
    assert [pair for pair in of_others if "letters" not in pair[0] and ":" not in pair[0]] == [
        pair for pair in other if "letters" not in pair[0] and ":" not in pair[0]
    ]
    nothing_brings_it_back(lenient, stores)
    assert len(traces(lenient, stores, OTHER)) > 20
