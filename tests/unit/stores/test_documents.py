"""Documents of other versions: what is read, kept and rejected."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.stages.events_made_up import completed, event, webhook
from truepixel_dagster.events.event import Event
from truepixel_dagster.flush import COUNTED, VISITED
from truepixel_dagster.orders.division import orders_of
from truepixel_dagster.orders.document import Attribution, attribution_of
from truepixel_dagster.orders.event_facts import facts_of
from truepixel_dagster.orders.journey import Rules
from truepixel_dagster.stages.ad_lead import LEAD
from truepixel_dagster.stages.attribution_document import stored_attribution, updated
from truepixel_dagster.stages.customer import PROFILE, apply
from truepixel_dagster.stages.index import STORED
from truepixel_dagster.stages.order_clusters import CLUSTER
from truepixel_dagster.stores.documents import SCHEMA, Reader, Unreadable, tidied
from truepixel_dagster.stores.elasticsearch import Found
from truepixel_dagster.stores.privacy_requests import REQUEST
from truepixel_dagster.stores.redactions import REDACTION

VERSIONS = sorted((Path(__file__).parents[2] / "samples" / "documents").glob("version-*.json"))
READERS: dict[str, Reader[Any]] = {
    "events": STORED,
    "ad_leads": LEAD,
    "customers": PROFILE,
    "orders": CLUSTER,
    "product-stats": COUNTED,
    "weekly-visitors": VISITED,
    "redactions": REDACTION,
}
# Collections that a version has and others do not.
OF_SOME_VERSIONS = {"orders"}
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def attribution(*events: Event) -> Attribution:
    (order,) = orders_of("s", [node for seen in events if (node := facts_of(seen, ()))])
    return attribution_of(order, Rules(30, 7, 50))


def test_there_are_documents_of_every_earlier_version() -> None:
    assert [path.stem for path in VERSIONS] == [f"version-{number}" for number in range(1, SCHEMA)]


@pytest.mark.parametrize("path", VERSIONS, ids=lambda path: path.stem)
def test_every_document_of_an_earlier_version_is_read_unchanged(path: Path) -> None:
    documents = json.loads(path.read_text())
    for name, reader in READERS.items():
        assert name in documents or name in OF_SOME_VERSIONS
        for id_, document in documents.get(name, {}).items():
            assert reader.usable(id_, document) is document
    for id_, document in documents["attributions"].items():
        assert stored_attribution(Found("i", id_, document, 1, 1)).sightings
    for id_, document in documents["privacy_requests"].items():
        assert REQUEST.read(id_, {**document, "id": id_}).id == id_


@given(st.sampled_from(sorted(READERS)), st.data())
def test_any_document_is_read_or_unreadable(name: str, data: st.DataObject) -> None:
    reader = READERS[name]
    fields = st.sampled_from(sorted(reader.known)) | st.text(max_size=4)
    document = data.draw(st.dictionaries(fields, JSON, max_size=6))
    try:
        reader.read("id", document)
    except Unreadable as error:
        line = str(error)
        assert "'id'" in line
        assert "dead-letters replay" in line


@given(st.dictionaries(st.sampled_from(["shop_id", "status", "sightings", "touches", "credits", "value", "x"]), JSON))
def test_any_attribution_is_read_or_unreadable(document: dict[str, Any]) -> None:
    with suppress(Unreadable):
        updated(attribution(completed(1)), Found("i", "s:tok", document, 1, 1))


def test_a_version_is_a_number_and_no_newer_one() -> None:
    for schema in (None, 1, SCHEMA, 1.0):
        assert PROFILE.read("u", {"schema": schema, "events": 1}).events == 1
    with pytest.raises(Unreadable, match=r"newer than this version's .*; upgrade TruePixel, then"):
        PROFILE.read("u", {"schema": SCHEMA + 1})
    with pytest.raises(Unreadable, match="field schema is not a number but '2'"):
        PROFILE.read("u", {"schema": "2"})


def test_nulls_are_missing_and_whole_numbers_are_whole() -> None:
    assert tidied({"a": 5.0, "b": None, "c": [1.0, None, 1.5], "d": {"e": None}}) == {"a": 5, "c": [1, 1.5], "d": {}}
    found = PROFILE.usable("u", {"events": 5.0, "revenue": None, "note": None})
    assert found == {"events": 5, "note": None}


def test_the_reason_names_document_and_field() -> None:
    with pytest.raises(Unreadable) as raised:
        LEAD.read("s:c", {"touches": [{"offset": "x", "partition": 0, "at": "t", "event_id": "e", "ad": {}}]})
    assert "MongoDB ad_leads document 's:c' cannot be read: field touches[0].offset: Expected `int`" in str(
        raised.value
    )


def test_a_rewrite_keeps_what_is_not_known_and_says_the_version() -> None:
    first = msgspec.json.decode(updated(attribution(completed(1)), None) or b"")
    first["strange"] = first["sightings"][0]["strange"] = first["credits"]["strange"] = "kept"
    there = Found("i", "s:tok", first, 1, 1)
    assert updated(attribution(completed(1)), there) is None
    second = msgspec.json.decode(updated(attribution(completed(1), webhook(2)), there) or b"")
    assert second["strange"] == second["sightings"][0]["strange"] == second["credits"]["strange"] == "kept"
    assert (second["schema"], len(second["sightings"])) == (SCHEMA, 2)


def test_an_order_id_that_only_an_import_knew_is_kept() -> None:
    there = Found("i", "s:tok", {"shop_id": "s", "order_id": "77", "status": "paid"}, 1, 1)
    assert msgspec.json.decode(updated(attribution(completed(1)), there) or b"")["order_id"] == "77"
    assert msgspec.json.decode(updated(attribution(completed(1, order_id="78")), there) or b"")["order_id"] == "78"


def test_a_customer_keeps_what_is_not_known() -> None:
    after = apply({"_id": "u", "strange": [1], "events": 3, "schema": 1}, [event(1)])
    assert after is not None
    assert (after["strange"], after["events"], after["schema"]) == ([1], 4, SCHEMA)
