"""The type of an Elasticsearch error decides what it is: an outage is never poison, whatever its status."""

from __future__ import annotations

from typing import Any

import pytest

from truepixel_dagster.stores.elasticsearch_errors import (
    CONFLICT_TYPE,
    DENIED,
    NEXT_STEP,
    POISON,
    TRANSIENT,
    Kind,
    failed_shards,
    kind_of,
    words_of,
)

# As the real server sends them, in the items of a reply whose own status is 200.
REAL: list[tuple[Kind, dict[str, Any]]] = [
    (
        Kind.POISON,
        {
            "type": "document_parsing_exception",
            "reason": "[1:17] failed to parse: Duplicate field 'a'\n at [Source: (byte[])]",
            "caused_by": {"type": "json_parse_exception", "reason": "Duplicate field 'a'"},
        },
    ),
    (
        Kind.POISON,
        {"type": "strict_dynamic_mapping_exception", "reason": "[1:7] mapping set to strict, dynamic introduction"},
    ),
    (Kind.CONFLICT, {"type": CONFLICT_TYPE, "reason": "[1]: version conflict, document already exists"}),
    (Kind.OUTAGE, {"type": "index_closed_exception", "reason": "closed"}),
    (
        Kind.OUTAGE,
        {"type": "cluster_block_exception", "reason": "index [i] blocked by: [FORBIDDEN/8/index write (api)];"},
    ),
    (
        Kind.TRANSIENT,
        {
            "type": "cluster_block_exception",
            "reason": "index [i] blocked by: [TOO_MANY_REQUESTS/12/disk usage exceeded flood-stage watermark];",
        },
    ),
    (Kind.TRANSIENT, {"type": "cluster_block_exception", "reason": "blocked by: [SERVICE_UNAVAILABLE/2/no master];"}),
    (Kind.OUTAGE, {"type": "mapper_parsing_exception", "reason": "No handler for type [none] declared on field [a]"}),
    (Kind.OUTAGE, {"type": "validation_exception", "reason": "Validation Failed: 1: this action would add [2] shards"}),
    (
        Kind.OUTAGE,
        {
            "type": "index_not_found_exception",
            "reason": "no such index [i] and [action.auto_create_index] is [false]",
        },
    ),
    (Kind.OUTAGE, {"type": "illegal_argument_exception", "reason": "pipeline with id [none] does not exist"}),
    (Kind.OUTAGE, {"type": "i_o_exception", "reason": "No space left on device"}),
    (Kind.TRANSIENT, {"type": "es_rejected_execution_exception", "reason": "rejected execution of primary operation"}),
    (Kind.TRANSIENT, {"type": "circuit_breaking_exception", "reason": "[parent] Data too large"}),
    (Kind.TRANSIENT, {"type": "unavailable_shards_exception", "reason": "[i][0] primary shard is not active"}),
    (Kind.TRANSIENT, {"type": "no_shard_available_action_exception", "reason": None}),
    (Kind.DENIED, {"type": "security_exception", "reason": "action [indices:data/write/bulk[s]] is unauthorized"}),
]


@pytest.mark.parametrize(("kind", "error"), REAL, ids=lambda each: each["type"] if isinstance(each, dict) else "")
def test_an_item_is_classified_by_its_type(kind: Kind, error: dict[str, Any]) -> None:
    assert kind_of(error) is kind
    assert error["type"] in words_of(error)
    assert "\n" not in words_of(error)


def test_an_unknown_error_type_stops_the_lane() -> None:
    assert kind_of({"type": "of_another_version_exception", "reason": "?"}) is Kind.OUTAGE
    assert kind_of({"reason": "nothing but this"}) is Kind.OUTAGE


def test_a_document_that_could_not_be_parsed_for_lack_of_memory_is_not_rejected() -> None:
    cause = {"type": "circuit_breaking_exception", "reason": "[parent] Data too large"}
    assert kind_of({"type": "document_parsing_exception", "reason": "failed to parse", "caused_by": cause}) is (
        Kind.TRANSIENT
    )


def test_the_content_of_a_document_does_not_decide() -> None:
    """A reason quotes the value that could not be parsed."""
    reason = "failed to parse field [a]. Preview of field's value: 'TOO_MANY_REQUESTS security_exception'"
    assert kind_of({"type": "document_parsing_exception", "reason": reason}) is Kind.POISON


def test_the_error_of_a_search_is_that_of_its_shards() -> None:
    shard = {"index": "i", "shard": 0, "reason": {"type": "circuit_breaking_exception", "reason": "too large"}}
    error = {"type": "search_phase_execution_exception", "reason": "all shards failed", "failed_shards": [shard]}
    assert kind_of(error) is Kind.TRANSIENT
    assert words_of(error).endswith("circuit_breaking_exception: too large")


def test_no_type_is_of_two_kinds() -> None:
    kinds = [POISON, TRANSIENT, DENIED, frozenset({CONFLICT_TYPE})]
    assert sum(map(len, kinds)) == len(frozenset().union(*kinds))
    assert not (POISON & NEXT_STEP.keys())


def test_an_error_that_needs_an_operator_names_the_next_step() -> None:
    assert words_of({"type": "index_closed_exception", "reason": "closed"}).endswith(
        "(open the index (POST INDEX/_open))"
    )


@pytest.mark.parametrize(
    ("reply", "whole"),
    [
        ({"_shards": {"total": 2, "successful": 2, "failed": 0}}, True),
        ({"_shards": {"total": 8, "successful": 3, "failed": 0}}, True),  # replicas that are not there
        ({"timed_out": False, "_shards": {"total": 2, "successful": 2, "failed": 0}}, True),
        ({"timed_out": True, "_shards": {"total": 2, "successful": 2, "failed": 0}}, False),
        ({"_shards": {"total": 2, "successful": 1, "failed": 1}}, False),
        ({"_shards": {"failed": 1, "failures": [{"reason": {"type": "x", "reason": "y"}}]}}, False),
    ],
)
def test_a_reply_that_lacks_a_shard_is_not_whole(reply: dict[str, Any], whole: bool) -> None:
    assert (failed_shards(reply) is None) is whole
