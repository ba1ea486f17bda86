"""Templates and mappings on the real server: nothing is written and no search is trusted under foreign ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.driving import all_committed, audited, drain, flush, one_batch, record, send
from tests.integration.test_cli import run, truepixel
from tests.integration.test_pipeline import completed, pixel
from truepixel_dagster.audit.audit import audit
from truepixel_dagster.dead_letters.inspect import listed
from truepixel_dagster.flush import FlushRefused
from truepixel_dagster.pipeline.lane_claim import open_lane
from truepixel_dagster.privacy.export import held
from truepixel_dagster.provision import provision
from truepixel_dagster.rebuild import ad_leads
from truepixel_dagster.rebuild.context import rebuilding
from truepixel_dagster.report.reading import busiest_shops, shop_report
from truepixel_dagster.resources import Stores, open_stores
from truepixel_dagster.settings import Settings
from truepixel_dagster.stores.elasticsearch import Action
from truepixel_dagster.stores.errors import NotSetUp

MARCH = "2026-03-03T12:00:00.000Z"


def indices(stores: Stores) -> Any:
    return stores.elasticsearch.client.indices


def full(stores: Stores, name: str) -> str:
    return stores.elasticsearch.index(name)


def without_template(stores: Stores) -> None:
    indices(stores).delete_index_template(name=full(stores, "events"))


def with_other_fields(stores: Stores) -> None:
    name = full(stores, "events")
    body = indices(stores).get_index_template(name=name)["index_templates"][0]["index_template"]
    body["template"]["mappings"]["properties"]["shop_id"] = {"type": "text"}
    kept = {key: body[key] for key in ("index_patterns", "priority", "template")}
    indices(stores).put_index_template(name=name, **kept)


def dynamic(stores: Stores) -> None:
    name = full(stores, "events")
    body = indices(stores).get_index_template(name=name)["index_templates"][0]["index_template"]
    del body["template"]["mappings"]
    kept = {key: body[key] for key in ("index_patterns", "priority", "template")}
    indices(stores).put_index_template(name=name, **kept)


@pytest.mark.parametrize("change", [without_template, with_other_fields, dynamic])
def test_a_lane_writes_nothing_before_its_templates_are_corrected(
    settings: Settings, stores: Stores, change: Callable[[Stores], None]
) -> None:
    send(settings, [record("s:c", completed("e"))])
    change(stores)
    with pytest.raises(NotSetUp, match=r"events.*: run `truepixel setup`$") as stopped:
        drain(settings)
    assert "\n" not in str(stopped.value)
    assert (stores.elasticsearch.indices("events-"), listed(settings, stores), all_committed(settings)) == ([], [], 0)
    assert provision(settings) == ["Elasticsearch template events"]
    assert provision(settings) == []
    drain(settings)
    assert audited(settings, stores).events == 1


def test_a_lane_writes_nothing_while_a_template_is_missing_that_it_needs_later(
    settings: Settings, stores: Stores
) -> None:
    indices(stores).delete_index_template(name=full(stores, "product-stats"))
    send(settings, [record("s:c", completed("e"))])
    with pytest.raises(NotSetUp, match=r"product-stats is missing: run `truepixel setup`"):
        drain(settings)
    assert (stores.elasticsearch.indices("events-"), listed(settings, stores), all_committed(settings)) == ([], [], 0)
    provision(settings)
    drain(settings)
    assert audited(settings, stores).events == 1


def test_a_template_that_overrides_ours_is_named(settings: Settings, stores: Stores) -> None:
    name = full(stores, "other")
    indices(stores).put_index_template(
        name=name, index_patterns=[full(stores, "events-*")], priority=900, template={"mappings": {}}
    )
    send(settings, [record("s:c", pixel("e"))])
    try:
        with pytest.raises(NotSetUp, match=f"index template {name} overrides {full(stores, 'events')}"):
            drain(settings)
        assert f"index template {name} overrides" in " ".join(run(settings, "setup").stderr.split())
    finally:
        indices(stores).delete_index_template(name=name)
    drain(settings)


def test_a_month_that_begins_after_its_template_is_gone_is_not_made(settings: Settings, stores: Stores) -> None:
    """The lane was opened, and has written to another month, when the template was removed."""
    with open_lane(settings, lane=0, lanes=1, owner="test") as lane:
        send(settings, [record("s:c", pixel("e"))])
        assert one_batch(lane)
        without_template(stores)
        send(settings, [record("s:c", pixel("m", at=MARCH))])
        with pytest.raises(NotSetUp, match="is missing: run `truepixel setup`"):
            one_batch(lane)
    assert stores.elasticsearch.indices("events-") == [full(stores, "events-2026.01")]
    provision(settings)
    drain(settings)
    assert audited(settings, stores).events == 2


def made_without_template(stores: Stores) -> str:
    """A month whose index was created by another program's write, with the mapping that Elasticsearch derives."""
    index = full(stores, "events-2026.03")
    without_template(stores)
    stores.elasticsearch.client.index(index=index, id="s:by-hand", document=BY_HAND, refresh=True)
    return index


BY_HAND: dict[str, Any] = {
    "shop_id": "s",
    "client_id": "c",
    "event_id": "by-hand",
    "name": "page_viewed",
    "source": "pixel",
    "occurred_at": MARCH,
    "received_at": MARCH,
    "kafka": {"topic": "t", "partition": 0, "offset": 0},
    "payload": {"id": "by-hand", "name": "page_viewed", "clientId": "c", "timestamp": MARCH, "amount": 1.10},
}


def rebuild(settings: Settings, stores: Stores) -> None:
    with rebuilding(settings) as context:
        ad_leads.rebuild_days(context, ["2026-01-05"])


def personal_data(settings: Settings, stores: Stores) -> None:
    with rebuilding(settings) as context:
        list(held(context, "s", None))


PROOFS: dict[str, Callable[[Settings, Stores], object]] = {
    "lane": lambda settings, _: drain(settings),
    "audit": lambda settings, _: audit(settings),
    "rebuild": rebuild,
    "privacy": personal_data,
    "report": lambda _, stores: busiest_shops(stores.elasticsearch),
    "count": lambda _, stores: stores.elasticsearch.count("events-"),
}


@pytest.mark.parametrize("proof", PROOFS)
def test_an_index_with_a_dynamic_mapping_is_found_by_everything_that_needs_it(settings: Settings, proof: str) -> None:
    with open_stores(settings) as stores:
        index = made_without_template(stores)
        assert "Elasticsearch template events" in provision(settings)
        with pytest.raises(NotSetUp, match=f"index {index} has .* as .* instead of .*: run `truepixel setup`"):
            PROOFS[proof](settings, stores)


def test_setup_says_what_to_reindex_and_does_it(settings: Settings, stores: Stores) -> None:
    send(settings, [record("s:c", pixel("e"))])
    drain(settings)
    index = made_without_template(stores)
    said = " ".join(truepixel(settings, "setup", code=1).split())
    assert f"index {index} has shop_id as text instead of keyword" in said
    assert f"`truepixel setup --reindex {index}`" in said
    refused = " ".join(truepixel(settings, "privacy", "redact", "--shop", "s", "--dry-run", code=1).split())
    assert f"index {index} has shop_id as text instead of keyword" in refused
    assert "Traceback" not in refused
    assert f"{index}: 1 documents reindexed" in truepixel(settings, "setup", "--reindex", index)
    assert f"{index}: 0 documents reindexed" in truepixel(settings, "setup", "--reindex", index)
    with open_stores(settings) as fresh:
        (found,) = fresh.elasticsearch.scan("events-2026.03", {"term": {"shop_id": "s"}})
        assert found["_source"] == BY_HAND
        assert fresh.elasticsearch.indices("aside-") == []
    counts = json.loads(truepixel(settings, "privacy", "redact", "--shop", "s", "--dry-run", "--json"))["documents"]
    assert counts["events"] == 2


@pytest.mark.parametrize("name", ["product-stats-2026.01", "weekly-visitors"])
def test_a_flush_writes_nothing_under_a_dynamic_mapping(settings: Settings, stores: Stores, name: str) -> None:
    view = pixel("v", "product_viewed", productVariant={"product": {"id": "p"}, "price": None})
    send(settings, [record("s:c", view)])
    drain(settings)
    template = full(stores, name.removesuffix("-2026.01"))
    indices(stores).delete_index_template(name=template)
    with open_stores(settings) as fresh, pytest.raises(FlushRefused, match=f"{template} is missing: run"):
        flush(fresh)
    assert stores.elasticsearch.indices(name) == []
    provision(settings)
    flush(stores)
    audited(settings, stores)


def test_an_index_that_lacks_a_field_gets_it_from_setup(settings: Settings, stores: Stores) -> None:
    index = full(stores, "events-2026.03")
    without_template(stores)
    indices(stores).create(index=index, mappings={"dynamic": "strict", "properties": {"shop_id": {"type": "keyword"}}})
    assert provision(settings) == ["Elasticsearch template events", f"Elasticsearch mapping of {index}"]
    assert provision(settings) == []
    stores.elasticsearch.check()
    stores.elasticsearch.bulk([Action("create", index, "s:e", b'{"shop_id":"s","ad":{"platform":"x"}}')])


def test_a_closed_index_is_not_taken_for_one_without_documents(settings: Settings, stores: Stores) -> None:
    send(settings, [record("s:c", completed("e"))])
    drain(settings)
    index = full(stores, "events-2026.01")
    indices(stores).close(index=index)
    with open_stores(settings) as fresh, pytest.raises(NotSetUp, match=f"index {index} is closed, .*: open it"):
        list(fresh.elasticsearch.scan("events-"))
    with pytest.raises(NotSetUp, match=f"index {index} is closed"):
        personal_data(settings, stores)
    # Retention sees it nevertheless.
    assert stores.elasticsearch.indices("events-") == [index]
    indices(stores).open(index=index)
    assert shop_report(stores, "s", "last_click").orders == 1


def test_a_strict_index_that_lacks_a_field_makes_no_dead_letter(settings: Settings, stores: Stores) -> None:
    """The index is checked again before a document is poison: here it lost a field while the lane was processing."""
    with open_lane(settings, lane=0, lanes=1, owner="test") as lane:
        send(settings, [record("s:c", pixel("e"))])
        assert one_batch(lane)
        index = full(stores, "events-2026.01")
        indices(stores).delete(index=index)
        without_template(stores)
        strict = {"dynamic": "strict", "properties": {"shop_id": {"type": "keyword"}}}
        indices(stores).create(index=index, mappings=strict)
        send(settings, [record("s:c", pixel("other"))])
        with pytest.raises(NotSetUp, match=f"index {index} .*: run `truepixel setup`"):
            one_batch(lane)
    assert listed(settings, stores) == []
