"""The registry of shops: MongoDB `shops`, with a document for each known shop.

An operator's values (`truepixel shops set`) are stored apart from those of `shop/update` webhooks, and take precedence.
Of the webhooks, each field's newest value counts, by the time of its version and then by the event id: the document is
the same in whatever order and however often webhooks arrive, also with concurrent writers. Domains add up: the
operator's and the newest webhook's are all the shop's own.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from truepixel_dagster.events.event import Event
from truepixel_dagster.events.shop import SHOP_UPDATED, UNKNOWN, Shop, shop_news
from truepixel_dagster.events.shop_time import ShopDays, is_time_zone
from truepixel_dagster.stores.documents import SCHEMA, Reader, Unreadable, report
from truepixel_dagster.stores.errors import ServerRefuses
from truepixel_dagster.stores.mongodb import SHOPS, Document, MongoStore

# How long a reader may use a cached shop, or the result that a shop is unknown.
KNOWN_SECONDS = 5.0
# The limits of a reader's cache: shops and bytes.
MOST_SHOPS, MOST_BYTES = 10_000, 8 * 1024 * 1024
# The approximate bytes of a shop without its texts, and of each text without its characters.
_SHOP_BYTES, _TEXT_BYTES = 600, 60
_REPORTED = 1000


class Word(msgspec.Struct, frozen=True):
    """A value from a webhook with its version: milliseconds since the epoch, and the event id."""

    value: str
    at: int
    event_id: str


class Words(msgspec.Struct, frozen=True):
    """Several values from a webhook with their version, like `Word`."""

    value: tuple[str, ...]
    at: int
    event_id: str


class ByWebhook(msgspec.Struct, frozen=True):
    """The newest values from webhooks."""

    time_zone: Word | None = None
    currency: Word | None = None
    domains: Words | None = None


class ByOperator(msgspec.Struct, frozen=True, omit_defaults=True):
    """An operator's values of a shop."""

    time_zone: str | None = None
    currency: str | None = None
    domains: tuple[str, ...] = ()
    aliases: dict[str, str] = {}
    payment_hosts: tuple[str, ...] = ()


class Known(msgspec.Struct, frozen=True):
    """The stored values of a shop.

    `since` is the time of the last change of its time zone, `origins_since` that of its domains, payment hosts and
    aliases (milliseconds since the epoch).
    """

    operator: ByOperator = ByOperator()
    webhook: ByWebhook = ByWebhook()
    since: int | None = None
    origins_since: int | None = None

    @property
    def shop(self) -> Shop:
        """Return the shop with the effective values; a time zone that does not exist counts as unknown."""
        operator, webhook = self.operator, self.webhook
        zone = operator.time_zone or (webhook.time_zone.value if webhook.time_zone else None)
        return Shop(
            time_zone=zone if zone and is_time_zone(zone) else None,
            currency=operator.currency or (webhook.currency.value if webhook.currency else None),
            domains=frozenset((*operator.domains, *(webhook.domains.value if webhook.domains else ()))),
            aliases=operator.aliases,
            payment_hosts=frozenset(operator.payment_hosts),
        )


KNOWN = Reader(Known, f"MongoDB {SHOPS}")
_OPERATOR = "operator"


class _Cached(NamedTuple):
    asked_at: float
    shop: Shop
    size: int


class Shops:
    """Read the registry with a cache, for readers that need few shops often. Safe to use from several threads.

    Arguments:
        store: MongoDB.
        clock: Returns seconds, for the age of cached shops.
        shops: The most shops in the cache.
        size: The most bytes in the cache.
    """

    def __init__(
        self,
        store: MongoStore,
        clock: Callable[[], float] = time.monotonic,
        shops: int = MOST_SHOPS,
        size: int = MOST_BYTES,
    ) -> None:
        self._store = store
        self._clock = clock
        self._most_shops = shops
        self._most_bytes = size
        self._cached: OrderedDict[str, _Cached] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def read(self, ids: Iterable[str]) -> dict[str, Shop]:
        """Return some shops by id: one query for those that are not cached, none if all are.

        Raises:
            Unavailable: MongoDB does not answer.
        """
        asked_at = self._clock()
        found: dict[str, Shop] = {}
        missing: list[str] = []
        with self._lock:
            for id_ in dict.fromkeys(ids):
                cached = self._cached.get(id_)
                if cached is not None and asked_at - cached.asked_at < KNOWN_SECONDS:
                    found[id_] = cached.shop
                else:
                    missing.append(id_)
        if missing:
            documents = self._store.read(SHOPS, missing)
            new = {id_: _shop(id_, documents.get(id_)) for id_ in missing}
            found |= new
            with self._lock:
                for id_, shop in new.items():
                    self._put(id_, _Cached(asked_at, shop, _size(id_, shop)))
        return found

    def days(self, ids: Iterable[str]) -> ShopDays:
        """Return the object that maps times to the days of some shops.

        Raises:
            Unavailable: MongoDB does not answer.
        """
        return _days(self.read(ids))

    def learn(self, events: Iterable[Event]) -> int:
        """Store the values of the `shop/update` webhooks among some events; return how many shops changed.

        Raises:
            Unavailable: MongoDB does not answer.
        """
        changed = learn(self._store, events)
        with self._lock:
            for id_ in changed:
                if gone := self._cached.pop(id_, None):
                    self._size -= gone.size
        return len(changed)

    def _put(self, id_: str, new: _Cached) -> None:
        if old := self._cached.pop(id_, None):
            self._size -= old.size
        self._cached[id_] = new
        self._size += new.size
        while len(self._cached) > self._most_shops or self._size > self._most_bytes:
            _, gone = self._cached.popitem(last=False)
            self._size -= gone.size


def learn(store: MongoStore, events: Iterable[Event]) -> set[str]:
    """Store the values of the `shop/update` webhooks among some events; return the shops that changed.

    A document that cannot be read, or that MongoDB rejects, is logged and stays as it is.

    Raises:
        Unavailable: MongoDB does not answer.
    """
    news: dict[str, list[Event]] = {}
    for event in events:
        if event.source == "webhook" and event.name == SHOP_UPDATED:
            news.setdefault(event.shop_id, []).append(event)
    if not news:
        return set()
    changed: set[str] = set()

    def decide(stored: Mapping[str, Document]) -> dict[str, Document]:
        new = {id_: after for id_, own in news.items() if (after := _after(id_, stored.get(id_, {}), own)) is not None}
        changed.update(new)
        return new

    for refused in store.update(SHOPS, list(news), decide).values():
        report(f"shop/update of shop {refused.document_id!r}: MongoDB rejected the document: {refused.reason}")
        changed.discard(refused.document_id)
    return changed


def known(store: MongoStore, query: Mapping[str, Any] | None = None) -> Iterator[tuple[str, Known]]:
    """Yield every known shop, in the order of ids; log those that cannot be read.

    Raises:
        Unavailable: MongoDB does not answer.
    """
    for document in store.find(SHOPS, query or {}):
        id_ = str(document["_id"])
        try:
            yield id_, KNOWN.read(id_, document)
        except Unreadable as error:
            report(error)


def all_days(store: MongoStore) -> ShopDays:
    """Return the object that maps times to the days of all shops whose time zone is known.

    Memory grows with their number, about 200 bytes each.

    Raises:
        Unavailable: MongoDB does not answer.
    """
    return _days({id_: found.shop for id_, found in known(store)})


def set_by_operator(store: MongoStore, id_: str, change: Callable[[ByOperator], ByOperator]) -> bool:
    """Change an operator's values of a shop, also with concurrent writers; return whether they changed.

    Raises:
        Unreadable: The document cannot be read.
        ServerRefuses: MongoDB rejects the document.
        Unavailable: MongoDB does not answer.
    """
    changed = False

    def decide(stored: Mapping[str, Document]) -> dict[str, Document]:
        nonlocal changed
        document = KNOWN.usable(id_, stored.get(id_, {}))
        before = KNOWN.read(id_, document).operator
        after = change(before)
        changed = after != before
        if not changed:
            return {}
        unknown = {name: value for name, value in document.get(_OPERATOR, {}).items() if name not in _OPERATORS}
        return {id_: _dated(id_, document, {**document, _OPERATOR: {**unknown, **msgspec.to_builtins(after)}})}

    for refused in store.update(SHOPS, [id_], decide).values():
        raise ServerRefuses(f"MongoDB rejected the document of shop {id_!r}, so nothing was changed: {refused.reason}")
    return changed


def remove(store: MongoStore, id_: str) -> bool:
    """Forget a shop; return whether it was known.

    Raises:
        Unavailable: MongoDB does not answer.
    """
    return store.delete(SHOPS, {"_id": id_}) > 0


_OPERATORS = frozenset(ByOperator.__struct_fields__)
_unreadable: OrderedDict[str, str] = OrderedDict()


def _after(id_: str, stored: Document, events: Iterable[Event]) -> Document | None:
    """Return a document after webhooks; None if they change nothing, or it cannot be read."""
    try:
        document = KNOWN.usable(id_, stored)
    except Unreadable as error:
        _report(id_, error)
        return None
    before = document.get("webhook", {})
    webhook = dict(before)
    for event in events:
        for name, word in _said(event).items():
            last = webhook.get(name)
            if last is None or (last["at"], last["event_id"]) < (word["at"], word["event_id"]):
                webhook[name] = {**(last or {}), **word}
    if webhook == before:
        return None
    return _dated(id_, document, {**document, "webhook": webhook})


def _said(event: Event) -> dict[str, Document]:
    """Return the values of a webhook, by field."""
    try:
        news = shop_news(event.payload)
    except ValueError as error:
        report(f"webhook {event.event_id!r} about shop {event.shop_id!r} cannot be read: {error}")
        return {}
    version = {"at": event.received_at if news.updated_at is None else news.updated_at, "event_id": event.event_id}
    said = {"time_zone": news.time_zone, "currency": news.currency, "domains": list(news.domains)}
    return {name: {"value": value, **version} for name, value in said.items() if value}


def _dated(id_: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Document:
    """Return a document with the times of the last changes of its time zone, and of its domains, hosts and aliases."""
    dated = {**after, "schema": SCHEMA}
    one, other = KNOWN.read(id_, before).shop, KNOWN.read(id_, dated).shop
    now = int(time.time() * 1000)
    if one.time_zone != other.time_zone:
        dated["since"] = now
    if _origins(one) != _origins(other):
        dated["origins_since"] = now
    return dated


def _origins(shop: Shop) -> tuple[object, ...]:
    return shop.domains, shop.payment_hosts, shop.aliases


def _shop(id_: str, document: Document | None) -> Shop:
    if document is None:
        return UNKNOWN
    try:
        return KNOWN.read(id_, document).shop
    except Unreadable as error:
        _report(id_, error)
        return UNKNOWN


def _report(id_: str, error: Unreadable) -> None:
    """Log once that a document cannot be read, although it is read every few seconds."""
    words = str(error)
    if _unreadable.get(id_) != words:
        report(error)
        _unreadable[id_] = words
    while len(_unreadable) > _REPORTED:
        _unreadable.popitem(last=False)


def _days(shops: Mapping[str, Shop]) -> ShopDays:
    return ShopDays({id_: shop.time_zone for id_, shop in shops.items() if shop.time_zone})


def _size(id_: str, shop: Shop) -> int:
    texts = [id_, *shop.domains, *shop.payment_hosts, *shop.aliases, *shop.aliases.values()]
    return _SHOP_BYTES + sum(_TEXT_BYTES + len(text) for text in texts)
