"""The event history, read in pages of bounded size, each user's events in the order of their offsets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import date, timedelta
from functools import partial
from itertools import groupby
from typing import Any, TypeVar

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
# Elasticsearch takes so many terms in a query, and several times as many.
MOST_NAMED = 10_000
Query = Mapping[str, Any]
T = TypeVar("T")

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
_BY_OFFSET = ("kafka.partition", "kafka.offset", "_shard_doc")
# Decimals are written back as the numbers that they were.
_ENCODER = msgspec.json.Encoder(decimal_format="number")


class History:
    """The event history in Elasticsearch. Payloads are decoded and let go, so that a page is small."""

    def __init__(self, store: ElasticsearchStore, sites: Sites) -> None:
        self._store = store
        #: What is known of the shops' sites.
        self.sites = sites

    def with_sites(self, sites: Sites) -> History:
        """The same history, read with what is known of the shops' sites by then."""
        return History(self._store, sites)

    def refresh(self) -> None:
        """Make what was indexed until now visible to the reads that follow."""
        self._store.refresh()

    def events(self, query: Query) -> Iterator[list[Event]]:
        """Events as the stages see them, without their payload."""
        return self._pages(query, None, partial(event_of, sites=self.sites))

    def outlines(self, query: Query, sort: Sequence[str] = _BY_OFFSET) -> Iterator[list[Event]]:
        """Events as far as their documents tell without the payload: no items, no order, no customer."""
        return self._pages(query, _FIELDS, partial(_outline, sites=self.sites), sort)

    def documents(self, query: Query) -> Iterator[list[Any]]:
        """The documents themselves, as search hits, in no order."""
        return chunks(self._store.scan(f"{EVENTS}-", query, size=PAGE), PAGE)

    def messages(self, query: Query) -> Iterator[list[Message]]:
        """The records that documents were made of, as far as it matters to decoding."""
        return self._pages(query, None, message_of)

    def found(self, places: Sequence[tuple[str, str]]) -> list[Found | None]:
        """The documents of some indices and ids as they are now, numbers as they were written."""
        return self._store.mget(places)

    def _pages(
        self, query: Query, fields: Sequence[str] | None, read: Callable[[Any], T], sort: Sequence[str] = _BY_OFFSET
    ) -> Iterator[list[T]]:
        hits = self._store.scan(f"{EVENTS}-", query, fields=fields, sort=sort, size=PAGE)
        return chunks(_readable(one_of_each_record(hits), read), PAGE)


def one_of_each_record(hits: Iterable[Any]) -> Iterator[Any]:
    """One document of each record, of those that follow one another: the one of the newest edition.

    There are two where a rebuild was ended between writing a document under another id and removing the old one.
    """
    for record, same in groupby(hits, key=lambda hit: hit["_source"].get("kafka")):
        if record is None:
            yield from same
        else:
            yield min(same, key=lambda hit: is_older(hit["_source"]))


def _readable(hits: Iterable[Any], read: Callable[[Any], T]) -> Iterator[T]:
    """What documents say; one that cannot be read is logged and skipped, and keeps no other back."""
    for hit in hits:
        try:
            yield read(hit["_source"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            why = f"field {error} is missing" if isinstance(error, KeyError) else str(error)
            report(f"Elasticsearch document {hit['_id']!r} of {hit['_index']}: {why}")


@contextmanager
def open_history(settings: Settings, stores: Stores) -> Iterator[History]:
    """The history, with numbers as they were written, and with what is known of shops now.

    Raises:
        SettingsError: What an operator adds to the tables of sources cannot be used.
        Unavailable: MongoDB does not answer.
    """
    with closing(ElasticsearchStore(settings, exact=True)) as store:
        yield History(store, sites_now(settings, stores))


def sites_now(settings: Settings, stores: Stores) -> Sites:
    """What is known of all shops' sites now.

    Raises:
        SettingsError: What an operator adds to the tables of sources cannot be used.
        Unavailable: MongoDB does not answer.
    """
    return sites_of(settings).with_shops({id_: found.shop for id_, found in shops.known(stores.mongodb)})


def event_of(document: Mapping[str, Any], sites: Sites = NOTHING_KNOWN) -> Event:
    """The event that a document of the history was made of, without its payload.

    Arguments:
        document: The history's.
        sites: What is known of the shops' sites.

    Raises:
        ValueError: Its payload is none that this version understands.
    """
    message = message_of(document)
    event = decode(message, sites)
    if isinstance(event, Undecodable):
        raise ValueError(f"the event of {message.origin} in the history cannot be read: {event.reason}")  # noqa: TRY004
    # The document's times stand: which of them were replaced is not to be decided again without the record.
    return msgspec.structs.replace(
        event,
        payload=b"",
        occurred_at=to_millis(document["occurred_at"]),
        received_at=to_millis(document["received_at"]),
        client_at=document.get("client_at"),
    )


def message_of(document: Mapping[str, Any]) -> Message:
    """The record that a document of the history was made of, as far as it matters to decoding."""
    headers = {
        "source": document["source"],
        "event_id": document["event_id"],
        # Whether the record had this header is not known. It matters only where a time was replaced: so it is again.
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
    """Events of some days (UTC)."""
    return _any_of(_within(UTC.span(first, last)) for first, last in stretches(days))


def on_shop_days(days: Iterable[str], shops: ShopDays) -> Query:
    """Events of some days of their shops, and some of the hours beside: whoever reads them looks at each one's day.

    Shops of one time zone are asked for together. Where they are too many to be named, all events are found that may be
    of one of these days anywhere.
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
    """Return days as first and last of those that follow one another."""
    found: list[tuple[date, date]] = []
    for day in sorted({date.fromisoformat(text) for text in days}):
        if found and found[-1][1] + timedelta(days=1) == day:
            found[-1] = (found[-1][0], day)
        else:
            found.append((day, day))
    return found


def of_users(users: Iterable[str]) -> Query:
    """Events of some users, and of others who share a shop with one of them and a client id with another."""
    shops, clients = zip(*(user.split(":", 1) for user in users))
    return all_of({"terms": {"shop_id": sorted(set(shops))}}, {"terms": {"client_id": sorted(set(clients))}})


def of_orders(shops: Iterable[str], names: Iterable[str]) -> Query:
    """Events that name one of these order ids or tokens."""
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
    """What all of the queries find."""
    return {"bool": {"filter": list(queries)}}


def beyond(after: Mapping[int, int], upto: Mapping[int, int]) -> Query | None:
    """Events of an offset above `after` and not above `upto`, by partition; None where there is no such offset."""
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
    """Events below the first offset of their partition, and those of partitions that have none."""
    others = [
        all_of({"term": {"kafka.partition": partition}}, {"range": {"kafka.offset": {"gte": offset}}})
        for partition, offset in first.items()
    ]
    return {"bool": {"must_not": others}}


def of_records(places: Iterable[tuple[int, int]]) -> Query:
    """Events of some records, by partition and offset."""
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
    # In the format of the mapping: a strict one, which takes no bare date.
    return {"range": {"occurred_at": {"gte": iso(span[0]), "lt": iso(span[1])}}}
