"""Store which shops may send, and how they prove it: MongoDB `connections`, one document per shop, with its id.

It is separate from `shops`, which every worker reads, because only the collector needs the secrets. Webhooks name a
shop by its domain, the pixel by its pixel token; a domain and a token each belong to one shop.
"""

from __future__ import annotations

import secrets as random_texts
from collections.abc import Callable, Iterator, Mapping

import msgspec

from truepixel_dagster.stores.documents import SCHEMA, Reader, Unreadable, report
from truepixel_dagster.stores.errors import ServerRefuses
from truepixel_dagster.stores.mongodb import CONNECTIONS, Document, MongoStore

MOST_SECRETS = MOST_OLDER_TOKENS = 20
DOMAIN, PIXEL_TOKEN, OLDER_TOKEN = "domain", "pixel_token", "older_tokens.token"
_TOKEN_BYTES, _ID_BYTES = 18, 4


class Secret(msgspec.Struct, frozen=True, omit_defaults=True):
    """Hold a shop's own secret: encrypted, or the name of a mounted file.

    Times are milliseconds since the epoch. `until` is the time when it expires.
    """

    id: str
    added_at: int
    sealed: str | None = None
    file: str | None = None
    until: int | None = None

    def counts(self, now: int) -> bool:
        """Return whether the secret is valid at a time."""
        return self.until is None or now < self.until


class OlderToken(msgspec.Struct, frozen=True):
    """Hold a pixel token that a newer one replaces, and when it expires, in milliseconds since the epoch."""

    token: str
    until: int


class Connection(msgspec.Struct, frozen=True, omit_defaults=True):
    """Hold a shop that may send. Times are milliseconds since the epoch."""

    domain: str
    pixel_token: str
    connected_at: int
    secrets: tuple[Secret, ...] = ()
    uninstalled_at: int | None = None
    older_tokens: tuple[OlderToken, ...] = ()

    def accepts(self, token: str, now: int) -> bool:
        """Return whether pixel events with this token are the shop's at a time."""
        valid = {older.token for older in self.older_tokens if now < older.until}
        return self.uninstalled_at is None and (token == self.pixel_token or token in valid)


CONNECTION = Reader(Connection, f"MongoDB {CONNECTIONS}")
_FIELDS = frozenset(Connection.__struct_fields__)


def new_pixel_token() -> str:
    """Return a new token by which a pixel names its shop: public, but impossible to guess."""
    return f"tp_{random_texts.token_urlsafe(_TOKEN_BYTES)}"


def new_secret_id() -> str:
    """Return a new short name for a secret."""
    return random_texts.token_hex(_ID_BYTES)


def read(store: MongoStore, shop: str) -> Connection | None:
    """Return a shop's connection; None if it has none.

    Raises:
        Unreadable: Its document cannot be read.
        Unavailable: MongoDB does not answer.
    """
    document = store.read(CONNECTIONS, [shop]).get(shop)
    return None if document is None else CONNECTION.read(shop, document)


def find(store: MongoStore, field: str, value: str) -> tuple[str, Connection] | None:
    """Return the shop with this domain or pixel token, and its connection; None if no shop, or more than one, has it.

    Arguments:
        store: MongoDB.
        field: `domain`, `pixel_token` or `older_tokens.token`.
        value: The domain or token.

    Raises:
        Unavailable: MongoDB does not answer.
    """
    found = store.find_by(CONNECTIONS, field, [value])
    if len(found) > 1:
        report(f"{field} {value!r} belongs to {len(found)} shops, so none of them may use it: {sorted(found)}")
    for id_, document in found.items() if len(found) == 1 else ():
        try:
            return id_, CONNECTION.read(id_, document)
        except Unreadable as error:
            report(error)
    return None


def all_of(store: MongoStore) -> Iterator[tuple[str, Connection]]:
    """Yield every shop with its connection, in the order of ids; log the documents that cannot be read.

    Raises:
        Unavailable: MongoDB does not answer.
    """
    for document in store.find(CONNECTIONS, {}):
        id_ = str(document["_id"])
        try:
            yield id_, CONNECTION.read(id_, document)
        except Unreadable as error:
            report(error)


def change(store: MongoStore, shop: str, decide: Callable[[Connection | None], Connection | None]) -> Connection | None:
    """Change a connection safely while others write, too.

    Arguments:
        store: MongoDB.
        shop: The shop's id.
        decide: Returns the new connection from the current one (None if there is none); None leaves it as it is.

    Returns:
        The connection after the change.

    Raises:
        Unreadable: Its document cannot be read.
        ServerRefuses: MongoDB rejects the document.
        Unavailable: MongoDB does not answer.
    """
    after: Connection | None = None

    def decided(stored: Mapping[str, Document]) -> dict[str, Document]:
        nonlocal after
        document = stored.get(shop)
        before = None if document is None else CONNECTION.read(shop, document)
        new = decide(before)
        after = before if new is None else new
        if new is None or new == before:
            return {}
        unknown = {name: value for name, value in (document or {}).items() if name not in _FIELDS}
        return {shop: {**unknown, **msgspec.to_builtins(new), "schema": SCHEMA}}

    for refused in store.update(CONNECTIONS, [shop], decided).values():
        raise ServerRefuses(f"MongoDB rejected the connection of shop {shop!r}: {refused.reason}")
    return after


def remove(store: MongoStore, shop: str) -> bool:
    """Remove a shop's connection with its secrets; return whether it had one.

    Raises:
        Unavailable: MongoDB does not answer.
    """
    return store.delete(CONNECTIONS, {"_id": shop}) > 0
