"""Documents of another shape on the real servers: read, upgraded and kept, or a dead letter if unreadable."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.driving import audited, drain, flush, record, send
from tests.integration.test_pipeline import NOON, attribution, completed, order, pixel
from truepixel_dagster.dead_letters.inspect import listed
from truepixel_dagster.dead_letters.reprocess import replay
from truepixel_dagster.events.identifiers import Identifier
from truepixel_dagster.events.privacy_request import PrivacyRequest
from truepixel_dagster.flush import FlushRefused
from truepixel_dagster.rebuild import ad_leads, attributions, customers, events, product_stats, weekly_visitors
from truepixel_dagster.rebuild.attributions import rules_of
from truepixel_dagster.rebuild.context import RebuildContext, rebuilding
from truepixel_dagster.resources import Stores
from truepixel_dagster.settings import Settings
from truepixel_dagster.stores import privacy_requests
from truepixel_dagster.stores.documents import SCHEMA
from truepixel_dagster.stores.mongodb import AD_LEADS, CUSTOMERS, ORDERS, PRIVACY_REQUESTS, REDACTIONS
from truepixel_dagster.stores.redactions import Moment, Redactions
from truepixel_dagster.stream.reading import read_all
from truepixel_dagster.stream.topics import lag

VERSIONS = sorted((Path(__file__).parent.parent / "samples" / "documents").glob("version-*.json"))
ELASTICSEARCH = {
    "events": "events-2026.01",
    "attributions": "attributions",
    "product-stats": "product-stats-2026.01",
    "weekly-visitors": "weekly-visitors",
}
USER = "71:visitor"
DAYS = ["2026-01-10", "2026-01-11"]
EARLIER = "2026-01-10T10:00:00.000Z"


def put(stores: Stores, name: str, id_: str, document: dict[str, Any]) -> None:
    """Write a document unchanged, as another program would."""
    if name in ELASTICSEARCH:
        index = stores.elasticsearch.index(ELASTICSEARCH[name])
        stores.elasticsearch.client.index(index=index, id=id_, document=document, refresh=True)
    else:
        stores.mongodb.collection(name).replace_one({"_id": id_}, {**document, "_id": id_}, upsert=True)


def get(stores: Stores, name: str, id_: str) -> dict[str, Any]:
    if name in ELASTICSEARCH:
        (found,) = stores.elasticsearch.mget([(stores.elasticsearch.index(ELASTICSEARCH[name]), id_)])
        assert found is not None
        return found.source
    return stores.mongodb.read(name, [id_])[id_]


@pytest.fixture(params=VERSIONS, ids=lambda path: path.stem)
def installed(request: pytest.FixtureRequest, settings: Settings, stores: Stores) -> dict[str, dict[str, Any]]:
    """The documents of an earlier version, and their records, which are committed."""
    text = request.param.read_text().replace("truepixel.events", settings.topic)
    for document in json.loads(text)["events"].values():
        send(settings, [record(USER, document["payload"], received_at=document["received_at"])])
    (partition,) = {message.origin.partition for message in read_all(settings.kafka())}
    documents: dict[str, dict[str, Any]] = json.loads(text.replace('"partition": 0', f'"partition": {partition}'))
    documents["customers"][USER]["applied"] = {str(partition): 3}
    documents["redactions"], documents["privacy_requests"] = {}, {}
    for name, each in documents.items():
        for id_, document in each.items():
            put(stores, name, id_, document)
    stores.redis.client.hset(f"{settings.namespace}:applied", str(partition), "3")
    stores.redis.add_visitors(("71", "2026-W02"), ["visitor"])
    return documents


def more(settings: Settings) -> None:
    """New events of the same person, order, product and week."""
    at = "2026-01-11T10:00:00.000Z"
    view = {"product": {"id": "500"}, "price": {"amount": 10.0, "currencyCode": "EUR"}}
    send(
        settings,
        [
            record(USER, {**pixel("m1", at=at, query="?utm_source=mail"), "clientId": "visitor"}),
            record(USER, {**pixel("m2", "product_viewed", at, productVariant=view), "clientId": "visitor"}),
            record(
                USER,
                order(77, currency="EUR", total_price="20.00", financial_status="paid", created_at=at, updated_at=at),
                topic="orders/paid",
                event_id="m3",
            ),
            record(USER, {**pixel("m5", "product_viewed", EARLIER, productVariant=view), "clientId": "visitor"}),
            record("71:another", {**pixel("m4", at=at), "clientId": "another"}),
        ],
    )


def test_documents_of_the_version_before_are_read_and_updated(
    settings: Settings, stores: Stores, installed: dict[str, dict[str, Any]]
) -> None:
    """Their counts count once; a rebuild adds the fields that they did not have yet."""
    (metrics,) = drain(settings)
    assert (metrics.redelivered, metrics.indexed, sum(metrics.dead_letters.values())) == (4, 0, 0)
    more(settings)
    drain(settings)
    flush(stores)
    for name in installed.keys() - {"events", "order_status", "redactions", "privacy_requests"}:
        for id_ in installed[name]:
            assert get(stores, name, id_)["schema"] == SCHEMA, name
    profile = get(stores, CUSTOMERS, USER)
    assert (profile["orders"], profile["revenue"]) == (1, {"EUR": 2000})
    # The webhook has another product in the line.
    sold = {product: get(stores, "product-stats", f"71:{product}:2026-01-11") for product in ("500", "1")}
    assert [(day["orders"], day["units"]) for day in sold.values()] == [(0, 0), (1, 2)]
    with rebuilding(settings) as context:
        assert [rebuilt.unreadable for rebuilt in rebuilds(context)] == [0] * 6
    audited(settings, stores)


def test_rebuilding_a_day_upgrades_its_documents(
    settings: Settings, stores: Stores, installed: dict[str, dict[str, Any]]
) -> None:
    drain(settings)
    with rebuilding(settings) as context:
        assert [(rebuilt.unreadable, rebuilt.removed) for rebuilt in rebuilds(context)] == [(0, 0)] * 6
    for name in installed.keys() - {"order_status", "redactions", "privacy_requests"}:
        for id_ in installed[name]:
            assert get(stores, name, id_)["schema"] == SCHEMA, name
    audited(settings, stores)


def rebuilds(context: RebuildContext) -> Iterator[Any]:
    yield events.rebuild_days(context, DAYS)
    yield ad_leads.rebuild_days(context, DAYS)
    yield attributions.rebuild_days(context, DAYS, rules_of(context))
    yield customers.rebuild_days(context, DAYS)
    yield product_stats.rebuild_days(context, DAYS)
    yield weekly_visitors.rebuild_weeks(context, ["2026-W02"])


def with_strange_fields(stores: Stores, installed: dict[str, dict[str, Any]]) -> None:
    """Add unknown fields, as a newer version or an import may have them."""
    strange: dict[str, Any] = {"strange": {"type": "keyword"}}
    nested: dict[str, Any] = {name: {"dynamic": "strict", "properties": strange} for name in ("sightings", "touches")}
    for name, index in ELASTICSEARCH.items():
        properties = strange | (nested if name == "attributions" else {})
        full = stores.elasticsearch.index(index)
        stores.elasticsearch.client.indices.put_mapping(index=full, properties=properties)
    for name in (*ELASTICSEARCH, AD_LEADS, CUSTOMERS):
        for id_, document in installed[name].items():
            document["strange"] = "kept"
            for part in ("sightings", "touches"):
                for entry in document.get(part, ()):
                    entry["strange"] = "kept"
            put(stores, name, id_, document)


@pytest.mark.parametrize("rebuilt", [False, True], ids=["stream", "rebuild"])
def test_unknown_fields_survive_a_rewrite(
    settings: Settings, stores: Stores, installed: dict[str, dict[str, Any]], rebuilt: bool
) -> None:
    with_strange_fields(stores, installed)
    more(settings)
    drain(settings)
    flush(stores)
    if rebuilt:
        with rebuilding(settings) as context:
            assert len(list(rebuilds(context))) == 6
    for name in (*ELASTICSEARCH, AD_LEADS, CUSTOMERS):
        for id_ in installed[name]:
            document = get(stores, name, id_)
            assert document["strange"] == "kept", name
            assert rebuilt or name == "events" or document["schema"] == SCHEMA
            entries = [entry for part in ("sightings", "touches") for entry in document.get(part, ())]
            assert sum("strange" in entry for entry in entries) == sum(
                len(installed[name][id_].get(part, ())) for part in ("sightings", "touches")
            )
    if rebuilt:
        audited(settings, stores)


SIGHTING = {"source": "pixel", "event_id": "e", "client_id": "c", "occurred_at": "2026-01-01T12:00:00.000Z"}
# Collection, document, the field that the dead letter names, and its stage.
ODD: list[tuple[str, str, dict[str, Any], str, str]] = [
    (AD_LEADS, "s:c", {"touches": "none"}, "touches", "ad_lead"),
    (AD_LEADS, "s:c", {"touches": [{"at": NOON, "offset": 1}]}, "partition", "ad_lead"),
    (AD_LEADS, "s:c", {"touches": [], "schema": SCHEMA + 1}, "schema", "ad_lead"),
    (AD_LEADS, "s:c", {"touches": [], "schema": "two"}, "schema", "ad_lead"),
    (CUSTOMERS, "s:c", {"events": "many"}, "events", "customer"),
    (CUSTOMERS, "s:c", {"revenue": {"USD": 1.5}}, "revenue", "customer"),
    (CUSTOMERS, "s:c", {"applied": [1]}, "applied", "customer"),
    (CUSTOMERS, "s:c", {"replayed": [{"a": 1}]}, "replayed", "customer"),
    (CUSTOMERS, "s:c", {"schema": SCHEMA + 1, "events": 3}, "schema", "customer"),
    (ORDERS, "s:tok", {"shop_id": "s", "ids": ["s:tok"], "nodes": "none"}, "nodes", "attribution"),
    (ORDERS, "s:tok", {"shop_id": "s", "ids": ["s:tok"], "schema": SCHEMA + 1}, "schema", "attribution"),
    ("attributions", "s:tok", {"shop_id": "s", "status": ["open"]}, "status", "attribution"),
    ("attributions", "s:tok", {"shop_id": "s", "schema": SCHEMA + 1}, "schema", "attribution"),
    ("attributions", "s:tok", {"shop_id": "s", "sightings": [{**SIGHTING}]}, "kafka", "attribution"),
    ("events", "s:e", {"shop_id": "s", "client_id": "c"}, "kafka", "index"),
]


@pytest.mark.parametrize(("name", "id_", "document", "field", "stage"), ODD, ids=[f"{o[0]}-{o[3]}" for o in ODD])
def test_a_document_that_cannot_be_read_is_one_dead_letter_and_stays_unchanged(
    settings: Settings, stores: Stores, name: str, id_: str, document: dict[str, Any], field: str, stage: str
) -> None:
    put(stores, name, id_, document)
    other = {**pixel("f", query="?utm_source=n"), "clientId": "d"}
    send(settings, [record("s:c", completed("e", query="?utm_source=n")), record("s:d", other)])
    drain(settings)
    assert sum(entry.lag for entry in lag(settings.kafka())) == 0
    (entry,) = listed(settings, stores)
    assert (entry.letter.stage, entry.state) == (stage, "waiting")
    assert name in entry.letter.error
    assert id_ in entry.letter.error
    assert field in entry.letter.error
    assert "dead-letters replay" in entry.letter.error
    found = get(stores, name, id_)
    assert {key: value for key, value in found.items() if key != "_id"} == document
    assert stores.mongodb.read(CUSTOMERS, ["s:d"])["s:d"]["events"] == 1
    remove(stores, name, id_)
    assert replay(settings).replayed == 1
    audited(settings, stores)


def remove(stores: Stores, name: str, id_: str) -> None:
    if name in ELASTICSEARCH:
        index = stores.elasticsearch.index(ELASTICSEARCH[name])
        stores.elasticsearch.client.delete(index=index, id=id_, refresh=True)
    else:
        stores.mongodb.delete(name, {"_id": id_})


@pytest.mark.parametrize("version", [{}, {"v": None}, {"v": "three"}, {"v": 3.0}], ids=str)
def test_documents_without_a_version_of_ours_are_updated_too(
    settings: Settings, stores: Stores, version: dict[str, Any]
) -> None:
    put(stores, CUSTOMERS, "s:c", {"events": 2.0, "revenue": None, "note": "hello", **version})
    put(stores, AD_LEADS, "s:c", {"note": "hello", **version})
    put(stores, ORDERS, "s:tok", {"shop_id": "s", "ids": ["s:tok"], "note": "hello"})
    put(stores, "attributions", "s:tok", {"shop_id": "s", "order_id": "9"})
    send(settings, [record("s:c", completed("e", query="?utm_source=n"))])
    (metrics,) = drain(settings)
    assert not metrics.dead_letters
    profile = stores.mongodb.read(CUSTOMERS, ["s:c"])["s:c"]
    assert (profile["events"], profile["orders"], profile["revenue"]) == (3, 1, {"USD": 1000})
    assert [profile["note"], stores.mongodb.read(AD_LEADS, ["s:c"])["s:c"]["note"]] == ["hello", "hello"]
    found = attribution(stores, "s:tok")
    assert (found["value"]["amount"], found["status"]) == (1000, "open")
    assert stores.mongodb.read(ORDERS, ["s:tok"])["s:tok"]["note"] == "hello"


@pytest.mark.parametrize(
    "odd", [{"revenue": {"USD": 1.5}}, {"schema": SCHEMA + 1, "views": 1}], ids=["revenue", "newer"]
)
def test_a_flush_leaves_a_product_that_cannot_be_read_and_writes_all_others(
    settings: Settings, stores: Stores, odd: dict[str, Any]
) -> None:
    id_ = "s:p:2026-01-01"
    put(stores, "product-stats", id_, {"shop_id": "s", "product_id": "p", "day": "2026-01-01", **odd})
    view = [
        record("s:c", pixel(f"v{p}", "product_viewed", productVariant={"product": {"id": p}, "price": None}))
        for p in ("p", "q")
    ]
    send(settings, view)
    drain(settings)
    with pytest.raises(FlushRefused, match=id_):
        flush(stores)
    assert get(stores, "product-stats", "s:q:2026-01-01")["views"] == 1
    assert get(stores, "product-stats", id_).items() >= odd.items()
    remove(stores, "product-stats", id_)
    flush(stores)
    assert get(stores, "product-stats", id_)["views"] == 1


def test_an_order_id_that_only_an_import_knew_is_kept(settings: Settings, stores: Stores) -> None:
    put(stores, "attributions", "s:tok", {"shop_id": "s", "order_id": "77", "checkout_token": "tok", "status": "paid"})
    send(settings, [record("s:c", completed("e1"))])
    drain(settings)
    assert attribution(stores, "s:tok")["order_id"] == "77"
    audited(settings, stores)
    with rebuilding(settings) as context:
        attributions.rebuild_days(context, [NOON[:10]], rules_of(context))
    assert attribution(stores, "s:tok")["order_id"] == "77"
    audited(settings, stores)


def test_an_import_without_history_is_not_removed_by_a_rebuild(settings: Settings, stores: Stores) -> None:
    put(
        stores,
        "attributions",
        "s:old",
        {"shop_id": "s", "order_id": "old", "occurred_at": "2026-01-10T12:00:00.000Z", "status": "paid"},
    )
    put(stores, CUSTOMERS, "s:old", {"first_seen": "2026-01-10T12:00:00.000Z", "events": 7})
    drain(settings)
    with rebuilding(settings) as context:
        assert sum(rebuilt.removed for rebuilt in rebuilds(context)) == 0
    assert get(stores, CUSTOMERS, "s:old")["events"] == 7
    assert get(stores, "attributions", "s:old")["order_id"] == "old"


def test_a_rebuild_skips_what_cannot_be_read_and_does_the_rest(settings: Settings, stores: Stores) -> None:
    send(settings, [record("s:c", pixel("e", at="2026-01-10T12:00:00.000Z", query="?utm_source=n"))])
    drain(settings)
    put(stores, CUSTOMERS, "s:bad", {"first_seen": "2026-01-10T12:00:00.000Z", "events": "many"})
    put(stores, "events", "s:odd", {"shop_id": "s", "occurred_at": "2026-01-10T12:00:00.000Z", "source": "pixel"})
    stores.mongodb.delete(CUSTOMERS, {"_id": "s:c"})
    with rebuilding(settings) as context:
        # The rebuild of events reads the documents of records that Kafka does not have, and so the odd one.
        assert [rebuilt.unreadable for rebuilt in rebuilds(context)] == [1, 0, 0, 1, 0, 0]
    assert stores.mongodb.read(CUSTOMERS, ["s:c"])["s:c"]["events"] == 1
    assert get(stores, CUSTOMERS, "s:bad")["events"] == "many"
    assert get(stores, "events", "s:odd")["shop_id"] == "s"


def test_values_of_another_shape_in_redis_stop_no_flush_and_no_lane(settings: Settings, stores: Stores) -> None:
    client, name = stores.redis.client, settings.namespace
    client.hset(f"{name}:claim:s:bad:2026-01-01", mapping={"token": "t", "views": "many"})
    client.hset(f"{name}:buffer:of-another-shape", "views", "1")
    client.sadd(f"{name}:replayed", "no place", "0/1/2")
    client.sadd(f"{name}:visitors-dirty", "of another shape")
    client.hset(f"{name}:buried:0", mapping={"first": "x", "999": "not JSON"})
    view = pixel("e", "product_viewed", productVariant={"product": {"id": "q"}, "price": None})
    send(settings, [record("s:c", view)])
    drain(settings)
    with pytest.raises(FlushRefused, match="cannot be read"):
        flush(stores)
    assert get(stores, "product-stats", "s:q:2026-01-01")["views"] == 1
    client.hset(f"{name}:claim:s:bad:2026-01-01", "views", "2")
    flush(stores)
    assert get(stores, "product-stats", "s:bad:2026-01-01")["views"] == 2


def test_redactions_and_requests_that_cannot_be_read_keep_no_other_back(settings: Settings, stores: Stores) -> None:
    redactions = Redactions(stores.mongodb)
    redactions.add("s", [Identifier("client", "c")], Moment({}, 0))
    stores.mongodb.collection(REDACTIONS).update_one(
        {"_id": redactions.digest("s", Identifier("client", "c"))}, {"$set": {"at": "never"}}
    )
    request = PrivacyRequest("customers/data_request", "s", customer_id="1")
    privacy_requests.keep(stores.mongodb, {"cli/good": request})
    put(stores, PRIVACY_REQUESTS, "cli/bad", {"state": "waiting", "asked_at": "today", "request": {}})
    assert [waiting.id for waiting in privacy_requests.waiting(stores.mongodb)] == ["cli/good"]
    send(settings, [record("s:c", pixel("e")), record("s:d", {**pixel("f"), "clientId": "d"})])
    (metrics,) = drain(settings)
    # A redaction with an unreadable end covers everything: too much rather than too little.
    assert (metrics.redacted, sum(metrics.dead_letters.values())) == (1, 0)
    assert stores.mongodb.read(CUSTOMERS, ["s:c", "s:d"]).keys() == {"s:d"}
