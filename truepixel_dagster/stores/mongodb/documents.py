"""Read documents by id, and replace them only if no other writer has changed them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from bson.errors import InvalidDocument
from pymongo import DeleteOne, ReplaceOne
from pymongo.errors import BulkWriteError, OperationFailure

from truepixel_dagster.retrying import pause
from truepixel_dagster.stores.errors import Rejected, Unavailable
from truepixel_dagster.stores.mongodb.connection import Connection, Document
from truepixel_dagster.stores.mongodb.errors import TOO_LARGE, WriteRefused, met_and_rejected, unfit

_REREADS = 20


class Documents(Connection):
    """Read and write documents by id."""

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

        A document has a version `v`. If another writer has changed it, it is read and decided again, so `decide` must
        return nothing for changes that are already applied.

        Arguments:
            name: The collection.
            ids: The documents to read.
            decide: Returns the documents to write, by id, for the documents found, by id.
            stored: The documents, if they have been read already; None reads them.

        Returns:
            The documents that MongoDB rejected, by id.

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
        raise Unavailable(f"{self._server}: other writers changed {name} during each of {_REREADS} tries")

    def replace(
        self, name: str, changed: Mapping[str, Document], stored: Mapping[str, Document]
    ) -> tuple[bool, dict[str, Rejected]]:
        """Replace documents that no other writer has changed since they were read; create those that did not exist.

        Arguments:
            name: The collection.
            changed: The documents to write, by id.
            stored: The documents as they were read, by id.

        Returns:
            Whether all were written or rejected, and the rejected ones. If not, another writer has changed one: read
            again.

        Raises:
            Unavailable: No answer after all tries.
        """
        if not changed:
            return True, {}
        operations = [_replace(id_, document, stored.get(id_)) for id_, document in changed.items()]
        written, rejected = self._write_what_fits(name, operations, changed)
        return written + len(rejected) == len(operations), rejected

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
            met_and_rejected(details, list(versions))
            return int(details["nRemoved"])

        return self._call(attempt)

    def write(self, name: str, operations: Sequence[Any]) -> None:
        """Make commutative updates in one request. An upsert whose filter excludes the existing document does nothing.

        Raises:
            ServerRefuses: MongoDB refused one of them; it made the others.
            Unavailable: No answer after all tries.
        """
        if not operations:
            return

        def attempt() -> None:
            left = list(operations)
            # If two workers upsert the same new document at once, it exists at the second try.
            for _ in range(2):
                details = self._bulk(name, left)
                met, rejected = met_and_rejected(details, list(map(str, range(len(left)))))
                if rejected:
                    raise WriteRefused(f"an update of {name} was refused: {next(iter(rejected.values())).reason}")
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
            reasons = {id_: reason for id_, document in documents.items() if (reason := unfit(document))}
            if not reasons:
                raise
        left = [(operation, id_) for operation, id_ in zip(operations, ids) if id_ not in reasons]
        written, rejected = self._write(name, *zip(*left)) if left else (0, {})
        return written, rejected | {id_: Rejected(id_, reason) for id_, reason in reasons.items()}

    def _write(self, name: str, operations: Sequence[Any], ids: Sequence[str]) -> tuple[int, dict[str, Rejected]]:
        """Write; return the number of written documents, and the rejected ones."""

        def attempt() -> tuple[int, dict[str, Rejected]]:
            details = self._bulk(name, operations)
            # An upsert that finds a document is not a rejection: another writer was first.
            return details["nMatched"] + details["nUpserted"], met_and_rejected(details, ids)[1]

        return self._call(attempt)

    def _bulk(self, name: str, operations: Sequence[Any]) -> Mapping[str, Any]:
        """Return MongoDB's result of each operation."""
        try:
            return self._database[name].bulk_write(list(operations), ordered=False).bulk_api_result
        except BulkWriteError as error:
            details: Mapping[str, Any] = error.details or {}
            return details
        except OperationFailure as error:
            if error.code != TOO_LARGE:
                raise
            # MongoDB rejects the whole request if it cannot read one document.
            raise InvalidDocument(str(error)) from error


def _replace(id_: str, document: Document, before: Mapping[str, Any] | None) -> ReplaceOne[Document]:
    # None also finds a document without a version, such as one imported or written by hand.
    version = before.get("v") if before else 0
    new = {**document, "_id": id_, "v": version + 1 if isinstance(version, int) else 1}
    return ReplaceOne({"_id": id_, "v": version}, new, upsert=before is None)
