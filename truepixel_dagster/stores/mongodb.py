"""Adapt MongoDB: read documents by id, and replace them only if no other writer has changed them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from bson import encode
from bson.errors import InvalidDocument
from pymongo import DeleteOne, MongoClient, ReplaceOne, WriteConcern
from pymongo.errors import (
    BulkWriteError,
    ConnectionFailure,
    ExecutionTimeout,
    NetworkTimeout,
    OperationFailure,
    PyMongoError,
    WTimeoutError,
)

from truepixel_dagster.access import MongoAccess
from truepixel_dagster.retrying import pause
from truepixel_dagster.stores.errors import (
    AccessDenied,
    Rejected,
    Unavailable,
    untrusted,
)
from truepixel_dagster.stores.store import Store, given
from truepixel_dagster.text import with_advice

T = TypeVar("T")
Document = dict[str, Any]

AD_LEADS = "ad_leads"
CUSTOMERS = "customers"
ORDERS = "orders"
REDACTIONS = "redactions"
PRIVACY_REQUESTS = "privacy_requests"
IDENTITIES = "identities"
SHOPS = "shops"
CONNECTIONS = "connections"

_DUPLICATE_KEY = 11000
# What is wrong with this one document: its size, its field names, a value that the collection's rule does not allow.
_TOO_LARGE = 10334
_POISON_CODES = frozenset({2, 9, 14, 22, 52, 55, 56, 57, 66, 121, _TOO_LARGE, 17280, 17419, 17420})
_INDEX_NAME = re.compile(r"index: (\S+) dup key")
# An id belongs to one order, so that two workers that meet a new one at once agree.
_IDS = "ids_1"
_NEXT_STEP = {
    85: "an index with this name has other keys: remove it, then run `truepixel setup`",
    86: "an index with this name has other keys: remove it, then run `truepixel setup`",
    14031: "free disk space on MongoDB's machine",
}
# MongoDB's own bound of a document.
MAX_BSON_SIZE = 16 * 1024 * 1024
# What a server answers while it fails over, shuts down, is cut off from its replicas or is overloaded.
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
_REREADS = 20
_UNAUTHORIZED, _AUTHENTICATION_FAILED = 13, 18


class MongoStore(Store):
    """Adapt MongoDB. The first call connects."""

    def __init__(self, access: MongoAccess) -> None:
        milliseconds = int(access.timeout * 1000)
        super().__init__(access.retries, transient=_is_transient, denial=denial, words=_words)
        self.client: MongoClient[Document] = MongoClient(
            access.url.get_secret_value(),
            connect=False,
            timeoutMS=milliseconds,
            serverSelectionTimeoutMS=min(milliseconds, 5000),
            appname="truepixel",
            maxPoolSize=16,
            **given(
                username=access.username,
                password=access.password,
                tlsCAFile=access.ca_certs,
            ),
        )
        # Journaled: an acknowledged write survives kill -9 of the server.
        self._database = self.client.get_database(access.database, write_concern=WriteConcern(w="majority", j=True))

    def ping(self, timeout: float = 2.0) -> None:
        """Ask for an answer once.

        Raises:
            AccessDenied: MongoDB denies access.
            Unavailable: No answer.
        """
        import pymongo

        try:
            with pymongo.timeout(timeout):
                # MongoDB also answers a ping without a password.
                self._database.command("listCollections", nameOnly=True, authorizedCollections=True)
        except PyMongoError as error:
            raise self._no_answer(error, "TRUEPIXEL_MONGODB_URL") from error

    def collection(self, name: str) -> Any:
        """Return the collection itself, for reports and audits."""
        return self._database[name]

    def read(self, name: str, ids: Iterable[str]) -> dict[str, Document]:
        """Return documents by id, without those that do not exist."""
        wanted = list(ids)
        if not wanted:
            return {}
        found = self._call(lambda: list(self._database[name].find({"_id": {"$in": wanted}})))
        return {doc["_id"]: doc for doc in found}

    def update(
        self,
        name: str,
        ids: Sequence[str],
        decide: Callable[[Mapping[str, Document]], Mapping[str, Document]],
        stored: Mapping[str, Document] | None = None,
    ) -> dict[str, Rejected]:
        """Read documents, decide their new content, and replace those that no other writer has changed.

        A document carries its version `v`; one that was changed in between is read and decided again, so `decide`
        must come to nothing for what was already applied.

        Arguments:
            name: The collection.
            ids: The documents to read.
            decide: From the documents found (by id) to those to write (by id).
            stored: The documents as they were read before; None has them read now.

        Returns:
            The documents that MongoDB refused, by id.

        Raises:
            Unavailable: No answer after all tries, or too many conflicts.
        """
        for attempt in range(_REREADS):
            if attempt > 1:
                pause(attempt)
            if stored is None or attempt:
                stored = self.read(name, ids)
            changed = decide(stored)
            complete, rejected = self.replace(name, changed, stored)
            if complete:
                return rejected
        raise Unavailable(f"{self._server}: {name} kept changing under {_REREADS} tries")

    def find_by(self, name: str, field: str, values: Iterable[str]) -> dict[str, Document]:
        """Return by id the documents that have one of the given values in an indexed field.

        Raises:
            Unavailable: No answer after all tries.
        """
        wanted = list(values)
        if not wanted:
            return {}
        found = self._call(lambda: list(self._database[name].find({field: {"$in": wanted}})))
        return {doc["_id"]: doc for doc in found}

    def replace(
        self, name: str, changed: Mapping[str, Document], stored: Mapping[str, Document]
    ) -> tuple[bool, dict[str, Rejected]]:
        """Replace documents that no other writer has changed since they were read; create those that did not exist.

        Arguments:
            name: The collection.
            changed: The documents to write, by id.
            stored: The documents as they were read, by id.

        Returns:
            Whether all were written or refused, and the refused ones. If not, somebody else has changed one: read
            again.

        Raises:
            Unavailable: No answer after all tries.
        """
        if not changed:
            return True, {}
        operations = [_replace(id_, document, stored.get(id_)) for id_, document in changed.items()]
        written, rejected = self._write_what_fits(name, operations, changed)
        return written + len(rejected) == len(operations), rejected

    def sums(self, name: str, pipeline: Sequence[Mapping[str, Any]]) -> list[Document]:
        """Return the result of an aggregation.

        Raises:
            Unavailable: No answer after all tries.
        """
        return self._call(lambda: list(self._database[name].aggregate(list(pipeline))))

    def remove(self, name: str, versions: Mapping[str, Any]) -> int:
        """Remove documents that still have the given versions; return their number.

        Raises:
            Unavailable: No answer after all tries.
        """
        if not versions:
            return 0
        operations = [DeleteOne({"_id": id_, "v": version}) for id_, version in versions.items()]

        def attempt() -> int:
            details = self._bulk(name, operations)
            _sorted(details, list(versions))
            return int(details["nRemoved"])

        return self._call(attempt)

    def distinct(self, name: str, field: str) -> list[Any]:
        """Return the values of an indexed field.

        Raises:
            Unavailable: No answer after all tries.
        """
        return self._call(lambda: list(self._database[name].distinct(field)))

    def find(self, name: str, query: Mapping[str, Any]) -> Iterator[Document]:
        """Yield the documents that a query finds, in the order of their ids.

        Raises:
            Unavailable: No answer.
        """
        try:
            yield from self._database[name].find(query).sort("_id", 1)
        except PyMongoError as error:
            if said := self.plain(error):
                raise said from error
            raise

    def delete(self, name: str, query: Mapping[str, Any]) -> int:
        """Delete the documents that a query finds; return their number.

        Raises:
            Unavailable: No answer after all tries.
        """
        return int(self._call(lambda: self._database[name].delete_many(query)).deleted_count)

    def ids(self, name: str, query: Mapping[str, Any]) -> Iterator[str]:
        """Yield the ids of the documents that a query finds, in no order.

        Raises:
            Unavailable: No answer.
        """
        try:
            yield from (document["_id"] for document in self._database[name].find(query, {"_id": 1}))
        except PyMongoError as error:
            if said := self.plain(error):
                raise said from error
            raise

    def write(self, name: str, operations: Sequence[Any]) -> None:
        """Make commutative updates in one request. An upsert whose filter passes by a document that is there changes
        nothing.

        Raises:
            ServerRefuses: MongoDB refused one of them; the others are made.
            Unavailable: No answer after all tries.
        """
        if not operations:
            return

        def attempt() -> None:
            left = list(operations)
            # Two workers upsert the same new document at once: at the second try it exists.
            for _ in range(2):
                details = self._bulk(name, left)
                met, rejected = _sorted(details, list(map(str, range(len(left)))))
                if rejected:
                    raise _Refused(f"an update of {name} was refused: {next(iter(rejected.values())).reason}")
                if not met:
                    return
                left = [left[error["index"]] for error in details["writeErrors"]]

        self._call(attempt)

    def _write_what_fits(
        self, name: str, operations: Sequence[Any], documents: Mapping[str, Document]
    ) -> tuple[int, dict[str, Rejected]]:
        """Write as `_write`, but reject a document that BSON or MongoDB cannot hold individually."""
        ids = list(documents)
        try:
            return self._write(name, operations, ids)
        except (OverflowError, InvalidDocument):
            reasons = {id_: reason for id_, document in documents.items() if (reason := _unfit(document))}
            if not reasons:
                raise
        left = [(operation, id_) for operation, id_ in zip(operations, ids) if id_ not in reasons]
        written, rejected = self._write(name, *zip(*left)) if left else (0, {})
        return written, rejected | {id_: Rejected(id_, reason) for id_, reason in reasons.items()}

    def _write(self, name: str, operations: Sequence[Any], ids: Sequence[str]) -> tuple[int, dict[str, Rejected]]:
        """Write; return the number of written documents, and the rejected ones."""

        def attempt() -> tuple[int, dict[str, Rejected]]:
            details = self._bulk(name, operations)
            # An upsert that finds a document is no rejection: another writer was first.
            return details["nMatched"] + details["nUpserted"], _sorted(details, ids)[1]

        return self._call(attempt)

    def _bulk(self, name: str, operations: Sequence[Any]) -> Mapping[str, Any]:
        """Return MongoDB's result of each operation."""
        try:
            return self._database[name].bulk_write(list(operations), ordered=False).bulk_api_result
        except BulkWriteError as error:
            details: Mapping[str, Any] = error.details or {}
            return details
        except OperationFailure as error:
            if error.code != _TOO_LARGE:
                raise
            # It rejects the whole request if it cannot even read the document.
            raise InvalidDocument(str(error)) from error

    def identity(self) -> str | None:
        """Return the prefix of its sockets' names, which its command line sets; None without permission to read it.

        Raises:
            Unavailable: No answer after all tries.
        """
        try:
            found = self._call(lambda: self.client.admin.command("getCmdLineOpts"))
        except OperationFailure:
            return None
        prefix: str | None = found.get("parsed", {}).get("net", {}).get("unixDomainSocket", {}).get("pathPrefix")
        return prefix

    def journal(self) -> bool | None:
        """Return whether the server journals its writes; None without permission to read it.

        Raises:
            Unavailable: No answer after all tries.
        """
        try:
            found = self._call(lambda: self.client.admin.command("getCmdLineOpts"))
        except (OperationFailure, AccessDenied):
            return None
        return bool(found.get("parsed", {}).get("storage", {}).get("journal", {}).get("enabled", True))

    def setup(self) -> list[str]:
        """Create the collections' indexes; return what it changed."""
        changed = []
        wanted = {
            CUSTOMERS: [("shop_id", 1), ("last_seen", -1)],
            AD_LEADS: [("shop_id", 1)],
            REDACTIONS: [("shop", 1)],
        }
        for name, keys in wanted.items():
            changed += self._make_index(name, keys)
        changed += self._make_index(ORDERS, [("ids", 1)], unique=True)
        for field in ("users", "entries.user", "days"):
            changed += self._make_index(ORDERS, [(field, 1)])
        for field in ("domain", "pixel_token", "older_tokens.token"):
            changed += self._make_index(CONNECTIONS, [(field, 1)])
        return changed

    def _make_index(self, name: str, keys: Sequence[tuple[str, int]], *, unique: bool = False) -> list[str]:
        before = set(self._database[name].index_information())
        index = self._database[name].create_index(list(keys), unique=unique)
        return [] if index in before else [f"{name}.{index}"]

    def count(self, name: str) -> int:
        """Return the number of documents in a collection."""
        return int(self._database[name].count_documents({}))

    def close(self) -> None:
        """Close the connections."""
        self.client.close()

    @property
    def _server(self) -> str:
        # The URL may hold a password: name the hosts only.
        nodes = self.client.nodes or frozenset()
        seeds = getattr(self.client, "_topology_settings", None)
        hosts = nodes or (seeds.seeds if seeds else ())
        return "MongoDB at " + ",".join(f"{host}:{port}" for host, port in sorted(hosts))


class _Refused(Exception):
    """MongoDB rejected a write for a reason that concerns more than its document, or that may pass."""

    def __init__(self, words: str, *, transient: bool = False) -> None:
        super().__init__(words)
        self.transient = transient


def _sorted(details: Mapping[str, Any], ids: Sequence[str]) -> tuple[int, dict[str, Rejected]]:
    """Return how many operations of a bulk found a document of the same id, and the rejected documents by id.

    Raises:
        _Refused: One met anything else: a unique index by hand, a full disk, a server that steps down.
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
            raise _Refused(_words_of(error))
    if again:
        # A write that no majority has acknowledged may be rolled back.
        raise _Refused(_words_of(again[0]), transient=True)
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


def _words(error: Exception) -> str | None:
    """Return MongoDB's words for an error in one line; None for an error of the connection."""
    if isinstance(error, _Refused):
        return str(error)
    if isinstance(error, BulkWriteError):
        details: Any = error.details
        return _words_of([*details.get("writeErrors", ()), *details.get("writeConcernErrors", ()), {}][0])
    if isinstance(error, OperationFailure):
        return _words_of({"errmsg": str(error), **(error.details or {}), "code": error.code})
    return None


def _unfit(document: Document) -> str | None:
    """Return why MongoDB cannot hold a document; None if it can."""
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
    words = str((error.details or {}).get("errmsg") or error)[:300]
    if error.code == _AUTHENTICATION_FAILED:
        step = "Check TRUEPIXEL_MONGODB_USERNAME and _PASSWORD, or those in TRUEPIXEL_MONGODB_URL"
        return with_advice("authentication failed", words, step)
    if error.code == _UNAUTHORIZED and "requires authentication" in words:
        return with_advice("it requires credentials", words, "Set TRUEPIXEL_MONGODB_USERNAME and _PASSWORD")
    if error.code == _UNAUTHORIZED:
        step = "Check the roles of TRUEPIXEL_MONGODB_USERNAME: it needs readWrite of the database <namespace>"
        return with_advice("permission denied", words, step)
    return None


def _replace(id_: str, document: Document, before: Mapping[str, Any] | None) -> ReplaceOne[Document]:
    # None also finds a document without a version: an import, or one that somebody has written by hand.
    version = before.get("v") if before else 0
    new = {**document, "_id": id_, "v": version + 1 if isinstance(version, int) else 1}
    return ReplaceOne({"_id": id_, "v": version}, new, upsert=before is None)


def _is_transient(error: Exception) -> bool:
    if isinstance(error, _Refused):
        return error.transient
    if isinstance(error, (ConnectionFailure, NetworkTimeout, ExecutionTimeout, WTimeoutError)):
        return True
    return isinstance(error, PyMongoError) and getattr(error, "code", None) in _TRANSIENT_CODES
