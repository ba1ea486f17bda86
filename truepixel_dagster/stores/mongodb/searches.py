"""Find, count and sum MongoDB's documents."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pymongo.errors import PyMongoError

from truepixel_dagster.stores.mongodb.connection import Connection, Document


class Searches(Connection):
    """Search MongoDB's collections."""

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

    def find(self, name: str, query: Mapping[str, Any], fields: Iterable[str] | None = None) -> Iterator[Document]:
        """Yield the documents that a query finds, in the order of their ids.

        Arguments:
            name: The collection.
            query: The query.
            fields: The fields to read, in addition to `_id`; None stands for all.

        Raises:
            Unavailable: No answer.
        """
        try:
            yield from self._database[name].find(query, fields and list(fields)).sort("_id", 1)
        except PyMongoError as error:
            if said := self.plain(error):
                raise said from error
            raise

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

    def distinct(self, name: str, field: str) -> list[Any]:
        """Return the values of an indexed field.

        Raises:
            Unavailable: No answer after all tries.
        """
        return self._call(lambda: list(self._database[name].distinct(field)))

    def sums(self, name: str, pipeline: Sequence[Mapping[str, Any]]) -> list[Document]:
        """Return the result of an aggregation.

        Raises:
            Unavailable: No answer after all tries.
        """
        return self._call(lambda: list(self._database[name].aggregate(list(pipeline))))

    def count(self, name: str) -> int:
        """Return the number of documents in a collection."""
        return int(self._database[name].count_documents({}))
