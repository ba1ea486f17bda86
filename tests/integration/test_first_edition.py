"""An installation written by the first edition of the data contract (`tests/first_edition.py`), upgraded."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from typing import Any

import pytest

from tests.first_edition import MORE, load
from tests.integration.driving import audited, drain, flush, send
from tests.integration.test_cli import run, truepixel
from truepixel_dagster.audit.audit import audit
from truepixel_dagster.dead_letters.inspect import listed
from truepixel_dagster.dead_letters.reprocess import replay
from truepixel_dagster.events.event import Message
from truepixel_dagster.local.samples import read_lines
from truepixel_dagster.local.traffic import FIRST, FULL, traffic
from truepixel_dagster.provision import older_documents, provision
from truepixel_dagster.rebuild import ad_leads, attributions, customers, events, product_stats, weekly_visitors
from truepixel_dagster.rebuild.context import rebuilding
from truepixel_dagster.rebuild.history import all_of
from truepixel_dagster.rebuild.replay import between
from truepixel_dagster.rebuild.replay import replay as replay_range
from truepixel_dagster.rebuild.stats import RebuildStats
from truepixel_dagster.report.reading import shop_report
from truepixel_dagster.resources import Stores, open_stores
from truepixel_dagster.settings import Settings
from truepixel_dagster.stores.documents import SCHEMA
from truepixel_dagster.stores.elasticsearch import ElasticsearchStore
from truepixel_dagster.stores.errors import NotSetUp, Unavailable
from truepixel_dagster.stores.index_templates import TEMPLATES, index_faults, template_of
from truepixel_dagster.stores.mongodb import AD_LEADS, CUSTOMERS, ORDERS, SHOPS
from truepixel_dagster.stream.producer import EventProducer
from truepixel_dagster.stream.reading import read_all
from truepixel_dagster.stream.topics import bounds, delete_before

# All days of the records, and of what the generator sends.
DAYS = [(date(2026, 10, 1) + timedelta(days=n)).isoformat() for n in range(92)]
WEEKS = [f"2026-W{number}" for number in range(40, 54)]
# Fields that say how a document was made: which records were counted by which process, and when.
BOOKKEEPING = frozenset({"v", "last_token", "applied", "replayed", "older", "since", "origins_since", "exact"})
A_SHOP = "710001"
Doc = dict[str, Any]


@pytest.fixture
def first(bare_settings: Settings) -> Settings:
    """Servers as the first edition left them."""
    load(bare_settings)
    return bare_settings


def further_records(settings: Settings) -> None:
    """The records after the upgrade: of the same orders and visitors, and of both profiles of traffic."""
    send(settings, read_lines(MORE.read_bytes().splitlines()))
    for profile in (FIRST, FULL):
        records = traffic(250, seed=4, shops=3, profile=profile, span=timedelta(days=3))
        send(settings, ((r.key, r.value, r.headers) for r in records))


def all_days() -> list[str]:
    return [*(f"2026-01-{day:02d}" for day in range(1, 32)), *DAYS]


def rebuild_events(settings: Settings) -> RebuildStats:
    with rebuilding(settings) as context:
        return events.rebuild_days(context, all_days())


def rebuild_everything(settings: Settings) -> None:
    """Follow docs/operations.md, in its order."""
    days = all_days()
    rebuild_events(settings)
    with rebuilding(settings) as context:
        ad_leads.rebuild_days(context, days)
        attributions.rebuild_days(context, days, attributions.rules_of(context))
        customers.rebuild_days(context, days)
        product_stats.rebuild_days(context, days)
        weekly_visitors.rebuild_weeks(context, [*(f"2026-W0{number}" for number in range(1, 6)), *WEEKS])


@contextmanager
def fresh_install(settings: Settings, records: Iterable[Message] | None = None) -> Iterator[tuple[Settings, Stores]]:
    """A fresh installation of this version that has read the same records from the same places.

    Arguments:
        settings: Of the other installation.
        records: All records that its topic ever had, if it has lost some.
    """
    fresh = settings.model_copy(update={"namespace": f"{settings.namespace}n"})
    provision(fresh)
    with EventProducer(fresh.kafka()) as producer:
        for message in read_all(settings.kafka()) if records is None else records:
            partition, timestamp = message.origin.partition, message.timestamp
            producer.send(message.key, message.value, message.headers, partition=partition, timestamp=timestamp)
    drain(fresh)
    with open_stores(fresh) as stores:
        try:
            yield fresh, stores
        finally:
            stores.mongodb.client.drop_database(fresh.database)
            for index in stores.elasticsearch.indices(""):
                stores.elasticsearch.drop(index)


def documents(settings: Settings, stores: Stores) -> dict[str, dict[str, Doc]]:
    """Every document by store and id, without bookkeeping and without the namespace."""
    stores.elasticsearch.refresh()
    found = {name: {hit["_id"]: hit["_source"] for hit in stores.elasticsearch.scan(name)} for name in TEMPLATES}
    for name in (AD_LEADS, CUSTOMERS, SHOPS):
        found[name] = {document["_id"]: document for document in stores.mongodb.find(name, {})}
    # The ids of an order's facts depend on the order in which records arrive.
    live = stores.mongodb.find(ORDERS, {"merged_into": None})
    facts = ("nodes", "counted", "entries", "imported", "users", "days", "schema")
    found[ORDERS] = {_named(document): {fact: document.get(fact) for fact in facts} for document in live}
    return {name: {id_: _bare(doc, settings) for id_, doc in own.items()} for name, own in found.items()}


def _named(document: Doc) -> str:
    return " ".join([document["shop_id"], *(f"{node['kind']} {node['id']}" for node in document.get("nodes", ()))])


def _bare(value: Any, settings: Settings) -> Any:
    if isinstance(value, dict):
        return {key: _bare(item, settings) for key, item in value.items() if key not in BOOKKEEPING}
    if isinstance(value, list):
        return [_bare(item, settings) for item in value]
    return "TOPIC" if value == settings.topic else value


def test_a_rebuild_of_everything_equals_a_fresh_installation(first: Settings) -> None:
    provision(first)
    with open_stores(first) as stores:
        assert audit(first).differences
        further_records(first)
        drain(first)
        assert replay(first).replayed == 1
        rebuild_everything(first)
        audited(first, stores)
        # An order that only the first edition decodes is a dead letter now, and none of its documents is left.
        assert [entry.letter.stage for entry in listed(first, stores, shop="710003")] == ["decode"]
        upgraded = documents(first, stores)
        assert older_documents(stores) == {}
    assert {doc["schema"] for own in upgraded.values() for doc in own.values()} == {SCHEMA}
    with fresh_install(first) as (fresh, stores):
        flush(stores)
        rebuild_everything(fresh)
        audited(fresh, stores)
        expected = documents(fresh, stores)
    wrong = list(unequal(expected, upgraded))
    assert not wrong, "\n".join(wrong[:40])


def test_events_that_kafka_no_longer_has_are_decoded_again(first: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    older = list(read_all(first.kafka()))
    retention_takes(first, share=2 / 3)
    provision(first)
    with open_stores(first) as stores:
        further_records(first)
        drain(first)
        assert replay(first).replayed == 1
        interrupt_before_the_old_ones_are_removed(first, monkeypatch)
        rebuild_everything(first)
        found = audited(first, stores)
        assert found.not_judged
        assert found.lost_to_retention == 0
        # An order that only the first edition decodes: its document is all that is left of it.
        assert older_documents(stores) == {"events": 1}
        upgraded = documents(first, stores)
        assert upgraded["events"].pop("710003:odd")["schema"] < SCHEMA
        again = rebuild_events(first)
        assert (again.changed, again.removed, again.refused) == (0, 0, 1)
        records = {message.origin: message for message in (*older, *read_all(first.kafka()))}
    with fresh_install(first, records.values()) as (fresh, stores):
        flush(stores)
        rebuild_everything(fresh)
        audited(fresh, stores)
        expected = documents(fresh, stores)
        # No document of this edition is lost, either.
        retention_takes(fresh, share=1)
        again = rebuild_events(fresh)
        assert (again.changed, again.removed, again.refused) == (0, 0, 0)
        assert documents(fresh, stores) == expected
    wrong = [line for line in unequal(expected, upgraded) if ": shop_domain is None" not in line]
    assert not wrong, "\n".join(wrong[:40])


def test_a_replay_after_the_upgrade_leaves_one_document_of_each_record(first: Settings) -> None:
    provision(first)
    with rebuilding(first) as context:
        replay_range(context, between(context, 0, int(time.time() * 1000)), ["index"])
        context.history.refresh()
        places = origins(hit["_source"]["kafka"] for page in context.history.documents(all_of()) for hit in page)
    assert set(places.values()) == {1}
    with open_stores(first) as stores:
        # The document of the record that is refused now.
        assert older_documents(stores)["events"] == 1


def retention_takes(settings: Settings, *, share: float) -> None:
    """Have Kafka remove the oldest records of each partition."""
    _, high = bounds(settings.kafka())
    delete_before(settings.kafka(), settings.topic, {partition: int(end * share) for partition, end in high.items()})


def interrupt_before_the_old_ones_are_removed(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """End a rebuild between the new documents and the removal of the old ones: no event is read twice."""

    def ends(_: Any, documents: Iterable[Any]) -> int:
        if list(documents):
            raise Unavailable("it ended")
        return 0

    with monkeypatch.context() as patch:
        patch.setattr(ElasticsearchStore, "remove", ends)
        with pytest.raises(Unavailable, match="it ended"):
            rebuild_events(settings)
    with rebuilding(settings) as context:
        context.history.refresh()
        twice = origins(hit["_source"]["kafka"] for page in context.history.documents(all_of()) for hit in page)
        assert any(count > 1 for count in twice.values())
        once = [event for page in context.history.events(all_of()) for event in page]
        assert max(Counter(event.origin for event in once).values()) == 1
        outlined = [event for page in context.history.outlines(all_of()) for event in page]
        assert max(Counter(event.origin for event in outlined).values()) == 1


def origins(places: Iterable[Doc]) -> Counter[tuple[int, int]]:
    return Counter((place["partition"], place["offset"]) for place in places)


def unequal(expected: dict[str, dict[str, Doc]], actual: dict[str, dict[str, Doc]]) -> Iterator[str]:
    for name, own in expected.items():
        for id_ in sorted(own.keys() | actual[name].keys()):
            one, other = own.get(id_, {}), actual[name].get(id_, {})
            for field in sorted(one.keys() | other.keys()):
                if one.get(field) != other.get(field):
                    yield f"{name} {id_}: {field} is {other.get(field)}, expected {one.get(field)}"


def test_setup_gives_its_indices_the_fields_that_they_lack_and_the_report_reads_its_documents(first: Settings) -> None:
    with open_stores(first) as stores:
        before = counts(first, stores)
        said = lacking(first, stores)
        assert {"attributions": "net", "events-2026.11": "bot", "product-stats-2026.11": "returned_units"}.items() <= {
            (index, field) for index, fields in said.items() for field in fields
        }
        with pytest.raises(NotSetUp, match=r"lacks the field .*: run `truepixel setup`"):
            stores.elasticsearch.check()
    printed = run(first, "setup")
    for index in said:
        assert f"Elasticsearch mapping of {first.namespace}-{index}" in printed.stdout
    older = ", ".join(f"{count} {name}" for name, count in before.items())
    assert f"documents of the first edition of the data contract: {older}. They are read" in one_line(printed.stderr)
    assert "nothing to do" in truepixel(first, "setup")
    with open_stores(first) as stores:
        assert lacking(first, stores) == {}
        assert stores.elasticsearch.unsound() == []
        assert counts(first, stores) == before
        report = shop_report(stores, A_SHOP, "linear")
    assert (report.orders, report.unreadable) == (1, 0)


def test_a_reindex_makes_its_orders_right_for_aggregations_and_changes_no_document(first: Settings) -> None:
    index = f"{first.namespace}-attributions"
    printed = one_line(run(first, "setup").stderr)
    note = rf"note: index {index} has \S+ .* \(and \d+ more\): this affects only your own searches\. Stop the lanes"
    assert re.search(note, printed)
    with open_stores(first) as stores:
        before = {hit["_id"]: hit["_source"] for hit in stores.elasticsearch.scan("attributions")}
    truepixel(first, "setup", "--reindex", index)
    with open_stores(first) as stores:
        assert not any(f"index {index} " in line for line in stores.elasticsearch.outdated())
        stores.elasticsearch.refresh()
        assert {hit["_id"]: hit["_source"] for hit in stores.elasticsearch.scan("attributions")} == before
        amounts = {"amounts": {"sum": {"field": "credits.linear.amount"}}}
        nested = {"credits": {"nested": {"path": "credits.linear"}, "aggs": amounts}}
        found = stores.elasticsearch.client.search(index=index, size=0, aggs=nested)["aggregations"]["credits"]
    credits_ = [each for order in before.values() for each in order["credits"]["linear"]]
    assert found["amounts"]["value"] == sum(each["amount"] for each in credits_)


def lacking(settings: Settings, stores: Stores) -> dict[str, list[str]]:
    """The fields that indices lack, by the index without its namespace."""
    found: dict[str, list[str]] = {}
    there = stores.elasticsearch.client.indices.get(index=f"{settings.namespace}-*").body
    for index, body in there.items():
        name = template_of(index, settings.namespace)
        for fault in index_faults(index, str(name), body):
            if fault.outdated:
                continue
            assert fault.repairable
            field = fault.what.removeprefix("lacks the field ")
            found.setdefault(index.removeprefix(f"{settings.namespace}-"), []).append(field)
    return found


def one_line(text: str) -> str:
    return " ".join(text.split())


def counts(settings: Settings, stores: Stores) -> dict[str, int]:
    client = stores.elasticsearch.client
    return {name: client.count(index=f"{settings.namespace}-{name}*")["count"] for name in TEMPLATES}
