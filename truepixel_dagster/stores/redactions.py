"""Store redactions, the records whose personal data must be removed: digests of ids under a secret, without the ids.

Every reader of the topic of events uses `Redactions.shown`. It replaces a person's records up to the redaction by
anonymised records, and omits records of a redacted shop. So neither the stream nor a replay restores redacted data, and
both produce the same documents.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from truepixel_dagster.events.anonymous import anonymous
from truepixel_dagster.events.decode import decode
from truepixel_dagster.events.event import Event, Message
from truepixel_dagster.events.identifiers import (
    ORDER,
    RECORD,
    TOKEN,
    Identifier,
    identifiers,
    shop_and_client,
)
from truepixel_dagster.events.privacy_request import stripped
from truepixel_dagster.events.sites import NOTHING_KNOWN, Sites
from truepixel_dagster.stores.documents import SCHEMA, Reader, Unreadable, report
from truepixel_dagster.stores.errors import Unavailable
from truepixel_dagster.stores.mongodb import REDACTIONS, MongoStore, UpdateOne

# How long a reader may use its list of shops with redactions.
KNOWN_SECONDS = 1.0
ALIAS = "redacted-"
WHOLE_SHOP = Identifier("shop", "")
# An order or a record happens once: all later records of it concern the same person.
_FOR_EVER = frozenset({ORDER, TOKEN, RECORD})
_SECRET = "secret"  # noqa: S105 (the id of the document that holds it)


class Moment(msgspec.Struct, frozen=True):
    """The limit of a redaction: below an offset of each partition, and up to a time (ms).

    `always` means no limit: an unreadable redaction removes too much rather than too little.
    """

    until: Mapping[str, int] = {}
    at: int = 0
    always: bool = False

    def covers(self, message: Message, occurred_at: int | None) -> bool:
        """Return whether a record existed by then, or reports something that did, however late it arrives."""
        if self.always:
            return True
        before = message.origin.offset < self.until.get(str(message.origin.partition), 0)
        return before or (occurred_at is not None and occurred_at <= self.at)


class Kept(msgspec.Struct, frozen=True):
    """The stored fields of a redaction."""

    at: int
    until: dict[str, int] = {}


REDACTION = Reader(Kept, f"MongoDB {REDACTIONS}")


class Redactions:
    """The redactions of all shops, for one reader of records. Safe to use from one thread at a time."""

    def __init__(self, store: MongoStore, sites: Sites = NOTHING_KNOWN) -> None:
        self._store = store
        self._sites = sites
        self._known_at = float("-inf")
        self._shops: frozenset[str] = frozenset()
        self._key = b""

    def shown(self, messages: Iterable[Message]) -> list[Message]:
        """Yield records as they may be read: redacted ones anonymised, and without those of redacted shops.

        This takes one query if one of their shops has redactions, else none; the list of such shops is read once a
        second.

        Raises:
            Unavailable: MongoDB does not answer.
        """
        return [message for message in self.views([stripped(message) for message in messages]) if message]

    def views(self, messages: Sequence[Message]) -> list[Message | None]:
        """Return the view of each record; None if it may not be read. The records must be `stripped` already."""
        self._refresh()
        if not self._shops:
            return list(messages)
        suspects: dict[int, dict[str, Identifier]] = {}
        for position, message in enumerate(messages):
            shop = shop_and_client(message)[0]
            if self._shop(shop) in self._shops:
                ids = (*identifiers(message), WHOLE_SHOP)
                suspects[position] = {self.digest(shop, id_): id_ for id_ in ids}
        found = self._store.read(REDACTIONS, {digest for digests in suspects.values() for digest in digests})
        moments = {id_: _moment(id_, document) for id_, document in found.items()}
        result: list[Message | None] = list(messages)
        for position, digests in suspects.items():
            met = [(id_, moments[digest]) for digest, id_ in digests.items() if digest in moments]
            if met:
                result[position] = self._view(messages[position], met)
        return result

    def _view(self, message: Message, met: Sequence[tuple[Identifier, Moment]]) -> Message | None:
        event = decode(message, self._sites)
        occurred_at = event.occurred_at if isinstance(event, Event) else None
        covering = {id_ for id_, moment in met if id_.kind in _FOR_EVER or moment.covers(message, occurred_at)}
        if WHOLE_SHOP in covering:
            return None
        if not covering:
            return message
        shop = shop_and_client(message)[0]
        return anonymous(message, lambda kind, value: self.alias(shop, kind, value), self._sites)

    def add(self, shop: str, ids: Iterable[Identifier], moment: Moment) -> None:
        """Redact the records of these ids up to a moment; an earlier redaction of them is extended.

        Raises:
            Unavailable: MongoDB does not answer.
        """
        self.prepare()
        offsets = {f"until.{partition}": offset for partition, offset in moment.until.items()}
        later = {"$max": {"at": moment.at, "schema": SCHEMA, **offsets}, "$set": {"shop": self._shop(shop)}}
        wanted = list(ids)
        updates = [UpdateOne({"_id": self.digest(shop, id_)}, later, upsert=True) for id_ in wanted]
        # A record with an invalid key belongs to no shop; its partition and offset identify it.
        nowhere = {**later, "$set": {"shop": self._shop("")}}
        records = [id_ for id_ in wanted if id_.kind == RECORD]
        updates += [UpdateOne({"_id": self.digest("", id_)}, nowhere, upsert=True) for id_ in records]
        self._store.write(REDACTIONS, updates)
        self._refresh(now=True)

    def prepare(self) -> None:
        """Create the secret of the digests, if there is none yet.

        Raises:
            Unavailable: MongoDB does not answer.
        """
        self._refresh(now=True)
        self._make_key()

    def digest(self, shop: str, id_: Identifier) -> str:
        """Return the digest of a shop's id; without the database's secret it reveals nothing."""
        return self._hmac("redaction", shop, id_.kind, id_.value)

    def alias(self, shop: str, kind: str, value: str) -> str:
        """Return the alias that replaces an id in documents."""
        return ALIAS + self._hmac("alias", shop, kind, value)[:32]

    def _shop(self, shop: str) -> str:
        return self._hmac("shop", shop)

    def _hmac(self, *parts: str) -> str:
        # With each part's length in front, different lists of parts give different texts.
        text = "".join(f"{len(part)}:{part}" for part in parts)
        return hmac.new(self._key, text.encode(errors="surrogatepass"), hashlib.sha256).hexdigest()

    def _refresh(self, *, now: bool = False) -> None:
        if not now and time.monotonic() - self._known_at < KNOWN_SECONDS:
            return
        asked_at = time.monotonic()
        if not self._key:
            secret = self._store.read(REDACTIONS, [_SECRET])
            self._key = _key_of(secret[_SECRET]) if secret else b""
        # Without a secret there is no redaction.
        self._shops = frozenset(self._store.distinct(REDACTIONS, "shop")) if self._key else frozenset()
        self._known_at = asked_at

    def _make_key(self) -> None:
        if not self._key:
            new = {"$setOnInsert": {"value": secrets.token_hex(32)}}
            self._store.write(REDACTIONS, [UpdateOne({"_id": _SECRET}, new, upsert=True)])
            self._refresh(now=True)


def _moment(id_: str, document: Mapping[str, object]) -> Moment:
    try:
        found = REDACTION.read(id_, document)
    except Unreadable as error:
        report(error)
        return Moment(always=True)
    return Moment(found.until, found.at)


def _key_of(secret: Mapping[str, Any]) -> bytes:
    try:
        return bytes.fromhex(secret["value"])
    except (KeyError, TypeError, ValueError):
        raise Unavailable(
            f"MongoDB {REDACTIONS}: the document {_SECRET!r} holds no key, so redacted ids cannot be recognised."
            " Restore the document from a backup"
        ) from None
