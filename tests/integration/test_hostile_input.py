"""No client can stop others: whatever it sends, lanes continue, stores stay bounded, and the oracle agrees."""

from __future__ import annotations

import itertools
import json
import random
import threading
import time
from collections.abc import Iterable
from contextlib import closing
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from tests.header_names import send_with_header_names
from tests.integration.driving import audited, drain, record, send
from tests.integration.test_pipeline import attribution, completed, forget_offsets, order, pixel
from truepixel_dagster.audit.account import account
from truepixel_dagster.dead_letters import inspect, reprocess
from truepixel_dagster.dead_letters import topic as dead_letters
from truepixel_dagster.events.money import MAX_SUM
from truepixel_dagster.events.origin import Origin
from truepixel_dagster.local.samples import read_lines
from truepixel_dagster.local.traffic import traffic
from truepixel_dagster.pipeline.rejections import TooManyDeadLetters
from truepixel_dagster.resources import Stores
from truepixel_dagster.settings import MIB, Settings
from truepixel_dagster.stores.mongodb import AD_LEADS, CUSTOMERS, ORDERS, MongoStore
from truepixel_dagster.stream import reading
from truepixel_dagster.stream.client_config import client_config

NOON = "2026-01-01T12:00:00.000Z"


def topic_config(settings: Settings, topic: str, **values: str) -> None:
    admin = AdminClient(client_config(settings.kafka()))
    entries = [
        ConfigEntry(name.replace("_", "."), value, incremental_operation=AlterConfigOpType.SET)
        for name, value in values.items()
    ]
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)
    for future in admin.incremental_alter_configs([resource]).values():
        future.result()


def send_raw(settings: Settings, records: Iterable[dict[str, Any]], **config: Any) -> None:
    """Send as another producer would, of any size and time."""
    limits = {"message.max.bytes": 512 * MIB, "queue.buffering.max.kbytes": 2 * 1024 * 1024}
    producer = Producer({**client_config(settings.kafka()), **limits, **config})
    failures: list[Any] = []
    for each in records:
        producer.produce(settings.topic, on_delivery=lambda e, _: failures.append(e) if e else None, **each)
        producer.poll(0)
    assert producer.flush(60) == 0
    assert not failures


def dead(settings: Settings) -> list[dead_letters.DeadLetter]:
    return list(dead_letters.read(settings.kafka()))


# --- Junk ---


def test_a_thousand_junk_records_of_one_client_stop_no_lane(settings: Settings, stores: Stores) -> None:
    junk = [record("s:mallory", b"{") for _ in range(1000)]
    send(settings, [*junk, *(record(f"s:c{n}", pixel(f"e{n}")) for n in range(20)), *junk[:300]])
    drain(settings)
    found = audited(settings, stores)
    assert (found.events, found.dead_letters) == (20, 1300)


def test_junk_of_a_few_clients_or_of_invented_ones_stops_no_lane(settings: Settings, stores: Stores) -> None:
    send(settings, [record(f"s:c{n}", pixel(f"e{n}")) for n in range(20)])
    drain(settings)
    send(settings, [record(f"s:m{n % 10}", b"{") for n in range(600)])
    send(settings, [record(f"s:made-up-{n}", b"[]") for n in range(600)])
    drain(settings)
    assert audited(settings, stores).dead_letters == 1200


@pytest.mark.parametrize("with_customers", [False, True])
def test_most_clients_refused_at_once_still_stop_the_lane(
    settings: Settings, stores: Stores, with_customers: bool
) -> None:
    if with_customers:
        send(settings, [record(f"s:c{n}", pixel(f"e{n}")) for n in range(100)])
        drain(settings)
    send(settings, [record(f"s:c{n}", b"{") for n in range(100) for _ in range(3)])
    with pytest.raises(TooManyDeadLetters, match="clients"):
        drain(settings)
    assert dead(settings) == []


# --- Size ---


def test_a_record_too_large_for_a_dead_letter_has_one_that_refers_to_it(settings: Settings, stores: Stores) -> None:
    value = b'{"id":"big","name":"n","clientId":"c","x":"' + b"x" * (60 * MIB) + b'"}'
    large = {"key": b"s:mallory", "value": value, "headers": [("source", b"pixel")]}
    send(settings, [record("s:c", pixel("e1"))])
    send_raw(settings, [large], **{"compression.type": "gzip"})
    send(settings, [record("s:c", pixel("e2")), record("s:mallory", pixel("e3"))])
    drain(settings)
    found = audited(settings, stores)
    assert (found.events, found.dead_letters) == (3, 1)
    (letter,) = dead(settings)
    assert letter.message.value is None
    assert letter.letter.size == len(value)
    assert "larger than" in letter.error
    shown = inspect.find(settings, stores, letter.letter.origin)
    assert shown is not None
    assert shown[1].value == value
    assert "refers_to" in inspect.as_row(shown[0])
    assert "refers_to" in inspect.as_document(*shown)
    # Reprocessing reads its record, which is rejected again for its size.
    assert reprocess.replay(settings).failed_again == 1


def test_a_dead_letter_that_refers_to_a_record_is_reprocessed_while_the_record_exists(
    settings: Settings, stores: Stores
) -> None:
    """A record that today's version refuses, and that is understood when the letter comes back."""
    small = settings.model_copy(update={"dead_letter_bytes": 64 * 1024})
    value = json.dumps({**pixel("e1"), "more": "x" * 100_000}).encode()
    send(settings, [record("s:c", pixel("e0")), (b"s:c", value, ())])
    drain(settings)
    message = next(each for each in reading.read_all(settings.kafka()) if len(each.value or b"") > 100_000)
    with closing(dead_letters.DeadLetters(small.kafka(), small.dead_letter_bytes)) as out:
        out.send(message, error="refused once", stage="customer")
        out.flush()
    (letter,) = dead(settings)
    assert letter.message.value is None
    (again,) = dead_letters.reread(settings.kafka(), [letter.letter])
    assert (again.message.value, again.message.headers) == (value, ())
    assert reprocess.replay(settings).replayed == 1
    with closing(dead_letters.DeadLetters(small.kafka(), small.dead_letter_bytes)) as out:
        out.send(msgspec.structs.replace(message, value=value + b" "), error="of another record", stage="customer")
        out.flush()
    (other,) = (each for each in dead(settings) if each.error == "of another record")
    assert dead_letters.reread(settings.kafka(), [other.letter]) == []


def test_a_dead_letter_that_is_too_large_for_its_topic_refers_to_its_record(settings: Settings, stores: Stores) -> None:
    topic_config(settings, settings.dead_topic, max_message_bytes="100000")
    noise = random.Random(1).randbytes(400_000).hex().encode()
    send(settings, [record("s:c", b'{"broken":"' + noise), record("s:c", pixel("e1"))])
    drain(settings)
    (letter,) = dead(settings)
    assert letter.letter.sha256
    assert letter.message.value is None
    assert audited(settings, stores).dead_letters == 1


def test_an_event_that_elasticsearch_never_accepts_is_one_dead_letter(settings: Settings, stores: Stores) -> None:
    def large(event: int, size: int) -> tuple[bytes, bytes, Any]:
        return record("s:mallory", {**pixel(f"large-{event}"), "more": "x" * size})

    send(settings, [record("s:c", pixel("e1")), large(1, 39 * MIB), record("s:c", pixel("e2")), large(2, 3 * MIB)])
    drain(settings)
    (letter,) = dead(settings)
    assert letter.stage == "index"
    assert "too large" in letter.error
    assert letter.letter.sha256
    assert len(letter.error) < 600
    stores.elasticsearch.refresh()
    assert stores.elasticsearch.count("events-") == 3
    assert account(settings).lost == []


class Limited(ThreadingHTTPServer):
    """A proxy before Elasticsearch that takes bodies up to a size only, as nginx does (client_max_body_size)."""

    def __init__(self, target: str, limit: int) -> None:
        super().__init__(("127.0.0.1", 0), LimitedHandler)
        self.target = urlsplit(target)
        self.limit = limit
        self.refused = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class LimitedHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Limited

    def handle_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if len(body) > self.server.limit:
            self.server.refused += 1
            page = b"<html><head><title>413 Request Entity Too Large</title></head></html>"
            self.answer(413, [("Content-Type", "text/html")], page)
            return
        with closing(HTTPConnection(self.server.target.hostname or "", self.server.target.port)) as behind:
            behind.request(self.command, self.path, body, dict(self.headers))
            reply = behind.getresponse()
            kept = [(k, v) for k, v in reply.getheaders() if k.lower() not in ("content-length", "transfer-encoding")]
            self.answer(reply.status, kept, reply.read())

    def answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in (*headers, ("Content-Length", str(len(body)))):
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = handle_any  # noqa: N815 (http.server's names)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def test_bodies_over_a_proxys_limit_are_halved_and_one_alone_is_a_dead_letter(
    settings: Settings, stores: Stores
) -> None:
    events = [record(f"s:c{n % 7}", {**pixel(f"e{n}"), "more": "x" * 4_000}) for n in range(600)]
    huge = record("s:mallory", {**pixel("huge"), "more": "x" * 600_000})
    send(settings, [*events[:300], huge, *events[300:]])
    with Limited(settings.elasticsearch_url, 500_000) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        drain(settings.model_copy(update={"elasticsearch_url": proxy.url, "batch_messages": 601}))
        proxy.shutdown()
        assert 1 <= proxy.refused <= 20
    (letter,) = dead(settings)
    assert "413" in letter.error
    assert letter.message.value == huge[1]
    stores.elasticsearch.refresh()
    assert stores.elasticsearch.count("events-") == 600
    assert account(settings).lost == []


# --- Sums ---


def test_sums_beyond_64_bits_stop_at_the_bound_in_every_store(settings: Settings, stores: Stores) -> None:
    money = {"amount": 10**15, "currencyCode": "JPY"}
    lines = [{"quantity": 1, "variant": {"product": {"id": "p"}, "price": money}}]

    def ordered(number: int) -> dict[str, Any]:
        checkout = {"token": f"t{number}", "currencyCode": "JPY", "totalPrice": money, "lineItems": lines}
        return pixel(f"e{number}", "checkout_completed", checkout=checkout)

    send(settings, [record("s:c", ordered(number)) for number in range(9_300)])
    drain(settings)
    audited(settings, stores)
    assert stores.mongodb.read(CUSTOMERS, ["s:c"])["s:c"]["revenue"] == {"JPY": MAX_SUM}
    send(settings, [record("s:c", ordered(number)) for number in range(9_300, 9_310)])
    drain(settings)
    audited(settings, stores)


# --- Clocks ---


@pytest.mark.parametrize("case", ["clock_year_1970", "clock_year_2087"])
def test_a_clock_that_cannot_be_right_makes_no_month_of_its_own(settings: Settings, stores: Stores, case: str) -> None:
    lines = (Path(__file__).parent.parent / "samples" / f"{case}.jsonl").read_bytes().splitlines()
    send(settings, read_lines(lines))
    drain(settings)
    found = audited(settings, stores)
    assert found.dead_letters == 0
    assert found.attributions == 1
    assert stores.elasticsearch.indices("events-") == [stores.elasticsearch.index("events-2026.11")]
    assert stores.elasticsearch.indices("product-stats-") == [stores.elasticsearch.index("product-stats-2026.11")]
    (customer,) = stores.mongodb.collection(CUSTOMERS).find()
    assert customer["last_seen"].startswith("2026-11-24")
    stores.elasticsearch.refresh()
    kept = [
        hit["_source"]["client_at"] for hit in stores.elasticsearch.scan("events-") if "client_at" in hit["_source"]
    ]
    assert len(kept) == 2


def test_events_of_1200_months_make_the_months_of_their_arrival(settings: Settings, stores: Stores) -> None:
    months = [f"{2000 + n // 12}-{n % 12 + 1:02d}-15T00:00:00Z" for n in range(1200)]
    pixels = [record("s:c", pixel(f"e{n}", at=at), source="pixel", received_at=NOON) for n, at in enumerate(months)]
    hooks = [
        record("s:c", order(n, f"t{n}", created_at=at), topic="orders/create", event_id=f"w{n}", received_at=NOON)
        for n, at in enumerate(months[180:])
    ]
    send(settings, [*pixels, *hooks[132:]])
    drain(settings)
    audited(settings, stores)
    # The month of arrival, the one before, and what a webhook may be ahead.
    assert len(stores.elasticsearch.indices("events-")) <= 3


def test_records_without_a_valid_time_are_decoded(settings: Settings, stores: Stores) -> None:
    far = str(2**63 - 1)
    topic_config(settings, settings.topic, message_timestamp_after_max_ms=far, message_timestamp_before_max_ms=far)
    times = [1, 1_767_268_800_000_000, 978_307_200_000, 8_640_000_000_000_000]
    value = json.dumps(pixel("x")).encode()
    timeless = json.dumps({**pixel("x"), "timestamp": None}).encode()
    sent = [
        {"key": b"s:c", "value": body, "timestamp": at, "headers": [("event_id", f"e{n}-{at}".encode())]}
        for at in times
        for n, body in enumerate((value, timeless))
    ]
    send_raw(settings, sent)
    drain(settings)
    found = audited(settings, stores)
    assert (found.events, found.dead_letters) == (4, 4)
    assert account(settings).lost == []


def test_a_topic_that_is_timed_by_its_broker(settings: Settings, stores: Stores) -> None:
    topic_config(settings, settings.topic, message_timestamp_type="LogAppendTime")
    touch = pixel("e1", at=NOON, query="?gclid=1")
    values = [touch, completed("e2"), {**touch, "id": "e3", "timestamp": None}]
    send(settings, [record("s:c", value) for value in values])
    drain(settings)
    audited(settings, stores)
    assert attribution(stores, "s:tok")["credits"]["last_click"][0]["platform"] == "google"


# --- How much one event, one client and one batch may make ---


def test_an_order_of_thousands_of_sightings_has_a_document_of_few(settings: Settings, stores: Stores) -> None:
    queries = [f"?gclid={n}" if n % 7 == 0 else "" for n in range(2_000)]
    sightings = [record(f"s:c{n % 50}", completed(f"e{n:05d}", query=query)) for n, query in enumerate(queries)]
    hook = record("s:hook", order(5), topic="orders/create", event_id="w")
    send(settings, [sightings[0], hook, *sightings[1:], *sightings[:100]])
    drain(settings)
    audited(settings, stores)
    document = attribution(stores, "s:tok")
    assert len(document["sightings"]) <= settings.sightings_kept + 4
    assert len(json.dumps(document)) < 100_000
    assert document["order_id"] == "5"
    before = json.dumps(document, sort_keys=True)
    forget_offsets(settings)
    drain(settings.model_copy(update={"batch_messages": 97}))
    audited(settings, stores)
    assert json.dumps(attribution(stores, "s:tok"), sort_keys=True) == before


def test_endless_checkouts_fill_no_order_and_shopifys_order_is_accepted(settings: Settings, stores: Stores) -> None:
    bound = settings.model_copy(update={"ids_per_order": 100, "batch_messages": 37})
    checkouts = [{"token": f"t{n:03d}", "cartToken": "k", "order": {"id": "5"}} for n in range(150)]
    values = [pixel(f"e{n}", "checkout_completed", checkout=checkout) for n, checkout in enumerate(checkouts)]
    hook = record(
        "s:hook", {**order(5), "checkout_token": "own", "cart_token": "k"}, topic="orders/create", event_id="w"
    )
    send(bound, [*(record(f"s:c{n % 9}", value) for n, value in enumerate(values)), hook])
    drain(bound)
    (cluster,) = (doc for doc in stores.mongodb.collection(ORDERS).find() if not doc.get("merged_into"))
    kept = sum(node["kind"] == "token" for node in cluster["nodes"])
    assert 96 <= kept <= 98
    refused = dead(bound)
    assert len(refused) == 150 - kept
    assert all("TRUEPIXEL_IDS_PER_ORDER=100" in letter.error for letter in refused)
    assert attribution(stores, "s:own")["order_id"] == "5"


def test_products_of_one_event_are_counted_up_to_a_bound(settings: Settings, stores: Stores) -> None:
    def started(event: int) -> dict[str, Any]:
        lines = [{"variant": {"product": {"id": f"{event}-{n}"}}} for n in range(2000)]
        return pixel(f"e{event}", "checkout_started", checkout={"lineItems": lines})

    send(settings, [record(f"s:c{n % 20}", started(n)) for n in range(120)])
    send(settings, [record("s:c", pixel("more", "checkout_started", checkout={"lineItems": [{}] * 2001}))])
    (metrics,) = drain(settings)
    assert metrics.counted == 120
    keys = sum(len(page) for page in stores.redis.counter_keys("buffer", 1000))
    assert keys == 120 * settings.products_per_event
    found = audited(settings, stores)
    assert (found.events, found.dead_letters) == (120, 1)


def test_invented_currencies_are_dead_letters(settings: Settings, stores: Stores) -> None:
    letters_ = "ABCDEFGHIJ"
    codes = [a + b + c for a in letters_ for b in letters_ for c in letters_]

    def ordered(code: str) -> dict[str, Any]:
        checkout = {"token": code, "totalPrice": {"amount": 1, "currencyCode": code}}
        return pixel(f"e-{code}", "checkout_completed", checkout=checkout)

    send(settings, [record("s:c", ordered(code)) for code in codes])
    drain(settings)
    found = audited(settings, stores)
    assert found.events + found.dead_letters == 1000
    assert len(stores.mongodb.read(CUSTOMERS, ["s:c"])["s:c"]["revenue"]) == found.events < 20


def test_a_document_that_is_too_large_for_mongodb_is_one_dead_letter(settings: Settings, stores: Stores) -> None:
    wide = settings.model_copy(update={"touches_kept": 1000, "batch_messages": 10_000, "batch_bytes": 128 * MIB})
    parts = ("source", "medium", "campaign", "content", "term")
    query = "&".join(f"utm_{part}={'%F0%9F%98%80' * 512}" for part in parts)
    events = [record("s:big", pixel(f"e{n}", query=f"?{query}&gclid={n}")) for n in range(1_700)]
    send(wide, [*events, record("s:c", pixel("good", query="?gclid=1"))])
    drain(wide)
    assert stores.mongodb.read(AD_LEADS, ["s:c"])
    assert account(settings).lost == []


def test_a_document_that_bson_cannot_hold_is_rejected_individually(mongo_store: MongoStore) -> None:
    wanted: dict[str, dict[str, Any]] = {
        "a": {"n": 1},
        "b": {"n": 2**64},
        "c": {"text": "x" * 17 * MIB},
        "d": {"n": -(2**63)},
    }
    refused = mongo_store.update(CUSTOMERS, list(wanted), lambda _: wanted)
    assert set(refused) == {"b", "c"}
    assert set(mongo_store.read(CUSTOMERS, list(wanted))) == {"a", "d"}
    assert set(mongo_store.update(CUSTOMERS, ["b"], lambda _: {"b": wanted["b"]})) == {"b"}


# --- Headers ---


def test_unknown_headers_are_ignored(settings: Settings, stores: Stores) -> None:
    many = [(f"h{n}", b"\xff\x00") for n in range(10_000)]
    odd = [("x", None), ("x", b"\xff"), ("\u2028", b"\x00"), ("shop_name", b"\xfe"), ("error", b"\xff")]
    twice = [("event_id", b"no"), ("event_id", b"e3")]
    value = json.dumps(pixel("e0")).encode()
    send(
        settings,
        [
            (b"s:c", value, (("event_id", b"e1"), *many)),
            (b"s:c", value, (("event_id", b"e2"), *odd)),
            (b"s:c", value, tuple(twice)),
            (b"s:c", b"{", tuple(odd)),
            (b"s:c", value, (("topic", b"\xff"),)),
            (b"s:c", value, (("shop_domain", b"\xff"),)),
        ],
    )
    drain(settings)
    found = audited(settings, stores)
    assert (found.events, found.dead_letters) == (3, 3)
    for letter in dead(settings):
        assert inspect.find(settings, stores, letter.letter.origin)


def test_an_origin_names_no_dead_letter_of_another_record(settings: Settings) -> None:
    assert dead_letters.parse_origin("a/b/1/2") is None
    assert dead_letters.parse_origin(str(Origin("t", 1, 2))) == Origin("t", 1, 2)


def test_a_header_whose_name_is_not_utf_8_crashes_nothing(settings: Settings, stores: Stores) -> None:
    value = json.dumps(pixel("e1")).encode()
    send_with_header_names(settings.kafka_bootstrap, settings.topic, b"s:c", value, [b"\xff\xfe", b"", b"\xc3\x28"])
    send_with_header_names(settings.kafka_bootstrap, settings.topic, b"s:c", b"{", [b"\xff"])
    send(settings, [record("s:c", pixel("e2"))])
    drain(settings)
    found = audited(settings, stores)
    assert (found.events, found.dead_letters) == (2, 1)


# --- Clocks that jump, and very many of one kind ---


def test_a_machines_clock_that_jumps_stops_nothing(
    settings: Settings, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    jumps = itertools.cycle([0.0, 86_400.0, -86_400.0, 3_600.0, -3.0])
    real_time = time.time
    monkeypatch.setattr(time, "time", lambda: real_time() + next(jumps))
    send(settings, [(r.key, r.value, r.headers) for r in traffic(1500, seed=4, shops=2)])
    drain(settings.model_copy(update={"batch_messages": 64}))
    audited(settings, stores)


@pytest.mark.parametrize("events", [20_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_very_many_events_of_one_user_are_processed(settings: Settings, stores: Stores, events: int) -> None:
    send(settings, [record("s:c", pixel(f"e{n}", query=f"?gclid={n}" if n % 3 == 0 else "")) for n in range(events)])
    drain(settings)
    audited(settings, stores)
    (lead,) = stores.mongodb.collection(AD_LEADS).find()
    assert len(lead["touches"]) == settings.touches_kept
    assert len(lead["older"]) <= settings.batch_messages


def test_events_of_5000_shops_are_processed(settings: Settings, stores: Stores) -> None:
    viewed: dict[str, Any] = {"productVariant": {"product": {"id": "p"}}}
    send(settings, [record(f"shop-{n}:c", pixel("e", "product_viewed", **viewed)) for n in range(5_000)])
    drain(settings)
    assert audited(settings, stores).events == 5_000
