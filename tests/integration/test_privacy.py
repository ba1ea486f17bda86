"""A person or a shop forgotten on the real servers: nothing is left, nothing else changes, nothing comes back."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from click.testing import CliRunner
from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient

from tests.integration.driving import audited, drain, flush, record, send, set_environment
from tests.integration.test_dead_letters import accept, refuse
from tests.integration.test_pipeline import NOON, completed, order, pixel
from truepixel_dagster.audit.account import account
from truepixel_dagster.cli import main
from truepixel_dagster.dead_letters.inspect import listed
from truepixel_dagster.dead_letters.reprocess import replay as replay_letters
from truepixel_dagster.definitions import definitions
from truepixel_dagster.events.shape import email_hash
from truepixel_dagster.health.records import records_accounted
from truepixel_dagster.instance.process import environment
from truepixel_dagster.local.traffic import traffic
from truepixel_dagster.privacy import forget
from truepixel_dagster.privacy import requests as privacy
from truepixel_dagster.rebuild import customers, events
from truepixel_dagster.rebuild.context import rebuilding
from truepixel_dagster.resources import Stores
from truepixel_dagster.sensors.privacy_requests import privacy_every_two_minutes
from truepixel_dagster.settings import Settings
from truepixel_dagster.stores import redactions
from truepixel_dagster.stores.mongodb import AD_LEADS, PRIVACY_REQUESTS, REDACTIONS
from truepixel_dagster.stream import topics
from truepixel_dagster.stream.client_config import client_config
from truepixel_dagster.stream.reading import read_all
from truepixel_dagster.stream.topics import bounds

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


def of_person(shop: str) -> list[tuple[bytes | None, bytes | None, Any]]:
    """Two clients of a customer, an order seen by pixel and webhook, a cart, a refund, and a dead letter."""

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
    ]


def strangers(count: int = 200) -> list[tuple[bytes | None, bytes | None, Any]]:
    return [(r.key, r.value, r.headers) for r in traffic(count, seed=11, shops=2, malformed=0.02)]


@pytest.fixture
def ours(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """An environment in which commands and jobs find the namespace; any share of a batch may be refused."""
    found = settings.model_copy(update={"dead_letter_share": 1.0})
    set_environment(monkeypatch, found)
    for module in (privacy, redactions):
        monkeypatch.setattr(module, "KNOWN_SECONDS", 0.2)
    return found


def call(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(main, ["privacy", *arguments])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result.stdout if code == 0 else result.output


def redact(*whom: str) -> dict[str, Any]:
    """Redact by the command; return its report of the request."""
    found: dict[str, Any] = json.loads(call("redact", "--yes", "--json", *whom))["requests"][-1]
    assert all(place["found"] == 0 for place in found["searched"].values())
    return found


def everything(settings: Settings, stores: Stores, shop: str) -> dict[str, list[str]]:
    """Everything of a shop, or of no shop, in stores, dead letters and buffers, as text by place."""
    found: dict[str, list[str]] = {}
    stores.elasticsearch.refresh()
    for hit in stores.elasticsearch.scan(""):
        if hit["_source"]["shop_id"] == shop:
            found.setdefault(hit["_index"], []).append(json.dumps([hit["_id"], hit["_source"]], sort_keys=True))
    database = stores.mongodb.client[settings.database]
    for name in database.list_collection_names():
        for document in database[name].find():
            if f"{document['_id']}:".startswith(f"{shop}:") or name in (REDACTIONS, PRIVACY_REQUESTS):
                found.setdefault(name, []).append(json.dumps(document, default=str, sort_keys=True))
    for letter in read_all(settings.kafka(), settings.dead_topic):
        if (letter.key or b"").startswith(shop.encode()) or b":" not in (letter.key or b""):
            found.setdefault("dead letters", []).append(repr((letter.key, letter.value, letter.headers)))
    for name, text in stores.redis.texts():
        if f":{shop}:" in name or name.split(":")[1] not in ("buffer", "claim", "visitors"):
            found.setdefault("redis", []).append(f"{name} {text}")
    return {place: sorted(texts) for place, texts in found.items()}


def traces(settings: Settings, stores: Stores, shop: str = SHOP, of: Sequence[str] = TRACES) -> list[str]:
    """Return where one of the texts is still found, without the pipeline's own search."""
    places = everything(settings, stores, shop).items()
    return [
        f"{p}: {trace} in {text[:300]}"
        for p, texts in places
        for text in texts
        for trace in of
        if trace in text.lower()
    ]


def others(settings: Settings, stores: Stores) -> dict[str, list[str]]:
    """The other shop's documents; the rest belongs to no shop."""
    places = everything(settings, stores, OTHER)
    return {place: texts for place, texts in places.items() if place not in ("redis", REDACTIONS, PRIVACY_REQUESTS)}


def from_the_beginning(settings: Settings) -> None:
    """Have the stream read the topic from its beginning."""
    admin = AdminClient(client_config(settings.kafka()))
    places = [TopicPartition(settings.topic, partition, 0) for partition in bounds(settings.kafka())[0]]
    (done,) = admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(settings.group, places)]).values()
    done.result()


def nothing_brings_it_back(settings: Settings, stores: Stores, of: Sequence[str] = TRACES) -> None:
    """Read the topic again, replay it, reprocess its dead letters and rebuild a day's events: no trace comes back."""
    assert traces(settings, stores, of=of) == []
    from_the_beginning(settings)
    drain(settings)
    result = CliRunner().invoke(main, ["replay", "--from", "2h"])
    assert result.exit_code == 0, result.output
    replay_letters(settings)
    with rebuilding(settings) as context:
        rebuilt = events.rebuild_days(context, [NOON[:10]])
        assert (rebuilt.changed, rebuilt.removed) == (0, 0)
        assert records_accounted(context).passed
    assert traces(settings, stores, of=of) == []
    audited(settings, stores)
    assert account(settings).lost == []


def test_a_customer_is_forgotten_in_one_shop_and_no_replay_brings_the_person_back(
    ours: Settings, stores: Stores
) -> None:
    send(ours, [*strangers(), *of_person(SHOP), *of_person(OTHER)])
    drain(ours)
    audited(ours, stores)
    before, other = account(ours), others(ours, stores)
    was = {place: len(texts) for place, texts in everything(ours, stores, SHOP).items()}
    assert len(traces(ours, stores)) > 20
    whom = ("--shop", SHOP, "--customer", CUSTOMER)

    assert json.loads(call("redact", "--dry-run", "--json", *whom))["documents"]["events"] == 9
    assert "Redact" in call("redact", *whom, code=1)
    assert len(traces(ours, stores)) > 20
    done = redact(*whom)["documents"]
    assert (done["events"], done["attributions"], done["dead letters"], done["customers"]) == (9, 2, 1, 4)

    assert others(ours, stores) == other
    now = {place: len(texts) for place, texts in everything(ours, stores, SHOP).items()}
    assert {p: n for p, n in now.items() if p not in (REDACTIONS, PRIVACY_REQUESTS)} == was
    assert account(ours) == before
    audited(ours, stores)
    nothing_brings_it_back(ours, stores)
    kept = (
        f"{ours.namespace}-attributions",
        f"{ours.namespace}-events-2026.01",
        "customers",
        "ad_leads",
        "orders",
    )
    assert [others(ours, stores)[place] for place in kept] == [other[place] for place in kept]
    assert redact(*whom)["documents"]["events"] == 0
    audited(ours, stores)


def test_an_anonymised_record_stays_so_when_it_is_decoded_again_without_kafka(ours: Settings, stores: Stores) -> None:
    send(ours, [*strangers(20), *of_person(SHOP)])
    drain(ours)
    redact("--shop", SHOP, "--customer", CUSTOMER)
    audited(ours, stores)
    before = everything(ours, stores, SHOP)
    topics.delete_before(ours.kafka(), ours.topic, bounds(ours.kafka())[1])
    assert age(stores) > 8
    with rebuilding(ours) as context:
        rebuilt = events.rebuild_days(context, [NOON[:10]])
        assert (rebuilt.changed, rebuilt.refused, rebuilt.unreadable) == (9, 0, 0)
        customers.rebuild_days(context, [NOON[:10]])
    assert everything(ours, stores, SHOP) == before
    assert traces(ours, stores) == []


def age(stores: Stores) -> int:
    """Write the shop's event documents as the first edition did; return their number."""
    found = list(stores.elasticsearch.scan("events-", {"term": {"shop_id": SHOP}}))
    for hit in found:
        source = hit["_source"]
        event_id = source["event_id"].removeprefix(f"{source['name']}:")
        new = {name: value for name, value in source.items() if name not in ("channel", "bot", "sales_channel")}
        stores.elasticsearch.client.delete(index=hit["_index"], id=hit["_id"])
        new |= {"event_id": event_id, "schema": 2}
        stores.elasticsearch.client.index(index=hit["_index"], id=f"{SHOP}:{event_id}", document=new)
    stores.elasticsearch.refresh()
    return len(found)


def test_everything_of_a_person_is_given_out_and_nothing_of_another_shop(ours: Settings, stores: Stores) -> None:
    send(ours, [*of_person(SHOP), *of_person(OTHER), *strangers(50)])
    drain(ours)
    lines = [json.loads(line) for line in call("export", "--shop", SHOP, "--customer", CUSTOMER).splitlines()]
    found = Counter(line["store"] for line in lines)
    assert (found["events"], found["attributions"], found["customers"], found["dead letters"]) == (9, 2, 4, 1)
    # Of the two clients one came by an ad; the landing page of an order is nobody's touch.
    assert found["ad_leads"] == 1
    assert found["orders"] > 1
    assert OTHER not in json.dumps(lines)
    orders = {line["document"]["_id"]: line["document"] for line in lines if line["store"] == "attributions"}
    assert orders[f"{SHOP}:{TOKEN}"]["value"] == {"amount": 1000, "currency": "USD"}
    path = ours.data_dir / "answer.jsonl"
    call("export", "--shop", SHOP, "--client", SECOND_CLIENT, "--output", str(path))
    assert path.stat().st_mode & 0o777 == 0o600
    of_client = path.read_text()
    assert "token-anna-00002" in of_client
    assert CLIENT not in of_client
    assert "--client excludes --customer" in call("export", "--shop", SHOP, "--client", "c", "--customer", "d", code=2)


def test_a_client_alone_is_forgotten_with_its_orders(ours: Settings, stores: Stores) -> None:
    send(ours, [*of_person(SHOP), *strangers(50)])
    drain(ours)
    redact("--shop", SHOP, "--client", SECOND_CLIENT)
    nothing_brings_it_back(ours, stores, of=[SECOND_CLIENT, "token-anna-00002", str(ORDER + 1)])
    assert traces(ours, stores, of=[CLIENT])


def test_a_redaction_beside_the_stream_leaves_nothing_and_counts_nothing_twice(ours: Settings, stores: Stores) -> None:
    small = ours.model_copy(update={"batch_messages": 16})
    mixed = strangers(500)
    for number, own in enumerate([*of_person(SHOP), *of_person(SHOP)]):
        mixed.insert(25 * number, own)
    send(ours, mixed)
    draining = threading.Thread(target=drain, args=(small,))
    draining.start()
    while not account_of_events(stores):
        time.sleep(0.05)
    redact("--shop", SHOP, "--customer", CUSTOMER)
    draining.join()
    drain(ours)
    assert traces(ours, stores) == []
    audited(ours, stores)
    nothing_brings_it_back(ours, stores)


def account_of_events(stores: Stores) -> int:
    stores.elasticsearch.refresh()
    return stores.elasticsearch.count("events-")


INTERRUPTED_IN = {
    "rewriting letters": (topics, "delete_before"),
    "forgetting events": (forget, "_forget_orders"),
    "working out": (customers, "rebuild_users"),
}


@pytest.mark.parametrize("step", INTERRUPTED_IN)
@pytest.mark.slow
def test_an_interrupted_redaction_continues_with_everything_it_had_found(
    ours: Settings, stores: Stores, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    send(ours, of_person(SHOP))
    drain(ours)

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(*INTERRUPTED_IN[step], killed)
        call("redact", "--yes", "--shop", SHOP, "--customer", CUSTOMER, code=130)
    (waits,) = json.loads(call("requests", "--json"))
    assert waits["state"] == "waiting"
    (done,) = json.loads(call("run", "--json"))["requests"]
    assert all(place["found"] == 0 for place in done["searched"].values())
    assert traces(ours, stores) == []
    audited(ours, stores)


@pytest.mark.slow
def test_a_redaction_that_was_killed_is_done_by_the_same_command(ours: Settings, stores: Stores) -> None:
    send(ours, [*of_person(SHOP), *strangers(50)])
    drain(ours)
    command = [
        sys.executable,
        "-m",
        "truepixel_dagster.cli",
        "privacy",
        "redact",
        "--yes",
        "--shop",
        SHOP,
        "--customer",
    ]
    with subprocess.Popen([*command, CUSTOMER], env=environment(ours), stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("forgetting"):
                process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    redact("--shop", SHOP, "--customer", CUSTOMER)
    assert {request["state"] for request in json.loads(call("requests", "--json"))} == {"done"}
    assert traces(ours, stores) == []
    audited(ours, stores)


def webhook(topic: str, shop: str, key: str, **fields: Any) -> tuple[bytes, bytes, Any]:
    customer = {} if topic == "shop/redact" else {"customer": {"id": int(CUSTOMER), "email": EMAIL, "phone": "555"}}
    payload = {"shop_id": int(shop), "shop_domain": "s.example", **customer, **fields}
    return record(key, payload, topic=topic, source="webhook")


def do_requests() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        assert definitions.resolve_job_def("privacy").execute_in_process(instance=instance).success


def scheduled(folder: Path) -> Any:
    with dg.DagsterInstance.local_temp(str(folder)) as instance:
        return privacy_every_two_minutes(dg.build_schedule_context(instance=instance))


def test_shopifys_webhooks_are_answered_by_the_job(ours: Settings, stores: Stores) -> None:
    send(ours, [*of_person(SHOP), *of_person(OTHER), *strangers(50)])
    drain(ours)
    other = others(ours, stores)
    assert isinstance(scheduled(ours.data_dir / "dagster"), dg.SkipReason)
    send(
        ours,
        [
            webhook(
                "customers/data_request", SHOP, f"{SHOP}:{CUSTOMER}", data_request={"id": 9}, orders_requested=[ORDER]
            )
        ],
    )
    drain(ours)
    assert traces(ours, stores, of=[EMAIL.lower()]) == [
        t for t in traces(ours, stores, of=[EMAIL.lower()]) if PRIVACY_REQUESTS not in t
    ]
    assert isinstance(scheduled(ours.data_dir / "dagster"), dg.RunRequest)
    do_requests()
    (answer,) = (ours.data_dir / "privacy").iterdir()
    assert answer.stat().st_mode & 0o777 == 0o600
    assert {json.loads(line)["store"] for line in answer.read_text().splitlines()} >= {
        "events",
        "attributions",
        "customers",
    }
    assert OTHER not in answer.read_text()

    send(ours, [webhook("customers/redact", SHOP, f"{SHOP}:{CUSTOMER}", orders_to_redact=[ORDER])])
    drain(ours)
    do_requests()
    assert not answer.exists()
    assert others(ours, stores) == other
    audited(ours, stores)
    nothing_brings_it_back(ours, stores)
    assert isinstance(scheduled(ours.data_dir / "dagster"), dg.SkipReason)


def test_a_webhook_of_another_shop_than_its_key_is_a_dead_letter_without_the_person(
    ours: Settings, stores: Stores
) -> None:
    send(ours, [*of_person(SHOP), *of_person(OTHER)])
    drain(ours)
    before = everything(ours, stores, SHOP), others(ours, stores)
    send(ours, [webhook(topic, SHOP, f"{OTHER}:x") for topic in ("customers/redact", "shop/redact")])
    drain(ours)
    assert json.loads(call("requests", "--json")) == []
    refused = [entry for entry in listed(ours, stores) if "shop_id is not the shop" in entry.letter.error]
    assert [entry.letter.stage for entry in refused] == ["decode", "decode"]
    do_requests()
    after = everything(ours, stores, SHOP)
    assert {p: t for p, t in after.items() if p != "redis"} == {p: t for p, t in before[0].items() if p != "redis"}
    own = [text for text in everything(ours, stores, OTHER)["dead letters"] if "shop_id is not" in text]
    assert len(own) == 2
    assert EMAIL not in "".join(own)
    audited(ours, stores)


def test_nothing_of_a_shop_remains_and_no_replay_restores_it(ours: Settings, stores: Stores) -> None:
    send(ours, [*of_person(SHOP), *of_person(OTHER), *strangers(50)])
    drain(ours)
    flush(stores)
    send(
        ours,
        [
            record(
                f"{SHOP}:late",
                {**pixel("late", "product_viewed", productVariant={"product": {"id": "p9"}}), "clientId": "late"},
            )
        ],
    )
    drain(ours)
    other = others(ours, stores)
    send(ours, [webhook("shop/redact", SHOP, f"{SHOP}:shop")])
    drain(ours)
    do_requests()
    assert traces(ours, stores, of=[SHOP, *TRACES]) == []
    assert others(ours, stores) == other
    audited(ours, stores)
    nothing_brings_it_back(ours, stores, of=[SHOP, *TRACES])


def test_waiting_dead_letters_are_reprocessed_once_whether_redacted_or_not(ours: Settings, stores: Stores) -> None:
    stranger = [record(f"{SHOP}:stranger-{n}", pixel(f"stranger-{n}", query="?utm_source=n")) for n in range(20)]
    refuse(stores, AD_LEADS, f"({CLIENT}|stranger-[0-9]+)$")
    send(ours, [*of_person(SHOP), *stranger])
    drain(ours)
    accept(stores, AD_LEADS)
    waiting = [entry.state for entry in listed(ours, stores)].count("waiting")
    assert waiting > 20
    redact("--shop", SHOP, "--customer", CUSTOMER)
    assert traces(ours, stores) == []
    assert [entry.state for entry in listed(ours, stores)].count("waiting") == waiting
    assert replay_letters(ours).replayed == waiting - 1
    assert traces(ours, stores) == []
    audited(ours, stores)
    assert replay_letters(ours).replayed == 0
    audited(ours, stores)


def test_a_returning_person_counts_from_then_on(ours: Settings, stores: Stores) -> None:
    send(ours, [*of_person(SHOP), *strangers(50)])
    drain(ours)
    sent_twice = audited(ours, stores).duplicates
    redact("--shop", SHOP, "--customer", CUSTOMER)
    later = time.strftime("%Y-%m-%dT%H:%M:%S.999Z", time.gmtime(time.time() + 60))
    again = {**pixel("again", at=later, query="?utm_source=back"), "clientId": CLIENT}
    old = {
        **pixel("view", query="?utm_source=news&utm_campaign=spring&gclid=clickanna1"),
        "clientId": CLIENT,
        "id": f"view-{SHOP}",
    }
    send(ours, [record(f"{SHOP}:{CLIENT}", again), record(f"{SHOP}:{CLIENT}", old)])
    drain(ours)
    assert stores.mongodb.read("customers", [f"{SHOP}:{CLIENT}"])[f"{SHOP}:{CLIENT}"]["events"] == 1
    found = audited(ours, stores)
    assert found.duplicates == sent_twice + 1
    assert traces(ours, stores, of=["clickanna1", TOKEN, CUSTOMER]) == []
