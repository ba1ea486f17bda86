"""Requests about personal data, from their arrival until they are done.

A request names its person only until then. While a redaction is in progress, the request also holds all ids of the
person that were found (`found`), so that a redaction that continues after a crash has all of them.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from truepixel_dagster.events.identifiers import Identifier
from truepixel_dagster.events.privacy_request import PrivacyRequest
from truepixel_dagster.stores.documents import SCHEMA, Reader, read_all
from truepixel_dagster.stores.mongodb import PRIVACY_REQUESTS, MongoStore, UpdateOne

WAITING, DONE = "waiting", "done"
_PERSONAL = ("request", "found")


class Waiting(msgspec.Struct, frozen=True):
    """A request that is not done.

    `asked_at` is the time of its arrival (ms since the epoch), `found` are the ids that an earlier attempt has found.
    """

    id: str
    request: PrivacyRequest
    asked_at: int
    found: tuple[Identifier, ...] = ()


REQUEST = Reader(Waiting, f"MongoDB {PRIVACY_REQUESTS}")


def keep(store: MongoStore, requests: Mapping[str, PrivacyRequest]) -> None:
    """Store new requests by their ids; a stored request stays unchanged, whether it is done or not.

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
    """Return the requests that are not done, of one shop or of all, in the order of their arrival.

    A request that cannot be read is logged and keeps waiting; the others do not wait for it.

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
    """Store the ids that a redaction has found, before it redacts anything.

    Raises:
        Unavailable: MongoDB does not answer.
    """
    ids = [list(identifier) for identifier in sorted(found)]
    store.write(PRIVACY_REQUESTS, [UpdateOne({"_id": id_}, {"$addToSet": {"found": {"$each": ids}}})])


def done(store: MongoStore, id_: str, outcome: Mapping[str, Any]) -> None:
    """Mark a request as done: store its outcome and remove its personal data.

    Raises:
        Unavailable: MongoDB does not answer.
    """
    update = {
        "$set": {"state": DONE, "done_at": int(time.time() * 1000), **outcome},
        "$unset": dict.fromkeys(_PERSONAL, ""),
    }
    store.write(PRIVACY_REQUESTS, [UpdateOne({"_id": id_}, update)])
