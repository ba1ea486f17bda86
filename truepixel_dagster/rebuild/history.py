"""Read the event history in pages of bounded size, each user's events in the order of their offsets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import date, timedelta
from functools import partial
from itertools import groupby
from typing import Any, NamedTuple, TypeVar

import msgspec

from truepixel_dagster.chunks import chunks
from truepixel_dagster.events.ad import Ad
from truepixel_dagster.events.decode import Undecodable, decode
from truepixel_dagster.events.event import Event, Message, iso
from truepixel_dagster.events.origin import Origin
from truepixel_dagster.events.shop_time import UTC, ShopDays, ShopTime, days_beside
from truepixel_dagster.events.sites import NOTHING_KNOWN, Sites
from truepixel_dagster.events.times import to_millis
from truepixel_dagster.events.user_key import is_no_client
from truepixel_dagster.resources import Stores, sites_of
from truepixel_dagster.settings import Settings
from truepixel_dagster.stages.index import EVENTS
from truepixel_dagster.stores import shops
from truepixel_dagster.stores.documents import is_older, report
from truepixel_dagster.stores.elasticsearch import ElasticsearchStore, Found

PAGE = 1000
_NAMES_OF_ORDERS = ("order_id", "checkout_token", "cart_token")
# Elasticsearch accepts several times as many terms in a query.
MOST_NAMED = 10_000
Query = Mapping[str, Any]
T = TypeVar("T")


class Activity(NamedTuple):
    """Hold which client of a shop did something, and when, in milliseconds since the epoch."""

    shop_id: str
    client_id: str
    at: int


_FIELDS = (
    "shop_id",
    "client_id",
    "event_id",
    "name",
    "source",
    "occurred_at",
    "received_at",
    "url",
    "referrer",
    "shop_domain",
    "ad",
    "bot",
    "kafka",
    "schema",
)
_ACTIVITY_FIELDS = ("shop_id", "client_id", "occurred_at")
_BY_OFFSET = ("kafka.partition", "kafka.offset", "_shard_doc")
_BY_CLIENT = ("shop_id", "client_id", "_shard_doc")
# Write decimals in their original form.
_ENCODER = msgspec.json.Encoder(decimal_format="number")


class History:
    """Read the event history in Elasticsearch. Payloads are decoded and dropped, so that a page is small."""

    def __init__(self, store: ElasticsearchStore, sites: Sites) -> None:
        self._store = store
        #: The known sites of shops.
        self.sites = sites

    def with_sites(self, sites: Sites) -> History:
        """Return the same history, read with other sites of shops."""
        return History(self._store, sites)

    def refresh(self) -> None:
        """Make everything indexed so far visible to the next reads."""
        self._store.refresh()

    def events(self, query: Query) -> Iterator[list[Event]]:
        """Yield events as the stages see them, without their payload."""
        return self._pages(query, None, partial(event_of, sites=self.sites))

    def outlines(self, query: Query) -> Iterator[list[Event]]:
        """Yield events from the documents without the payload: they lack items, order and customer."""
        return self._pages(query, _FIELDS, partial(_outline, sites=self.sites))

    def activities(self, query: Query) -> Iterator[list[Activity]]:
        """Yield when each client of each shop did something; all activities of a client are adjacent."""
        return self._pages(query, _ACTIVITY_FIELDS, _activity, _BY_CLIENT)

    def documents(self, query: Query) -> Iterator[list[Any]]:
        """Yield the documents themselves, as search hits, in no order."""
        return chunks(self._store.scan(f"{EVENTS}-", query, size=PAGE), PAGE)

    def messages(self, query: Query) -> Iterator[list[Message]]:
        """Yield the records of documents, with everything that decoding needs."""
        return self._pages(query, None, message_of)

    def found(self, places: Sequence[tuple[str, str]]) -> list[Found | None]:
        """Return the current documents of some indices and ids, with numbers in their original form."""
        return self._store.mget(places)

    def _pages(
        self, query: Query, fields: Sequence[str] | None, read: Callable[[Any], T], sort: Sequence[str] = _BY_OFFSET
    ) -> Iterator[list[T]]:
        hits = self._store.scan(f"{EVENTS}-", query, fields=fields, sort=sort, size=PAGE)
        return chunks(_readable(one_of_each_record(hits), read), PAGE)


def one_of_each_record(hits: Iterable[Any]) -> Iterator[Any]:
    """Yield one document of each record, the one of the newest edition; documents of one record are adjacent.

    A record has two documents if a rebuild ended between writing one under a new id and removing the old one.
    """
    for record, same in groupby(hits, key=lambda hit: hit["_source"].get("kafka")):
        if record is None:
            yield from same
        else:
            yield min(same, key=lambda hit: is_older(hit["_source"]))


def _readable(hits: Iterable[Any], read: Callable[[Any], T]) -> Iterator[T]:
    """Yield the converted documents; log and skip unreadable ones."""
    for hit in hits:
        try:
            yield read(hit["_source"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            why = f"field {error} is missing" if isinstance(error, KeyError) else str(error)
            report(f"Elasticsearch document {hit['_id']!r} of {hit['_index']}: {why}")


@contextmanager
def open_history(settings: Settings, stores: Stores) -> Iterator[History]:
    """Open the history, with numbers in their original form and the current registry of shops.

    Raises:
        SettingsError: The operator's additions to the tables of sources are invalid.
        Unavailable: MongoDB does not answer.
    """
    with closing(ElasticsearchStore(settings.elasticsearch(), exact=True)) as store:
        yield History(store, sites_now(settings, stores))


def sites_now(settings: Settings, stores: Stores) -> Sites:
    """Return the currently known sites of all shops.

    Raises:
        SettingsError: The operator's additions to the tables of sources are invalid.
        Unavailable: MongoDB does not answer.
    """
    return sites_of(settings).with_shops({id_: found.shop for id_, found in shops.known(stores.mongodb)})


def event_of(document: Mapping[str, Any], sites: Sites = NOTHING_KNOWN) -> Event:
    """Return the event of a document, without its payload.

    Arguments:
        document: A document of the history.
        sites: The known sites of shops.

    Raises:
        ValueError: This version cannot decode the payload.
    """
    message = message_of(document)
    event = decode(message, sites)
    if isinstance(event, Undecodable):
        raise ValueError(f"the event of {message.origin} in the history cannot be read: {event.reason}")  # noqa: TRY004
    # Keep the document's times: without the record, nothing can decide again which of them to replace.
    return msgspec.structs.replace(
        event,
        payload=b"",
        occurred_at=to_millis(document["occurred_at"]),
        received_at=to_millis(document["received_at"]),
        client_at=document.get("client_at"),
    )


def message_of(document: Mapping[str, Any]) -> Message:
    """Return the record of a document, with everything that decoding needs."""
    headers = {
        "source": document["source"],
        "event_id": document["event_id"],
        # Whether the record had this header is unknown. It matters only if a time was replaced, so set it then.
        "received_at": document["received_at"] if document.get("client_at") else None,
        "topic": document["name"] if document["source"] == "webhook" else None,
        # It decides which referrers are the shop's own.
        "shop_domain": document.get("shop_domain"),
    }
    return Message(
        origin=msgspec.convert(document["kafka"], Origin),
        key=f"{document['shop_id']}:{document['client_id']}".encode(),
        value=_ENCODER.encode(document["payload"]),
        headers=tuple((name, value.encode()) for name, value in headers.items() if value),
        timestamp=to_millis(document["received_at"]),
    )


def _activity(document: Mapping[str, Any]) -> Activity:
    return Activity(document["shop_id"], document["client_id"], to_millis(document["occurred_at"]))


def _outline(document: Mapping[str, Any], sites: Sites) -> Event:
    site = sites.of(document["shop_id"], document.get("shop_domain"))
    no_client, bot = is_no_client(document["client_id"]), document.get("bot") is True
    return Event(
        shop_id=document["shop_id"],
        client_id=document["client_id"],
        event_id=document["event_id"],
        name=document["name"],
        source=document["source"],
        occurred_at=to_millis(document["occurred_at"]),
        received_at=to_millis(document["received_at"]),
        origin=msgspec.convert(document["kafka"], Origin),
        payload=b"",
        referrer=document.get("referrer"),
        came_from=site.came_from(document.get("url"), document.get("referrer")),
        ad=None if no_client or bot or not document.get("ad") else msgspec.convert(document["ad"], Ad),
        bot=bot,
        anonymous=no_client,
    )


# --- Queries ---


def on_days(days: Iterable[str]) -> Query:
    """Query events of some days (UTC)."""
    return _any_of(_within(UTC.span(first, last)) for first, last in stretches(days))


def on_shop_days(days: Iterable[str], shops: ShopDays) -> Query:
    """Query events of some days of their shops, and some events of adjacent hours: the caller checks each one's day.

    Shops of one time zone share a query. If the shops are too many to name, the query finds all events that may be of
    one of these days in any time zone.
    """
    if len(shops.zones) > MOST_NAMED:
        return on_days(days_beside(days))
    if not shops.zones:
        return on_days(days)
    runs = stretches(days)
    of_zone: dict[str, list[str]] = {}
    for shop, zone in shops.zones.items():
        of_zone.setdefault(zone, []).append(shop)
    known = [
        all_of({"terms": {"shop_id": sorted(own)}}, _within(ShopTime(zone).span(first, last)))
        for zone, own in sorted(of_zone.items())
        for first, last in runs
    ]
    others: Query = {"bool": {"must_not": {"terms": {"shop_id": sorted(shops.zones)}}}}
    unknown = [all_of(others, _within(UTC.span(first, last))) for first, last in runs]
    return _any_of([*known, *unknown])


def stretches(days: Iterable[str]) -> list[tuple[date, date]]:
    """Return consecutive days as pairs of the first and the last."""
    found: list[tuple[date, date]] = []
    for day in sorted({date.fromisoformat(text) for text in days}):
        if found and found[-1][1] + timedelta(days=1) == day:
            found[-1] = (found[-1][0], day)
        else:
            found.append((day, day))
    return found


def of_users(users: Iterable[str]) -> Query:
    """Query events of some users, and of others who share a shop with one of them and a client id with another."""
    shops, clients = zip(*(user.split(":", 1) for user in users))
    return all_of({"terms": {"shop_id": sorted(set(shops))}}, {"terms": {"client_id": sorted(set(clients))}})


def of_orders(shops: Iterable[str], names: Iterable[str]) -> Query:
    """Query events that name one of these order ids or tokens."""
    wanted = sorted(names)
    named = [{"terms": {field: wanted}} for field in _NAMES_OF_ORDERS]
    return all_of({"terms": {"shop_id": sorted(shops)}}, {"bool": {"should": named, "minimum_should_match": 1}})


WITH_ORDER: Query = {
    "bool": {"should": [{"exists": {"field": name}} for name in _NAMES_OF_ORDERS], "minimum_should_match": 1}
}
FROM_PIXEL: Query = {"bool": {"filter": [{"term": {"source": "pixel"}}], "must_not": [{"term": {"bot": True}}]}}
# Webhooks name a landing page, which is no visit.
WITH_AD: Query = {"bool": {"filter": [FROM_PIXEL, {"exists": {"field": "ad.platform"}}]}}


def all_of(*queries: Query) -> Query:
    """Query the documents that all of the queries find."""
    return {"bool": {"filter": list(queries)}}


def beyond(after: Mapping[int, int], upto: Mapping[int, int]) -> Query | None:
    """Query events with offsets above `after` and up to `upto`, by partition; None if there is no such offset."""
    ranges = [
        all_of(
            {"term": {"kafka.partition": partition}},
            {"range": {"kafka.offset": {"gt": after.get(partition, -1), "lte": last}}},
        )
        for partition, last in upto.items()
        if last > after.get(partition, -1)
    ]
    return {"bool": {"should": ranges, "minimum_should_match": 1}} if ranges else None


def before(first: Mapping[int, int]) -> Query:
    """Query events below the first offset of their partition, and those of partitions without one."""
    others = [
        all_of({"term": {"kafka.partition": partition}}, {"range": {"kafka.offset": {"gte": offset}}})
        for partition, offset in first.items()
    ]
    return {"bool": {"must_not": others}}


def of_records(places: Iterable[tuple[int, int]]) -> Query:
    """Query events of some records, by partition and offset."""
    offsets: dict[int, list[int]] = {}
    for partition, offset in places:
        offsets.setdefault(partition, []).append(offset)
    return _any_of(
        all_of({"term": {"kafka.partition": partition}}, {"terms": {"kafka.offset": own}})
        for partition, own in offsets.items()
    )


def _any_of(queries: Iterable[Query]) -> Query:
    return {"bool": {"should": list(queries), "minimum_should_match": 1}}


def _within(span: tuple[int, int]) -> Query:
    # The format of the mapping is strict and accepts no bare date.
    return {"range": {"occurred_at": {"gte": iso(span[0]), "lt": iso(span[1])}}}
