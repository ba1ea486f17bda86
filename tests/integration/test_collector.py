"""The collector on the real servers: what it accepts from which sender, and which records it writes."""

from __future__ import annotations

import http.client
import json
import re
import signal
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trustme
from cryptography.fernet import Fernet

from tests.integration.collectors import (
    APP_SECRET,
    DOMAIN,
    SHOP,
    TOKEN,
    Running,
    Senders,
    connect,
    judge,
    on_topic,
    running,
    signed,
    with_app_secret,
)
from tests.integration.driving import drain, flush
from tests.integration.test_cli import run, truepixel
from tests.integration.test_pipeline import completed, order, pixel
from tests.unit.deploy.test_alerts import dashboard_expressions, rules
from tests.waiting import until
from truepixel_dagster.collector.webhooks import MAX_BODY_BYTES
from truepixel_dagster.events.event import iso
from truepixel_dagster.identity import new_identity
from truepixel_dagster.local.ephemeral import identified
from truepixel_dagster.resources import Stores
from truepixel_dagster.settings import Settings
from truepixel_dagster.shop_secrets import SecretsError, sealer_of
from truepixel_dagster.stores.mongodb import CONNECTIONS
from truepixel_dagster.stores.redis import client_key

PAID: dict[str, Any] = {"financial_status": "paid", "source_name": "web", "total_price": "20.00"}


def ago(minutes: float) -> str:
    return iso(int((time.time() - minutes * 60) * 1000))


@pytest.fixture
def served(settings: Settings, tmp_path: Path) -> Settings:
    connect(settings)
    return with_app_secret(settings, tmp_path)


@pytest.fixture
def collector(served: Settings) -> Iterator[Running]:
    with running(served) as found:
        yield found


def test_a_signed_webhook_is_written_to_the_topic_byte_for_byte(served: Settings, collector: Running) -> None:
    body = b'{"id": 1,  "note_attributes": [{"name": "client_id", "value": "c-1"}], "x": "\xc3\xa9\\u00e9"}\n'
    answer = collector.webhook("orders/create", body)
    assert (answer.status, answer.body) == (200, b"")
    (record,) = on_topic(served)
    assert (record.key, record.value) == (f"{SHOP}:c-1".encode(), body)
    assert record.headers["source"] == b"webhook"
    assert record.headers["topic"] == b"orders/create"
    assert record.headers["shop_domain"] == DOMAIN.encode()
    assert len(record.headers["event_id"]) == 36
    assert record.headers["received_at"].endswith(b"Z")


def test_an_order_by_http_is_in_the_report(served: Settings, stores: Stores, collector: Running) -> None:
    visit = pixel("v1", at=ago(60), query="?utm_source=google&utm_medium=cpc&gclid=G")
    done = completed("v2", "token-1", at=ago(5))
    for event in (visit, done):
        answer = collector.pixel({**event, "clientId": "c-1"})
        assert (answer.status, answer.json) == (200, {"accepted": 1, "dropped": 0, "rejected": []})
    bought = order(7, "token-1", created_at=ago(4), updated_at=ago(4), **PAID)
    assert collector.webhook("ORDERS_CREATE", bought).status == 200
    # Shopify's retry has the same id; a second delivery changes no figure.
    body = msgspec.json.encode(bought)
    headers = signed("orders/create", body)
    again = [collector.ask("POST", "/v1/webhooks", body, headers).status for _ in range(2)]
    assert again == [200, 200]
    assert collector.end() == 0
    drain(served)
    flush(stores)
    stores.elasticsearch.refresh()
    found = json.loads(truepixel(served, "report", "--shop", SHOP, "--json", "--last", "2d", "--by", "channel"))
    assert found["orders"] == 1
    (source,) = found["sources"]
    assert (source["gross"], source["currency"]) == (2000, "USD")
    assert source["channel"] == "paid_search"


# --- Signatures and shops ---


def test_nothing_unsigned_is_written_and_it_is_counted(served: Settings, collector: Running) -> None:
    body = b'{"id": 1}'
    headers = signed("orders/create", body)
    unsigned = {name: value for name, value in headers.items() if "Hmac" not in name}
    assert collector.ask("POST", "/v1/webhooks", body, unsigned).status == 401
    assert collector.ask("POST", "/v1/webhooks", b'{"id": 2}', headers).status == 401
    assert collector.webhook("orders/create", body, secret=b"another").status == 401
    # An unknown shop gets the same answer, which reveals nothing about it.
    assert collector.webhook("orders/create", body, secret=b"another", domain="who.myshopify.com").status == 401
    assert on_topic(served) == []
    assert collector.metrics()['events_total{outcome="unsigned",source="webhooks"}'] == 4
    assert collector.ask("POST", "/v1/webhooks", body, headers).status == 200


def test_a_shop_that_is_not_connected_sends_nothing(served: Settings, collector: Running) -> None:
    assert collector.webhook("orders/create", {"id": 1}, domain="who.myshopify.com").status == 404
    headers = signed("orders/create", b"{}")
    del headers["X-Shopify-Shop-Domain"]
    assert collector.ask("POST", "/v1/webhooks", b"{}", headers).status == 404
    assert collector.pixel(VISIT, token="tp_who").status == 403
    assert collector.ask("POST", "/v1/pixel", b"{}", {"Content-Type": "text/plain"}).status == 403
    assert on_topic(served) == []


def test_a_body_of_another_shop_than_its_header_says_is_refused(served: Settings, collector: Running) -> None:
    for body in ({"id": 7, "myshopify_domain": DOMAIN}, {"id": int(SHOP), "myshopify_domain": "other.myshopify.com"}):
        assert collector.webhook("shop/update", body).status == 403
    assert collector.webhook("customers/redact", {"shop_id": 7, "customer": {"id": 1}}).status == 403
    assert on_topic(served) == []
    assert collector.webhook("shop/update", {"id": int(SHOP), "myshopify_domain": DOMAIN}).status == 200


def test_old_and_new_secrets_count_side_by_side_without_a_restart(
    served: Settings, collector: Running, tmp_path: Path
) -> None:
    file = Path(served.collector_app_secrets_file or "")
    assert collector.webhook("orders/create", {"id": 1}, secret=b"new").status == 401
    file.write_bytes(b"new\n" + APP_SECRET + b"\n")
    until(lambda: collector.webhook("orders/create", {"id": 1}, secret=b"new").status == 200)
    assert collector.webhook("orders/create", {"id": 2}).status == 200
    file.write_bytes(b"new\n")
    until(lambda: collector.webhook("orders/create", {"id": 3}).status == 401)
    # A file that is missing for a moment, as a mounted one may be, changes nothing.
    file.unlink()
    time.sleep(1.2)
    assert collector.webhook("orders/create", {"id": 4}, secret=b"new").status == 200


def test_a_shops_own_secret_signs_for_that_shop_alone(served: Settings, tmp_path: Path) -> None:
    keys, folder = tmp_path / "keys", tmp_path / "mounted"
    keys.write_bytes(Fernet.generate_key() + b"\n")
    folder.mkdir()
    (folder / "toys").write_bytes(b"mounted-secret\n")
    (tmp_path / "secret").write_bytes(b"own-secret\n")
    own = served.model_copy(update={"shop_keys_file": str(keys), "shop_secrets_dir": folder})
    connect(own, "77", "books.myshopify.com", "tp_books")
    with running(own) as collector:
        assert collector.webhook("orders/create", {"id": 1}, secret=b"own-secret").status == 401
        shown = truepixel(own, "shops", "rotate-secret", SHOP, "--secret-file", str(tmp_path / "secret"))
        assert "own-secret" not in shown
        until(lambda: collector.webhook("orders/create", {"id": 1}, secret=b"own-secret").status == 200)
        other = collector.webhook("orders/create", {"id": 1}, secret=b"own-secret", domain="books.myshopify.com")
        assert other.status == 401
        # The newer one, and the one before it for a day.
        truepixel(own, "shops", "rotate-secret", SHOP, "--secret-ref", "toys")
        until(lambda: collector.webhook("orders/create", {"id": 2}, secret=b"mounted-secret").status == 200)
        assert collector.webhook("orders/create", {"id": 3}, secret=b"own-secret").status == 200
        row = json.loads(truepixel(own, "shops", "show", SHOP, "--json"))["connection"]
        first, second = row["secrets"]
        assert (first["kept"], second["kept"], second["until"]) == ("encrypted", "file toys", None)
        assert first["until"] is not None
        truepixel(own, "shops", "rotate-secret", SHOP, "--end", first["id"])
        until(lambda: collector.webhook("orders/create", {"id": 4}, secret=b"own-secret").status == 401)
        truepixel(own, "shops", "remove", SHOP)
        until(lambda: collector.webhook("orders/create", {"id": 5}).status == 404)
        assert "own-secret" not in "".join(collector.lines)


def test_the_commands_add_list_and_show_a_shop(settings: Settings, stores: Stores) -> None:
    added = truepixel(settings, "shops", "add", SHOP, f"https://{DOMAIN}/admin", "--time-zone", "Asia/Tokyo", "--json")
    row = json.loads(added)
    assert (row["time_zone"], row["connection"]["domain"]) == ("Asia/Tokyo", DOMAIN)
    assert row["connection"]["pixel_token"].startswith("tp_")
    again = json.loads(truepixel(settings, "shops", "add", SHOP, DOMAIN, "--json"))
    assert again["connection"] == row["connection"]
    assert DOMAIN in truepixel(settings, "shops", "list")
    assert row["connection"]["pixel_token"] in truepixel(settings, "shops", "show", SHOP)
    assert "is shop 548380009" in truepixel(settings, "shops", "add", "8", DOMAIN, code=1)
    assert "remove it first" in truepixel(settings, "shops", "add", SHOP, "new.myshopify.com", code=1)
    assert "not connected" in truepixel(settings, "shops", "rotate-secret", "9", "--end", "x", code=1)
    for arguments in (("add", "9", "not a domain"), ("add", "a:b", DOMAIN), ("rotate-secret", SHOP)):
        assert truepixel(settings, "shops", *arguments, code=2)
    refused = truepixel(settings, "shops", "rotate-secret", SHOP, "--secret-ref", "../x", code=1)
    assert "TRUEPIXEL_SHOP_SECRETS_DIR" in refused
    truepixel(settings, "shops", "remove", SHOP)
    assert stores.mongodb.count(CONNECTIONS) == 0


def test_an_older_pixel_token_stays_valid_until_its_time(served: Settings, collector: Running) -> None:
    assert collector.pixel(VISIT).status == 200
    truepixel(served, "shops", "rotate-token", SHOP)
    row = json.loads(truepixel(served, "shops", "show", SHOP, "--json"))["connection"]
    newer = row["pixel_token"]
    assert newer != TOKEN
    assert [older["token"] for older in row["older_tokens"]] == [TOKEN]
    # Longer than the collector caches a shop.
    until(lambda: collector.pixel(VISIT, token=newer).status == 200)
    time.sleep(5.5)
    assert [collector.pixel(VISIT, token=token).status for token in (TOKEN, newer)] == [200, 200]
    truepixel(served, "shops", "rotate-token", SHOP, "--overlap", "0")
    newest = json.loads(truepixel(served, "shops", "show", SHOP, "--json"))["connection"]["pixel_token"]
    until(lambda: collector.pixel(VISIT, token=newest).status == 200)
    until(lambda: {collector.pixel(VISIT, token=token).status for token in (TOKEN, newer)} == {403})
    assert "not connected" in truepixel(served, "shops", "rotate-token", "9", code=1)


def test_servers_of_others_are_not_used(served: Settings, servers: Settings, stores: Stores) -> None:
    others = served.model_copy(update={"servers_identity": new_identity()})
    with running(others, ready=False) as collector:
        named = re.compile(r"(Kafka|MongoDB|Redis) \S+(?: \S+)? is not the server")
        until(lambda: set(named.findall(" ".join(collector.lines))) == {"Kafka", "MongoDB", "Redis"})
        assert collector.ask("GET", "/readyz").status == 503
        assert collector.webhook("orders/create", {"id": 1}).status == 503
        assert collector.pixel({**completed("e2", "token-1", at=ago(1)), "clientId": "c-9"}).status == 503
        collector.end()
    assert on_topic(served) == []
    assert stores.redis.client.keys(f"{served.namespace}:client:*") == []
    own = served.model_copy(update={"servers_identity": identified(servers).servers_identity})
    with running(own) as collector:
        assert collector.pixel({**completed("e2", "token-1", at=ago(1)), "clientId": "c-9"}).status == 200
        until(lambda: stores.redis.client.get(client_key(served.namespace, SHOP, "token-1")) == "c-9")


def test_a_secret_in_mongodb_is_encrypted_and_of_one_shop(settings: Settings, stores: Stores, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_bytes(Fernet.generate_key())
    (tmp_path / "secret").write_bytes(b"own-secret")
    own = settings.model_copy(update={"shop_keys_file": str(keys)})
    truepixel(own, "shops", "add", SHOP, DOMAIN, "--secret-file", str(tmp_path / "secret"))
    (document,) = stores.mongodb.find(CONNECTIONS, {})
    assert "own-secret" not in str(document)
    sealed = document["secrets"][0]["sealed"]
    assert sealer_of(own).open(SHOP, sealed) == b"own-secret"
    with pytest.raises(SecretsError, match="another shop"):
        sealer_of(own).open("8", sealed)
    # A newer key seals, and the older one opens.
    keys.write_bytes(Fernet.generate_key() + b"\n" + keys.read_bytes())
    assert sealer_of(own).open(SHOP, sealed) == b"own-secret"
    keys.write_bytes(Fernet.generate_key())
    with pytest.raises(SecretsError, match="TRUEPIXEL_SHOP_KEYS_FILE"):
        sealer_of(own).open(SHOP, sealed)


# --- What Shopify's review asks for ---

REDACT = {"shop_id": int(SHOP), "shop_domain": DOMAIN, "customer": {"id": 3, "email": "a@b.example"}}


@pytest.mark.parametrize("topic", ["customers/data_request", "customers/redact", "shop/redact"])
def test_webhooks_about_privacy_are_answered_as_the_review_asks(
    served: Settings, collector: Running, topic: str
) -> None:
    assert collector.webhook(topic, REDACT, secret=b"wrong").status == 401
    assert collector.webhook(topic, REDACT).status == 200
    # Also of a shop that is no longer connected: it comes two days after the app was uninstalled.
    gone = {**REDACT, "shop_id": 99, "shop_domain": "gone.myshopify.com"}
    assert collector.webhook(topic, gone, domain="gone.myshopify.com").status == 200
    assert collector.webhook(topic, gone, domain="else.myshopify.com").status == 403
    assert sorted(record.key for record in on_topic(served)) == [b"548380009:privacy", b"99:privacy"]


def test_a_shop_that_uninstalls_is_disconnected_until_it_connects_again(served: Settings, collector: Running) -> None:
    shop = {"id": int(SHOP), "myshopify_domain": DOMAIN}
    assert collector.pixel(VISIT).status == 200
    assert collector.webhook("app/uninstalled", shop).status == 200
    assert collector.pixel(VISIT).status == 403
    assert collector.webhook("shop/redact", {"shop_id": int(SHOP), "shop_domain": DOMAIN}).status == 200
    assert "uninstalled" in truepixel(served, "shops", "show", SHOP)
    truepixel(served, "shops", "add", SHOP, DOMAIN)
    until(lambda: collector.pixel(VISIT).status == 200)
    # A webhook that Shopify sends again is from before the new connection.
    assert collector.webhook("app/uninstalled", shop).status == 200
    assert collector.pixel(VISIT).status == 200


# --- Bodies ---


def test_a_body_may_have_ten_mebibytes_and_no_more(served: Settings, collector: Running) -> None:
    body = b'{"id": 1, "note": "' + b"x" * (MAX_BODY_BYTES - 21) + b'"}'
    assert len(body) == MAX_BODY_BYTES
    assert collector.webhook("orders/create", body).status == 200
    assert collector.webhook("orders/create", body + b" ").status == 413
    (record,) = on_topic(served)
    assert record.value == body


def test_a_signed_but_unreadable_webhook_is_still_written(served: Settings, collector: Running) -> None:
    for body in (b"", b"not json", b"\xff" * 10, b"[" * 100_000):
        assert collector.webhook("orders/create", body).status == 200
    assert collector.ask("POST", "/v1/webhooks", b"{}", signed("", b"{}")).status == 400
    assert sorted(record.value for record in on_topic(served)) == sorted(
        [b"", b"not json", b"\xff" * 10, b"[" * 100_000]
    )


def test_a_body_in_chunks_is_accepted_within_the_same_bounds(served: Settings, collector: Running) -> None:
    body = b'{"id": 1, "x": "' + b"y" * 300_000 + b'"}'
    connection = http.client.HTTPConnection("127.0.0.1", collector.port, timeout=20)
    parts = (body[at : at + 50_000] for at in range(0, len(body), 50_000))
    connection.request("POST", "/v1/webhooks", parts, signed("orders/create", body), encode_chunked=True)
    assert connection.getresponse().status == 200
    connection.close()
    assert on_topic(served)[0].value == body
    endless = http.client.HTTPConnection("127.0.0.1", collector.port, timeout=20)
    with suppress(ConnectionError):
        pixel_parts = (b" " * 65536 for _ in range(20))
        endless.request("POST", f"/v1/pixel?token={TOKEN}", pixel_parts, {}, encode_chunked=True)
    with suppress(ConnectionError, http.client.HTTPException):
        assert endless.getresponse().status == 413
    endless.close()
    until(lambda: collector.metrics()["body_bytes"] == 0)


# --- The pixel ---

VISIT = {**pixel("e1", at=ago(1), query="?utm_source=google&utm_medium=cpc&gclid=G"), "clientId": "c-1"}


def test_each_event_of_a_batch_is_accepted_or_rejected_on_its_own(served: Settings, collector: Running) -> None:
    events = [VISIT, {"id": "x"}, {**VISIT, "id": "e2"}, 7, {**VISIT, "id": "e3", "clientId": None}]
    answer = collector.pixel({"events": events})
    assert answer.status == 200
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in answer.headers
    found = answer.json
    assert (found["accepted"], found["dropped"]) == (3, 0)
    assert [each["index"] for each in found["rejected"]] == [1, 3]
    assert all(each["reason"] for each in found["rejected"])
    records = on_topic(served)
    assert sorted(record.key for record in records) == [b"548380009:", b"548380009:c-1", b"548380009:c-1"]
    assert {record.headers["source"] for record in records} == {b"pixel"}
    refused = collector.pixel({"events": [7]})
    assert (refused.status, refused.json["retry"]) == (400, False)


def test_a_preflight_is_answered_for_a_day(collector: Running) -> None:
    asked = {
        "Origin": "null",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type",
    }
    answer = collector.ask("OPTIONS", "/v1/pixel?token=any", headers=asked)
    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["access-control-max-age"] == "86400"
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert answer.headers["access-control-allow-headers"] == "content-type"


def test_a_permanent_rejection_is_final_and_readable_for_every_page(collector: Running) -> None:
    big = {**VISIT, "filler": "x" * 70_000}
    answers = {
        413: collector.pixel(b" " * (512 * 1024 + 1)),
        415: collector.pixel(VISIT, **{"Content-Type": "application/xml"}),
        403: collector.pixel(VISIT, token="tp_other"),
        400: collector.pixel(b"nonsense"),
    }
    for status, answer in answers.items():
        assert answer.status == status
        assert answer.json["retry"] is False
        assert answer.headers["access-control-allow-origin"] == "*"
    assert "larger than 65536" in collector.pixel([big]).json["rejected"][0]["reason"]
    assert collector.pixel([VISIT], **{"Content-Type": "application/json; charset=utf-8"}).status == 200


def test_an_address_and_a_shop_send_at_their_rates(served: Settings) -> None:
    slow = served.model_copy(
        update={"collector_address_rate": 1.0, "collector_shop_rate": 5.0, "collector_proxies": "127.0.0.1"}
    )
    with running(slow) as collector:
        answers = [collector.pixel(VISIT) for _ in range(30)]
        limited = [answer for answer in answers if answer.status == 429]
        assert 5 <= len(limited) <= 10
        assert limited[0].json["retry"] is True
        assert int(limited[0].headers["retry-after"]) >= 1
        # The proxy names another address.
        assert collector.pixel(VISIT, **{"X-Forwarded-For": "198.51.100.1"}).status == 200
        batch = [{**VISIT, "id": f"b{number}"} for number in range(100)]
        shop = [collector.pixel(batch, **{"X-Forwarded-For": f"198.51.100.{number}"}).status for number in range(5)]
        assert 429 in shop
        # Webhooks are signed, and are not limited.
        assert collector.webhook("orders/create", {"id": 1}).status == 200
        text = collector.ask("GET", "/metrics").body + "".join(collector.lines).encode()
        assert b"198.51.100" not in text
    assert not any(b"198.51.100" in record.value + str(record.headers).encode() for record in on_topic(served))


def test_consent_is_kept_as_the_setting_says(served: Settings) -> None:
    refusing = {**VISIT, "customerPrivacy": {"analyticsProcessingAllowed": False}}
    with running(served) as collector:
        assert collector.pixel(refusing).json == {"accepted": 1, "dropped": 0, "rejected": []}
    with running(served.model_copy(update={"collector_consent": "drop"})) as collector:
        dropped = collector.pixel([refusing, VISIT])
        assert (dropped.status, dropped.json["dropped"], dropped.json["accepted"]) == (200, 1, 1)
    without_client, with_client = sorted(on_topic(served), key=lambda record: record.key)
    assert without_client.key == f"{SHOP}:".encode()
    assert b"gclid" not in without_client.value
    assert b"c-1" not in without_client.value
    assert with_client.key == f"{SHOP}:c-1".encode()


def test_a_webhook_is_keyed_by_the_client_in_the_pixel_event(served: Settings, collector: Running) -> None:
    with running(served.model_copy(update={"collector_journal_dir": served.data_dir / "second"})) as second:
        # A first query of Redis may be given up while it connects.
        assert second.webhook("orders/create", {"id": 1, "checkout_token": "another"}).status == 200
        started = {**completed("e2", "token-1", at=ago(1)), "clientId": "c-9"}
        assert collector.pixel(started).status == 200
        for asked in (collector, second):
            answer = asked.webhook("orders/create", {"id": 1, "checkout_token": "token-1"})
            assert answer.status == 200
        webhooks = [record.key for record in on_topic(served) if record.headers["source"] == b"webhook"]
        assert sorted(webhooks) == [f"{SHOP}:{client}".encode() for client in ("another", "c-9", "c-9")]


def test_a_redaction_by_http_forgets_the_tokens_as_well(served: Settings, stores: Stores, collector: Running) -> None:
    started = {**completed("e2", "token-1", at=ago(2)), "clientId": "c-9"}
    assert collector.pixel(started).status == 200
    buyer = {"id": 77, "email": "a@b.example"}
    bought = order(7, "token-1", created_at=ago(1), updated_at=ago(1), customer=buyer, **PAID)
    assert collector.webhook("orders/create", bought).status == 200
    key = client_key(served.namespace, SHOP, "token-1")
    until(lambda: stores.redis.client.get(key) == "c-9")
    asked = {"shop_id": int(SHOP), "shop_domain": DOMAIN, "customer": buyer, "orders_to_redact": [7]}
    assert collector.webhook("customers/redact", asked).status == 200
    drain(served)
    (done,) = json.loads(truepixel(served, "privacy", "run", "--json"))["requests"]
    assert all(place["found"] == 0 for place in done["searched"].values())
    assert stores.redis.client.get(key) is None
    assert all(document.get("customer_id") != "77" for document in stores.mongodb.find("customers", {}))
    # The collector itself remembers nothing of the buyer either.
    assert collector.webhook("checkouts/update", {"id": 8, "checkout_token": "token-1"}).status == 200
    keys = [record.key for record in on_topic(served) if record.headers.get("topic") == b"checkouts/update"]
    assert keys == [f"{SHOP}:token-1".encode()]


# --- HTTP ---


def test_health_readiness_and_metrics_are_served_and_other_paths_are_not(collector: Running) -> None:
    assert collector.ask("GET", "/healthz").status == 200
    assert collector.ask("GET", "/readyz").json == {"ready": True, "reason": None}
    found = collector.metrics()
    assert (found["journal_records"], found["journal_age_seconds"], found["takes"]) == (0, 0, 1)
    assert collector.ask("GET", "/nothing").status == 404
    assert collector.ask("GET", "/v1/webhooks").status == 405


def test_every_metric_that_dashboard_and_alerts_name_is_exported(served: Settings, collector: Running) -> None:
    assert collector.webhook("orders/create", {"id": 1}).status == 200
    assert collector.webhook("orders/create", {"id": 1}, secret=b"another").status == 401
    exported = set(collector.metrics())
    families = {name.partition("{")[0] for name in exported}
    expressions = [*dashboard_expressions(), *(rule["expr"] for rule in rules())]
    named = set(re.findall(r"truepixel_collector_(\w+)", " ".join(expressions)))
    assert len(named) > 10
    assert named <= families
    # The labels by which an alert selects.
    assert {
        'events_total{outcome="unsigned",source="webhooks"}',
        'answers_total{endpoint="webhooks",status="401"}',
    } <= exported


def test_the_collector_serves_tls(served: Settings, tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_and_cert_chain_pem.write_to_path(tmp_path / "both.pem")
    with running(served, "--tls-cert", str(tmp_path / "both.pem")) as collector:
        context = ssl.create_default_context()
        authority.configure_trust(context)
        connection = http.client.HTTPSConnection("127.0.0.1", collector.port, timeout=10, context=context)
        until(lambda: _status(connection, "/readyz") == 200)
        body = b'{"id": 1}'
        connection.request("POST", "/v1/webhooks", body, signed("orders/create", body))
        assert connection.getresponse().status == 200
        connection.close()
        # A renewal needs no restart: new connections get the new certificate.
        renewed = authority.issue_cert("127.0.0.1", common_name="renewed")
        renewed.private_key_and_cert_chain_pem.write_to_path(tmp_path / "both.pem")
        until(lambda: "renewed" in _names(collector.port, context))
    (tmp_path / "bad.pem").write_text("no certificate")
    refused = run(served, "collector", "--port", "0", "--tls-cert", str(tmp_path / "bad.pem"))
    assert refused.returncode == 1
    assert "cannot be used" in refused.stderr


def _names(port: int, context: ssl.SSLContext) -> str:
    """Return the subject of the certificate that a new connection gets."""
    plain = socket.create_connection(("127.0.0.1", port), timeout=10)
    with context.wrap_socket(plain, server_hostname="127.0.0.1") as connection:
        return str(connection.getpeercert())


def _status(connection: http.client.HTTPSConnection, path: str) -> int:
    connection.request("GET", path)
    answer = connection.getresponse()
    answer.read()
    return answer.status


# --- Ending ---


def test_after_sigterm_the_collector_answers_all_requests_and_exits_with_0(served: Settings) -> None:
    leaving = served.model_copy(update={"collector_leave": 1.5})
    with running(leaving) as collector:
        load = Senders(collector.port, connections=8)
        until(lambda: len(load.promised) > 50)
        collector.process.send_signal(signal.SIGTERM)
        until(lambda: collector.ask("GET", "/readyz").status == 503)
        # Still answered: the senders do not know yet.
        assert collector.webhook("orders/create", {"id": 1}).status == 200
        assert collector.end() == 0
        promised = load.end()
        assert any("0 records are in the journal" in line for line in collector.lines)
    judge(promised, on_topic(served))
