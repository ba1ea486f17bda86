"""MongoDB's result of each operation of a bulk: a concurrent change, poison, or an outage."""

from __future__ import annotations

from typing import Any

import pytest
from pymongo.errors import BulkWriteError, OperationFailure

from truepixel_dagster.stores.errors import Rejected, ServerRefuses, Unavailable, plain
from truepixel_dagster.stores.mongodb.errors import WriteRefused, denial, is_transient, met_and_rejected, words

IDS = ["s:a", "s:b"]
MET = {
    "index": 0,
    "code": 11000,
    "errmsg": 'E11000 duplicate key error collection: t.customers index: _id_ dup key: { _id: "s:a" }',
}
BY_HAND = {
    "index": 1,
    "code": 11000,
    "errmsg": 'E11000 duplicate key error collection: t.customers index: hash_1 dup key: { email_hash: "secret" }',
}
POISON = {"index": 1, "code": 121, "errmsg": "Document failed validation"}
FULL = {"index": 0, "code": 14031, "codeName": "OutOfDiskSpace", "errmsg": "available disk space is less than required"}
STEPPING_DOWN = {"index": 0, "code": 11602, "codeName": "InterruptedDueToReplStateChange", "errmsg": "interrupted"}


def details(*errors: dict[str, Any], concerns: tuple[dict[str, Any], ...] = ()) -> dict[str, Any]:
    return {"writeErrors": list(errors), "writeConcernErrors": list(concerns), "nMatched": 0, "nUpserted": 0}


def test_each_operation_conflicts_or_is_rejected_on_its_own() -> None:
    assert met_and_rejected(details(), IDS) == (0, {})
    assert met_and_rejected(details(MET, POISON), IDS) == (1, {"s:b": Rejected("s:b", "Document failed validation")})


def test_a_unique_index_by_hand_is_named_without_the_values_of_documents() -> None:
    with pytest.raises(WriteRefused) as refused:
        met_and_rejected(details(MET, BY_HAND), IDS)
    said = str(refused.value)
    assert said.startswith("the unique index hash_1 of t.customers, which TruePixel did not create, rejects documents")
    assert 'db.customers.dropIndex("hash_1")' in said
    assert "secret" not in said
    assert not refused.value.transient


@pytest.mark.parametrize("error", [FULL, {"index": 0, "code": 99_999, "errmsg": "of another version"}])
def test_an_error_not_about_the_document_is_no_rejection(error: dict[str, Any]) -> None:
    with pytest.raises(WriteRefused, match=str(error["code"])) as refused:
        met_and_rejected(details(POISON, error), IDS)
    assert not refused.value.transient


def test_transient_errors_are_retried() -> None:
    for found in (details(MET, STEPPING_DOWN), details(MET, concerns=({"code": 64, "errmsg": "waiting timed out"},))):
        with pytest.raises(WriteRefused) as refused:
            met_and_rejected(found, IDS)
        assert is_transient(refused.value)


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (BulkWriteError(details(FULL)), ServerRefuses, "OutOfDiskSpace (14031): available disk space"),
        (OperationFailure("not primary", 10107), Unavailable, "not primary"),
        (OperationFailure("bad value", 2, {"codeName": "BadValue", "errmsg": "x"}), ServerRefuses, "BadValue (2): x"),
    ],
)
def test_an_error_is_one_line_with_the_servers_words(error: Exception, kind: type[Exception], said: str) -> None:
    line = plain("M", error, transient=is_transient, denial=denial, words=words)
    assert type(line) is kind
    assert str(line).startswith("M: ")
    assert said in str(line)
