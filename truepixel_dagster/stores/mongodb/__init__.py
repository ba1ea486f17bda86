"""Adapt MongoDB: read documents by id, and replace them only if no other writer has changed them.

>>> def one_more(stored):  # called again with the new documents if another writer was faster
...     before = stored.get("shop:client", {})
...     return {"shop:client": {**before, "events": before.get("events", 0) + 1}}
...
>>> stores.mongodb.update("customers", ["shop:client"], one_more)  # the rejected documents
{}
>>> stores.mongodb.read("customers", ["shop:client"])["shop:client"]["events"]
1
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from truepixel_dagster.stores import client_libraries  # noqa: F401
from truepixel_dagster.stores.mongodb.connection import Document, UpdateOne
from truepixel_dagster.stores.mongodb.documents import Documents
from truepixel_dagster.stores.mongodb.errors import denial
from truepixel_dagster.stores.mongodb.names import (
    AD_LEADS,
    CONNECTIONS,
    CUSTOMERS,
    IDENTITIES,
    ORDERS,
    PRIVACY_REQUESTS,
    REDACTIONS,
    SHOPS,
)
from truepixel_dagster.stores.mongodb.searches import Searches

__all__ = [
    "AD_LEADS",
    "CONNECTIONS",
    "CUSTOMERS",
    "IDENTITIES",
    "ORDERS",
    "PRIVACY_REQUESTS",
    "REDACTIONS",
    "SHOPS",
    "Document",
    "MongoStore",
    "UpdateOne",
    "denial",
]


class MongoStore(Documents, Searches):
    """Adapt MongoDB. The first call connects."""

    def delete(self, name: str, query: Mapping[str, Any]) -> int:
        """Delete the documents that a query finds; return their number.

        Raises:
            Unavailable: No answer after all tries.
        """
        return int(self._call(lambda: self._database[name].delete_many(query)).deleted_count)

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
