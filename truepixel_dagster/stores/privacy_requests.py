"""What is to be done about personal data: kept from when it is asked for until it is done.

A request holds whom it is about only until then. While a redaction is at work it also holds every id that it has found
to be the person's (`found`), so that whoever goes on after a crash still knows them all.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from pymongo import UpdateOne

from truepixel_dagster.events.identifiers import Identifier
from truepixel_dagster.events.privacy_request import PrivacyRequest
from truepixel_dagster.stores.documents import SCHEMA, Reader, read_all
from truepixel_dagster.stores.mongodb import PRIVACY_REQUESTS, MongoStore

WAITING, DONE = "waiting", "done"
_PERSONAL = ("request", "found")


class Waiting(msgspec.Struct, frozen=True):
    """A request that is not done: its id, what is asked for, when it came (ms), which ids a try before has found."""

    id: str
    request: PrivacyRequest
    asked_at: int
    found: tuple[Identifier, ...] = ()


REQUEST = Reader(Waiting, f"MongoDB {PRIVACY_REQUESTS}")


def keep(store: MongoStore, requests: Mapping[str, PrivacyRequest]) -> None:
    """Keep requests by their ids; one that is there already, done or not, stays as it is.

    Raises:
        Unavailable: MongoDB does not answer.
    """
    now = int(time.time() * 1000)
    operations = []
    for id_, request in requests.items():
        new = {
            "schema": SCHEMA,
            "state": WAITING,
            "asked_at": now,
            "topic": request.topic,
            "request": msgspec.to_builtins(request),
        }
        operations.append(UpdateOne({"_id": id_}, {"$setOnInsert": new}, upsert=True))
    store.write(PRIVACY_REQUESTS, operations)


def waiting(store: MongoStore, shop: str | None = None) -> list[Waiting]:
    """The requests that are not done, those of one shop or all, in the order in which they came.

    One that cannot be read is logged and waits; the others need not wait for it.

    Raises:
        Unavailable: MongoDB does not answer.
    """
    query = {"state": WAITING} | ({"request.shop_id": shop} if shop else {})
    documents = {
        document["_id"]: {**document, "id": document["_id"]} for document in store.find(PRIVACY_REQUESTS, query)
    }
    found, _ = read_all(REQUEST, documents)
    return sorted(found.values(), key=lambda request: (request.asked_at, request.id))


def note(store: MongoStore, id_: str, found: Iterable[Identifier]) -> None:
    """Remember ids that a redaction has found, before anything is done about them.

    Raises:
        Unavailable: MongoDB does not answer.
    """
    ids = [list(identifier) for identifier in sorted(found)]
    store.write(PRIVACY_REQUESTS, [UpdateOne({"_id": id_}, {"$addToSet": {"found": {"$each": ids}}})])


def done(store: MongoStore, id_: str, outcome: Mapping[str, Any]) -> None:
    """A request was done: what came of it is kept, and whom it was about forgotten.

    Raises:
        Unavailable: MongoDB does not answer.
    """
    update = {
        "$set": {"state": DONE, "done_at": int(time.time() * 1000), **outcome},
        "$unset": dict.fromkeys(_PERSONAL, ""),
    }
    store.write(PRIVACY_REQUESTS, [UpdateOne({"_id": id_}, update)])
