"""Identities of what other servers hold, kept in MongoDB: a server that lost its data cannot vouch for them itself.

One document for each thing that has an identity, such as what Redis holds. Its fields are of whoever keeps it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pymongo import UpdateOne

from truepixel_dagster.stores.mongodb import IDENTITIES, Document, MongoStore


def read(store: MongoStore, name: str) -> Document | None:
    """Return what is kept of a thing; None where nothing is kept yet.

    Raises:
        Unavailable: MongoDB does not answer.
    """
    return store.read(IDENTITIES, [name]).get(name)


def begin(store: MongoStore, name: str, new: Mapping[str, Any]) -> Document:
    """Keep an identity unless there is one already, and return the one that is kept: the first of several writers wins.

    Raises:
        Unavailable: MongoDB does not answer.
    """
    store.write(IDENTITIES, [UpdateOne({"_id": name}, {"$setOnInsert": dict(new)}, upsert=True)])
    return store.read(IDENTITIES, [name])[name]


def change(store: MongoStore, name: str, fields: Mapping[str, Any]) -> None:
    """Set fields of an identity, whether or not there was one.

    Raises:
        Unavailable: MongoDB does not answer.
    """
    store.write(IDENTITIES, [UpdateOne({"_id": name}, {"$set": dict(fields)}, upsert=True)])


def raise_to(store: MongoStore, name: str, numbers: Mapping[str, int]) -> None:
    """Raise numbers of an identity; those that are higher already stay.

    Raises:
        Unavailable: MongoDB does not answer.
    """
    store.write(IDENTITIES, [UpdateOne({"_id": name}, {"$max": dict(numbers)}, upsert=True)])
