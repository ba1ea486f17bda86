"""Identities of other servers' data, stored in MongoDB: a server that lost its data cannot detect that itself.

There is a document for each identity, such as that of Redis' data. The module that uses it defines its fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from truepixel_dagster.stores.mongodb import IDENTITIES, Document, MongoStore, UpdateOne


def read(store: MongoStore, name: str) -> Document | None:
    """Return a stored identity; None if there is none yet.

    Raises:
        Unavailable: MongoDB does not answer.
    """
    return store.read(IDENTITIES, [name]).get(name)


def begin(store: MongoStore, name: str, new: Mapping[str, Any]) -> Document:
    """Store an identity unless there is one, and return the stored one: the first of several writers wins.

    Raises:
        Unavailable: MongoDB does not answer.
    """
    store.write(IDENTITIES, [UpdateOne({"_id": name}, {"$setOnInsert": dict(new)}, upsert=True)])
    return store.read(IDENTITIES, [name])[name]


def change(store: MongoStore, name: str, fields: Mapping[str, Any]) -> None:
    """Set fields of an identity; create it if it does not exist.

    Raises:
        Unavailable: MongoDB does not answer.
    """
    store.write(IDENTITIES, [UpdateOne({"_id": name}, {"$set": dict(fields)}, upsert=True)])


def raise_to(store: MongoStore, name: str, numbers: Mapping[str, int]) -> None:
    """Raise numbers of an identity; higher stored numbers stay.

    Raises:
        Unavailable: MongoDB does not answer.
    """
    store.write(IDENTITIES, [UpdateOne({"_id": name}, {"$max": dict(numbers)}, upsert=True)])
