"""Classify MongoDB's errors by their codes, and explain them in one line."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from bson import encode
from bson.errors import InvalidDocument
from pymongo.errors import (
    BulkWriteError,
    ConnectionFailure,
    ExecutionTimeout,
    NetworkTimeout,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WTimeoutError,
)

from truepixel_dagster.stores.errors import Rejected, untrusted
from truepixel_dagster.text import with_advice

_DUPLICATE_KEY = 11000
# Errors of one document: a value that the collection's rule does not allow, or its size.
TOO_LARGE = 10334
_POISON_CODES = frozenset({121, TOO_LARGE, 17419, 17420})
_OF_THE_CLIENT = re.compile(r" \(configured timeouts: [^)]*\)|, Timeout: .*", re.DOTALL)
_INDEX_NAME = re.compile(r"index: (\S+) dup key")
# The unique index of orders' ids: an id belongs to one order, also with concurrent writers.
_IDS = "ids_1"
_NEXT_STEP = {
    85: "an index with this name has other keys: remove it, then run `truepixel setup`",
    86: "an index with this name has other keys: remove it, then run `truepixel setup`",
    14031: "free disk space on MongoDB's machine",
}
# MongoDB's own bound of a document.
MAX_BSON_SIZE = 16 * 1024 * 1024
# Errors of a server that fails over, shuts down, has lost its replicas or is overloaded.
_TRANSIENT_CODES = frozenset(
    {
        6,  # HostUnreachable
        7,  # HostNotFound
        24,  # LockTimeout
        43,  # CursorNotFound
        46,  # LockBusy
        50,  # MaxTimeMSExpired
        64,  # WriteConcernTimeout
        89,  # NetworkTimeout
        91,  # ShutdownInProgress
        100,  # UnsatisfiableWriteConcern
        112,  # WriteConflict
        133,  # FailedToSatisfyReadPreference
        134,  # ReadConcernMajorityNotAvailableYet
        175,  # QueryPlanKilled
        189,  # PrimarySteppedDown
        202,  # NetworkInterfaceExceededTimeLimit
        237,  # CursorKilled
        262,  # ExceededTimeLimit
        365,  # TemporarilyUnavailable
        9001,  # SocketException
        10058,  # LegacyNotPrimary
        10107,  # NotWritablePrimary
        11600,  # InterruptedAtShutdown
        11601,  # Interrupted
        11602,  # InterruptedDueToReplStateChange
        13435,  # NotPrimaryNoSecondaryOk
        13436,  # NotPrimaryOrSecondary
    }
)
_UNAUTHORIZED, _AUTHENTICATION_FAILED = 13, 18


class WriteRefused(Exception):
    """MongoDB rejected a write for a reason that concerns more than its document, or that may pass."""

    def __init__(self, reason: str, *, transient: bool = False) -> None:
        super().__init__(reason)
        self.transient = transient


def met_and_rejected(details: Mapping[str, Any], ids: Sequence[str]) -> tuple[int, dict[str, Rejected]]:
    """Return how many operations of a bulk found a document of the same id, and the rejected documents by id.

    Raises:
        WriteRefused: One has another error: a unique index added by hand, a full disk, a server that steps down.
    """
    met = 0
    rejected: dict[str, Rejected] = {}
    again: list[Mapping[str, Any]] = list(details.get("writeConcernErrors", ()))
    for error in details.get("writeErrors", ()):
        if error["code"] in _TRANSIENT_CODES:
            again.append(error)
        elif _meets_its_id(error):
            met += 1
        elif error["code"] in _POISON_CODES:
            id_ = ids[error["index"]]
            rejected[id_] = Rejected(id_, str(error["errmsg"])[:500])
        else:
            raise WriteRefused(_words_of(error))
    if again:
        # A write that no majority has acknowledged may be rolled back.
        raise WriteRefused(_words_of(again[0]), transient=True)
    return met, rejected


def _meets_its_id(error: Mapping[str, Any]) -> bool:
    """Return whether the document exists. A duplicate of another key is of an index that TruePixel did not create."""
    found = _INDEX_NAME.search(str(error.get("errmsg")))
    return error["code"] == _DUPLICATE_KEY and found is not None and found[1] in ("_id_", _IDS)


def _words_of(error: Mapping[str, Any]) -> str:
    """Return MongoDB's words for an error, without values of documents, and the next step."""
    text, code = " ".join(str(error.get("errmsg")).split()), error.get("code")
    if code == _DUPLICATE_KEY and (found := _INDEX_NAME.search(text)):
        where = text.partition("collection: ")[2].split(" ", 1)[0]
        collection = where.partition(".")[2]
        return (
            f"the unique index {found[1]} of {where}, which TruePixel did not create, rejects documents. Remove it with"
            f' db.{collection}.dropIndex("{found[1]}")'
        )
    name = error.get("codeName") or "error"
    step = _NEXT_STEP.get(code or 0)
    return f"{name} ({code}): {text[:300]}" + (f" ({step})" if step else "")


def words(error: Exception) -> str | None:
    """Return MongoDB's words for an error in one line; None if the error's own text serves."""
    if isinstance(error, WriteRefused):
        return str(error)
    if isinstance(error, BulkWriteError):
        details: Any = error.details
        return _words_of([*details.get("writeErrors", ()), *details.get("writeConcernErrors", ()), {}][0])
    if isinstance(error, OperationFailure):
        return _words_of({"errmsg": str(error), **(error.details or {}), "code": error.code})
    if isinstance(error, ServerSelectionTimeoutError):
        # What follows describes the client: its timeouts, and its view of the servers.
        return f"no server answers ({_OF_THE_CLIENT.sub('', str(error))})"
    return None


def unfit(document: Mapping[str, Any]) -> str | None:
    """Return why MongoDB cannot store a document; None if it can."""
    try:
        size = len(encode(document))
    except (OverflowError, InvalidDocument) as error:
        return str(error)[:500]
    return None if size <= MAX_BSON_SIZE else f"a document of {size} bytes is larger than {MAX_BSON_SIZE}"


def denial(error: Exception) -> str | None:
    """Return why MongoDB denies access, and the setting to check; None for any other error."""
    if isinstance(error, ConnectionFailure) and (reason := untrusted(error)):
        return f"{reason}. Check TRUEPIXEL_MONGODB_CA_CERTS, and that TRUEPIXEL_MONGODB_URL names the right server"
    if not isinstance(error, OperationFailure):
        return None
    reason = str((error.details or {}).get("errmsg") or error)[:300]
    if error.code == _AUTHENTICATION_FAILED:
        step = "Check TRUEPIXEL_MONGODB_USERNAME and _PASSWORD, or those in TRUEPIXEL_MONGODB_URL"
        return with_advice("authentication failed", reason, step)
    if error.code == _UNAUTHORIZED and "requires authentication" in reason:
        return with_advice("it requires credentials", reason, "Set TRUEPIXEL_MONGODB_USERNAME and _PASSWORD")
    if error.code == _UNAUTHORIZED:
        step = "Check the roles of TRUEPIXEL_MONGODB_USERNAME: it needs readWrite of the database <namespace>"
        return with_advice("permission denied", reason, step)
    return None


def is_transient(error: Exception) -> bool:
    """Return whether a later try may succeed."""
    if isinstance(error, WriteRefused):
        return error.transient
    if isinstance(error, (ConnectionFailure, NetworkTimeout, ExecutionTimeout, WTimeoutError)):
        return True
    return isinstance(error, PyMongoError) and getattr(error, "code", None) in _TRANSIENT_CODES
