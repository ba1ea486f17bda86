"""The MongoDB adapter: documents read by id and replaced only if nobody else replaced them meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

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

from truepixel_dagster.settings import Settings
from truepixel_dagster.stores.errors import (
    AccessDenied,
    Rejected,
    Unavailable,
    untrusted,
)
from truepixel_dagster.stores.store import Store, given

T = TypeVar("T")
Document = dict[str, Any]

AD_LEADS = "ad_leads"
CUSTOMERS = "customers"
ORDER_STATUS = "order_status"
REDACTIONS = "redactions"
PRIVACY_REQUESTS = "privacy_requests"
IDENTITIES = "identities"

_DUPLICATE_KEY = 11000
# NotPrimary, shutdown and network codes that a server may answer with while it fails over.
_TRANSIENT_CODES = frozenset({6, 7, 89, 91, 189, 262, 9001, 10107, 11600, 11602, 13435, 13436, 50})
_REREADS = 20
_UNAUTHORIZED, _AUTHENTICATION_FAILED = 13, 18


class MongoStore(Store):
    """MongoDB at the settings' address. Nothing is connected before the first call."""

    def __init__(self, settings: Settings) -> None:
        milliseconds = int(settings.mongodb_timeout * 1000)
        super().__init__(settings.retries, transient=_is_transient, denial=denial)
        self.client: MongoClient[Document] = MongoClient(
            settings.mongodb_url.get_secret_value(),
            connect=False,
            timeoutMS=milliseconds,
            serverSelectionTimeoutMS=min(milliseconds, 5000),
            appname="truepixel",
            maxPoolSize=16,
            **given(
                username=settings.mongodb_username,
                password=settings.mongodb_password,
                tlsCAFile=settings.mongodb_ca_certs,
            ),
        )
        # Journaled: an acknowledged write survives kill -9 of the server.
        self._database = self.client.get_database(settings.database, write_concern=WriteConcern(w="majority", j=True))

    def ping(self, timeout: float = 2.0) -> None:
        """Ask for an answer once.

        Raises:
            AccessDenied: It does not let us in.
            Unavailable: No answer.
        """
        import pymongo

        try:
            with pymongo.timeout(timeout):
                # A ping is answered without a password, too.
                self._database.command("listCollections", nameOnly=True, authorizedCollections=True)
        except PyMongoError as error:
            raise self._no_answer(error, "TRUEPIXEL_MONGODB_URL") from error

    def collection(self, name: str) -> Any:
        """The collection itself, for reports and audits."""
        return self._database[name]

    def read(self, name: str, ids: Iterable[str]) -> dict[str, Document]:
        """Documents by id; what is not there is left out."""
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
        """Read documents, decide what becomes of them, and replace those that nobody else changed meanwhile.

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
            if stored is None or attempt:
                stored = self.read(name, ids)
            changed = decide(stored)
            if not changed:
                return {}
            operations = [_replace(id_, document, stored.get(id_, {}).get("v", 0)) for id_, document in changed.items()]
            written, rejected = self._write(name, operations, list(changed))
            if written + len(rejected) == len(operations):
                return rejected
        raise Unavailable(f"{self._server}: {name} kept changing under {_REREADS} tries")

    def remove(self, name: str, versions: Mapping[str, int]) -> int:
        """Remove documents that are still of the versions given; says how many were.

        Raises:
            Unavailable: No answer after all tries.
        """
        if not versions:
            return 0
        operations = [DeleteOne({"_id": id_, "v": version}) for id_, version in versions.items()]
        return int(self._call(lambda: self._database[name].bulk_write(operations, ordered=False)).deleted_count)

    def distinct(self, name: str, field: str) -> list[Any]:
        """The values of an indexed field.

        Raises:
            Unavailable: No answer after all tries.
        """
        return self._call(lambda: list(self._database[name].distinct(field)))

    def find(self, name: str, query: Mapping[str, Any]) -> Iterator[Document]:
        """The documents that a query finds, in the order of their ids.

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
        """Delete the documents that a query finds; says how many.

        Raises:
            Unavailable: No answer after all tries.
        """
        return int(self._call(lambda: self._database[name].delete_many(query)).deleted_count)

    def ids(self, name: str, query: Mapping[str, Any]) -> Iterator[str]:
        """The ids of the documents that a query finds, in no order.

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
        """Make commutative updates in one request.

        Raises:
            Unavailable: No answer after all tries.
        """
        if operations:
            self._call(lambda: self._database[name].bulk_write(list(operations), ordered=False))

    def _write(self, name: str, operations: Sequence[Any], ids: Sequence[str]) -> tuple[int, dict[str, Rejected]]:
        """Write; the count of documents written, and the refused ones."""

        def attempt() -> tuple[int, dict[str, Rejected]]:
            try:
                result = self._database[name].bulk_write(list(operations), ordered=False)
                return result.matched_count + result.upserted_count, {}
            except BulkWriteError as error:
                details: Any = error.details
                errors = details["writeErrors"]
                # An upsert that meets a document is no refusal: somebody else was first.
                refused = {ids[e["index"]]: e["errmsg"] for e in errors if e["code"] != _DUPLICATE_KEY}
                if details.get("writeConcernErrors") and not errors:
                    raise
                written = details["nMatched"] + details["nUpserted"]
                return written, {id_: Rejected(id_, str(reason)[:500]) for id_, reason in refused.items()}

        return self._call(attempt)

    def journal(self) -> bool | None:
        """Whether the server journals its writes; None where it may not tell.

        Raises:
            Unavailable: No answer after all tries.
        """
        try:
            found = self._call(lambda: self.client.admin.command("getCmdLineOpts"))
        except (OperationFailure, AccessDenied):
            return None
        return bool(found.get("parsed", {}).get("storage", {}).get("journal", {}).get("enabled", True))

    def setup(self) -> list[str]:
        """Make the collections' indexes; says what it changed."""
        changed = []
        wanted = {
            CUSTOMERS: [("shop_id", 1), ("last_seen", -1)],
            AD_LEADS: [("shop_id", 1)],
            REDACTIONS: [("shop", 1)],
        }
        for name, keys in wanted.items():
            before = set(self._database[name].index_information())
            index = self._database[name].create_index(keys)
            if index not in before:
                changed.append(f"{name}.{index}")
        return changed

    def count(self, name: str) -> int:
        """Documents in a collection."""
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


def denial(error: Exception) -> str | None:
    """Why MongoDB does not let us in, and the setting to look at; None for any other error."""
    if isinstance(error, ConnectionFailure) and (reason := untrusted(error)):
        return f"{reason} (TRUEPIXEL_MONGODB_CA_CERTS, or another server than meant: TRUEPIXEL_MONGODB_URL)"
    if not isinstance(error, OperationFailure):
        return None
    words = str((error.details or {}).get("errmsg") or error)[:300]
    if error.code == _AUTHENTICATION_FAILED:
        settings = "TRUEPIXEL_MONGODB_USERNAME and _PASSWORD, or those in TRUEPIXEL_MONGODB_URL"
        return f"it refuses our credentials: {words} ({settings})"
    if error.code == _UNAUTHORIZED and "requires authentication" in words:
        return f"it asks for credentials: {words} (TRUEPIXEL_MONGODB_USERNAME and _PASSWORD)"
    if error.code == _UNAUTHORIZED:
        return f"our user may not do this: {words} (the roles of TRUEPIXEL_MONGODB_USERNAME)"
    return None


def _replace(id_: str, document: Document, version: int) -> ReplaceOne[Document]:
    new = {**document, "_id": id_, "v": version + 1}
    return ReplaceOne({"_id": id_, "v": version}, new, upsert=version == 0)


def _is_transient(error: Exception) -> bool:
    if isinstance(error, BulkWriteError):
        details: Any = error.details
        # Two workers that upsert the same new document at once: one of them is told that it is there already.
        return all(entry["code"] == _DUPLICATE_KEY for entry in details.get("writeErrors", []))
    if isinstance(error, (ConnectionFailure, NetworkTimeout, ExecutionTimeout, WTimeoutError)):
        return True
    return isinstance(error, PyMongoError) and getattr(error, "code", None) in _TRANSIENT_CODES
