"""Templates and mappings are compared where the pipeline writes or searches; anything more is tolerated."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from truepixel_dagster.stores.index_templates import (
    TEMPLATES,
    index_faults,
    is_closed,
    repair,
    template,
    template_faults,
    template_of,
)

Change = Callable[[dict[str, Any]], Any]


def put() -> dict[str, dict[str, Any]]:
    return {f"ns-{name}": template(name, "ns", 1) for name in TEMPLATES}


def mapping(name: str = "events") -> dict[str, Any]:
    found: dict[str, Any] = copy.deepcopy(template(name, "ns", 1)["template"]["mappings"])
    return found


def test_the_templates_of_setup_pass_the_checks() -> None:
    assert template_faults(put(), "ns") == []
    for name in TEMPLATES:
        assert index_faults("i", name, {"mappings": mapping(name)}) == []


def fields(found: dict[str, Any]) -> dict[str, Any]:
    own: dict[str, Any] = found["properties"]
    return own


CHANGES: list[tuple[Change, str, bool]] = [
    (lambda m: fields(m).update(shop_id={"type": "text"}), "has shop_id as text instead of keyword", False),
    (lambda m: fields(m)["shop_id"].update(index=False), "has shop_id with index False instead of True", False),
    (lambda m: fields(m)["occurred_at"].update(format="epoch_millis"), "has occurred_at with format", False),
    (lambda m: fields(m)["payload"].update(enabled=True), "has payload with enabled True instead of False", False),
    (lambda m: fields(m)["kafka"]["properties"].update(offset={"type": "float"}), "has kafka.offset as float", False),
    (lambda m: fields(m).pop("ad"), "lacks the field ad", True),
    (lambda m: fields(m)["kafka"]["properties"].pop("offset"), "lacks the field kafka.offset", True),
    (lambda m: fields(m)["name"].update(ignore_above=10), "has name with ignore_above 10 instead of 2048", True),
    (lambda m: m.update(dynamic="true"), "is not dynamic: strict", True),
    (lambda m: m.pop("dynamic"), "is not dynamic: strict", True),
    (lambda m: fields(m)["ad"].update(dynamic="true"), "is not dynamic: strict of ad", True),
]


@pytest.mark.parametrize(("change", "said", "repairable"), CHANGES, ids=[said for _, said, _ in CHANGES])
def test_a_mapping_by_hand_is_found_in_an_index_and_in_a_template(change: Change, said: str, repairable: bool) -> None:
    changed = mapping()
    change(changed)
    (fault,) = index_faults("i", "events", {"mappings": changed})
    assert said in str(fault)
    assert fault.repairable is repairable
    there = put()
    change(there["ns-events"]["template"]["mappings"])
    (fault,) = template_faults(there, "ns")
    assert (said in str(fault), fault.repairable) == (True, True)


def test_a_dynamic_mapping_is_found_by_its_first_field_of_another_type() -> None:
    text = {"type": "text", "fields": {"keyword": {"type": "keyword"}}}
    faults = index_faults("i", "events", {"mappings": {"properties": {"shop_id": text}}})
    assert any(not fault.repairable and "shop_id as text" in str(fault) for fault in faults)


def test_fields_of_others_and_of_newer_versions_are_tolerated() -> None:
    more = mapping()
    fields(more)["of_a_newer_version"] = {"type": "long"}
    fields(more)["shop_id"]["copy_to"] = "of_a_newer_version"
    assert index_faults("i", "events", {"mappings": more}) == []


def test_an_indexed_field_that_no_query_needs_is_tolerated() -> None:
    more = mapping()
    fields(more)["url"] = {"type": "keyword", "ignore_above": 2048}
    assert index_faults("i", "events", {"mappings": more}) == []


def as_before() -> dict[str, dict[str, Any]]:
    """The mappings of version 0.2: credits as plain objects, sums that are not indexed, one format for a date."""
    found = {name: mapping(name) for name in TEMPLATES}
    for model in fields(fields(found["attributions"])["credits"]).values():
        del model["type"]
    for name in ("revenue", "returned_revenue"):
        fields(found["product-stats"])[name] = {"type": "object", "enabled": False}
    fields(found["product-stats"])["day"]["format"] = "strict_date"
    fields(found["events"])["occurred_at"]["format"] = "strict_date_time"
    return found


def test_an_earlier_versions_mapping_is_outdated_but_does_not_stop_the_lane() -> None:
    for name, there in as_before().items():
        faults = index_faults("i", name, {"mappings": there})
        assert [fault for fault in faults if not fault.outdated] == []
        assert bool(faults) == (name != "weekly-visitors")
    of_credits = index_faults("i", "attributions", {"mappings": as_before()["attributions"]})
    assert {str(fault) for fault in of_credits} >= {"index i has credits.linear as object instead of nested"}


def test_a_date_in_a_format_that_takes_no_time_is_a_fault_where_times_are_written() -> None:
    there = mapping()
    fields(there)["occurred_at"]["format"] = "strict_date"
    (fault,) = index_faults("i", "events", {"mappings": there})
    assert not fault.outdated


def test_where_a_position_in_the_log_is_not_indexed_the_pipeline_stops() -> None:
    there = mapping()
    fields(there)["kafka"] = {"type": "object", "enabled": False}
    (fault,) = index_faults("i", "events", {"mappings": there})
    assert not fault.outdated


def test_a_repair_adds_what_is_missing_and_leaves_what_is_outdated() -> None:
    there = as_before()["attributions"]
    linear = fields(fields(there)["credits"])["linear"]
    net = fields(linear).pop("net")
    fields(there)["status"] = {"type": "keyword", "ignore_above": 1}
    del fields(there)["sales_channel"]
    put = fields(repair(mapping("attributions"), there))
    assert put["sales_channel"] == fields(mapping("attributions"))["sales_channel"]
    assert put["status"] == {"type": "keyword"}
    assert fields(put["credits"])["linear"] == {"dynamic": "strict", "properties": {"net": net}}
    assert not put.keys() & {"shop_id", "occurred_at"}


TEMPLATE_CHANGES: list[tuple[Change, str]] = [
    (lambda t: t.pop("ns-weekly-visitors"), "index template ns-weekly-visitors is missing"),
    (lambda t: t["ns-events"].update(index_patterns=["x-*"]), "index template ns-events is for other indices"),
    (
        lambda t: t["ns-events"]["template"]["settings"]["index"].update(translog={"durability": "async"}),
        "has no index.translog.durability: request",
    ),
    (
        lambda t: t["ns-events"]["template"]["settings"]["index"].update(default_pipeline="mine"),
        "has the ingest pipeline mine",
    ),
    (
        lambda t: t.update(other={"index_patterns": ["a", "ns-ev*"], "priority": 500}),
        "index template other overrides ns-events for ns-events-2026.01: delete it",
    ),
]


@pytest.mark.parametrize(("change", "said"), TEMPLATE_CHANGES, ids=[said for _, said in TEMPLATE_CHANGES])
def test_a_template_that_is_missing_changed_or_overruled_is_found(change: Change, said: str) -> None:
    there = put()
    change(there)
    (fault,) = template_faults(there, "ns")
    assert said in str(fault)


def test_a_template_for_one_month_overrules_ours_when_that_month_is_made() -> None:
    there = {**put(), "march": {"index_patterns": ["ns-events-2027.03"], "priority": 500}}
    assert template_faults(there, "ns") == []
    (fault,) = template_faults(there, "ns", ["ns-events-2027.03"])
    assert "index template march overrides ns-events for ns-events-2027.03" in str(fault)


def test_templates_of_less_priority_and_of_other_indices_do_no_harm() -> None:
    there = {
        **put(),
        "all": {"index_patterns": ["*"], "priority": 1},
        "theirs": {"index_patterns": ["o-*"], "priority": 900},
    }
    assert template_faults(there, "ns") == []


def test_replicas_and_shards_are_the_operators() -> None:
    there = put()
    there["ns-events"]["template"]["settings"]["index"].update(number_of_replicas="2", number_of_shards="3")
    assert template_faults(there, "ns") == []


@pytest.mark.parametrize(
    ("index", "name"),
    [
        ("ns-events-2026.01", "events"),
        ("ns-attributions", "attributions"),
        ("ns-product-stats-2026.01", "product-stats"),
        ("ns-weekly-visitors", "weekly-visitors"),
        ("ns-attributions-2", None),
        ("ns-events-attributions", None),
        ("ns-events-eu-events-2026.01", None),
        ("other-events-2026.01", None),
        ("ns-aside-ns-events-2026.01", None),
    ],
)
def test_an_index_is_of_the_template_that_makes_it(index: str, name: str | None) -> None:
    assert template_of(index, "ns") == name


def test_a_closed_index_is_known_by_its_setting() -> None:
    assert is_closed({"settings": {"index": {"verified_before_close": "true"}}})
    assert not is_closed({"settings": {"index": {"uuid": "x"}}})
