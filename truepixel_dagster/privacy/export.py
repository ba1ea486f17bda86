"""Export all data of a person or of a whole shop, for `truepixel privacy export`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from truepixel_dagster.dead_letters import topic as dead_letters
from truepixel_dagster.events.event import Message
from truepixel_dagster.events.identifiers import RECORD, identifiers, shop_and_client
from truepixel_dagster.flush import PRODUCT_STATS, WEEKLY_VISITORS
from truepixel_dagster.privacy.forget import clusters_of, ids_of_shop
from truepixel_dagster.privacy.person import Person, not_committed, of_shop, order_ids
from truepixel_dagster.private_files import private_folder_above
from truepixel_dagster.rebuild.context import RebuildContext
from truepixel_dagster.rebuild.history import message_of
from truepixel_dagster.stages.attribution_document import ATTRIBUTIONS
from truepixel_dagster.stages.index import EVENTS
from truepixel_dagster.stores.mongodb import AD_LEADS, CUSTOMERS, ORDERS, SHOPS
from truepixel_dagster.text import printable_json

DEAD_LETTERS, WAITING = "dead letters", "not processed yet"


def _plain(value: Any) -> int | str:
    """Convert MongoDB's own types: large integers to integers, others to text."""
    return int(value) if isinstance(value, int) else str(value)


# Write decimals in their original form.
_ENCODER = msgspec.json.Encoder(decimal_format="number", enc_hook=_plain)


class Held(msgspec.Struct, frozen=True):
    """Hold one document or record, and its store."""

    store: str
    document: Mapping[str, Any]


def held(context: RebuildContext, shop: str, person: Person | None) -> Iterator[Held]:
    """Yield all data of a person, or of the whole shop if `person` is None; never data of another shop.

    Raises:
        KafkaUnavailable, Unavailable: A server does not answer.
    """
    yield from _documents(context, shop, person)
    if person is None:
        yield from (Held(SHOPS, document) for document in context.stores.mongodb.find(SHOPS, {"_id": shop}))
        for name in (PRODUCT_STATS, WEEKLY_VISITORS):
            for hit in context.stores.elasticsearch.scan(name, of_shop(shop)):
                yield Held(name, {"_id": hit["_id"], **hit["_source"]})
    letters = (dead.message for dead in dead_letters.read(context.settings.kafka()))
    for store, messages in ((DEAD_LETTERS, letters), (WAITING, not_committed(context))):
        yield from (Held(store, _record(message)) for message in messages if _is_of(message, shop, person))


def _documents(context: RebuildContext, shop: str, person: Person | None) -> Iterator[Held]:
    context.history.refresh()
    for page in context.history.documents(of_shop(shop)):
        for hit in page:
            if person is None or identifiers(message_of(hit["_source"])) & person.ids:
                yield Held(EVENTS, {"_id": hit["_id"], **hit["_source"]})
    for hit in context.stores.elasticsearch.scan(ATTRIBUTIONS, of_shop(shop)):
        if person is None or order_ids(hit["_source"]) & person.ids:
            yield Held(ATTRIBUTIONS, {"_id": hit["_id"], **hit["_source"]})
    for name in (CUSTOMERS, AD_LEADS, ORDERS):
        query = ids_of_shop(shop) if person is None else _of_person(person, name)
        yield from (Held(name, document) for document in context.stores.mongodb.find(name, query))


def write(path: Path, everything: Iterator[Held]) -> dict[str, int]:
    """Write JSON lines to a file that only its owner may read; return their number by store.

    Raises:
        OSError: The file cannot be written.
    """
    private_folder_above(path)
    unfinished = path.with_suffix(".unfinished")
    unfinished.unlink(missing_ok=True)
    counts: dict[str, int] = {}
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        for item in everything:
            file.write(line(item) + b"\n")
            counts[item.store] = counts.get(item.store, 0) + 1
    unfinished.replace(path)
    return counts


def line(item: Held) -> bytes:
    """Return an item as JSON on one line, without control characters."""
    return printable_json(_ENCODER.encode(item).decode()).encode()


def _of_person(person: Person, name: str) -> dict[str, Any]:
    if name == ORDERS:
        return {**ids_of_shop(person.shop), **clusters_of(person)}
    return {"_id": {"$in": person.users}}


def _is_of(message: Message, shop: str, person: Person | None) -> bool:
    own = shop_and_client(message)[0]
    if person is None or own not in (shop, ""):
        return own == shop
    # A record without a shop belongs to the person only if its text names the person.
    ids = person.ids if own else {id_ for id_ in person.ids if id_.kind == RECORD}
    return bool(identifiers(message) & ids)


def _record(message: Message) -> dict[str, Any]:
    return {
        "origin": str(message.origin),
        "key": (message.key or b"").decode(errors="backslashreplace"),
        "headers": [[name, (value or b"").decode(errors="backslashreplace")] for name, value in message.headers],
        "value": (message.value or b"").decode(errors="backslashreplace"),
    }
