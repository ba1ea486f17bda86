"""Audit the stores: read the topic, let the oracle compute the expected documents, and compare."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path

import msgspec

from truepixel_dagster.audit import oracle
from truepixel_dagster.audit.compare import Actual, Difference, differences
from truepixel_dagster.audit.registry import changed_since, oracle_shops
from truepixel_dagster.audit.registry import excused as of_registry
from truepixel_dagster.audit.scope import Outside, Scope, judged, moved_users, of_order, outside
from truepixel_dagster.audit.shape import well_formed
from truepixel_dagster.chunks import chunks
from truepixel_dagster.dead_letters import topic as dead_letters
from truepixel_dagster.events.decode import decode
from truepixel_dagster.events.event import Event, Message
from truepixel_dagster.events.identifiers import shop_and_client
from truepixel_dagster.events.sites import Sites
from truepixel_dagster.flush import flush_product_stats, flush_weekly_visitors
from truepixel_dagster.redis_state import check_applied
from truepixel_dagster.resources import Stores, open_stores, sites_of
from truepixel_dagster.settings import Settings
from truepixel_dagster.source_log import count_of, known, lost_records, verified
from truepixel_dagster.stores import shops
from truepixel_dagster.stores.mongodb import AD_LEADS, CUSTOMERS
from truepixel_dagster.stores.redactions import Redactions
from truepixel_dagster.stream.events_log import EventsLog

CHUNK = 1000
# The compared fields of an event document. The raw payload is not one: the oracle reads it from the topic itself.
EVENT_FIELDS = (
    "shop_id",
    "client_id",
    "event_id",
    "name",
    "source",
    "occurred_at",
    "received_at",
    "url",
    "referrer",
    "ad",
    "channel",
    "product_ids",
    "order_id",
    "checkout_token",
    "cart_token",
    "value",
    "client_at",
    "bot",
    "sales_channel",
    "test",
    "kafka",
)


class Audit(msgspec.Struct, frozen=True):
    """Hold what an audit checked and every difference that it found. `not_judged` counts events outside of its range.

    `excused` has differences in the order of events of users whose key moved to another partition when partitions were
    added (`scope.moved_users`), and differences of shops that became known while their events were counted
    (`registry`). `lost_to_retention` counts offsets that retention removed before they were read; `lost_ranges` names
    them. An audit cannot judge them.
    """

    records: int
    events: int
    duplicates: int
    dead_letters: int
    attributions: int
    not_judged: int
    differences: list[Difference]
    excused: list[Difference] = []
    lost_to_retention: int = 0
    lost_ranges: list[str] = []


def audit(settings: Settings, progress: Callable[[int], None] = lambda _: None, *, since: int | None = None) -> Audit:
    """Compare the stores with what the independent oracle expects from the topic; the stream may run meanwhile.

    Buffered counters are flushed first. Records beyond the committed offsets, before `since`, or removed by retention
    are not judged, and neither are documents that depend on them (see `scope`). The oracle gets records after
    redaction. Memory grows by about 5 KiB for each record.

    Arguments:
        settings: The pipeline's settings.
        progress: Called with the number of records read, every 1,000.
        since: Only records written to Kafka at this time or later (milliseconds since the epoch); all by default.

    Raises:
        LogChanged: The topic is not the log that was processed.
        StateLost: Redis lacks counts of committed records; nothing is flushed.
        KafkaUnavailable, Unavailable: A server does not answer.
        FlushRefused: Elasticsearch refused counters.
    """
    with open_stores(settings) as stores:
        kept = verified(settings.kafka(), stores)
        log = EventsLog(settings.kafka(), kept.generation)
        scope = _scope(log, since)
        check_applied(settings.kafka(), stores, scope.end, log.base)
        flush_product_stats(stores.redis, stores.elasticsearch)
        flush_weekly_visitors(stores.redis, stores.elasticsearch)
        replayed = stores.redis.replayed()
        actual, odd = well_formed(read_actual(settings, stores, replayed))
        registry = dict(shops.known(stores.mongodb))
        left_out = outside(actual, scope, oracle_shops(registry))
        records, count = [], 0
        first: dict[str, int] = {}
        sites = sites_of(settings)
        redactions = Redactions(stores.mongodb, sites)
        for chunk in chunks(log.read_all(first=scope.first, end=scope.end), CHUNK):
            shown = redactions.shown(chunk)
            for message in shown:
                shop = shop_and_client(message)[0]
                first[shop] = min(message.timestamp, first.get(shop, message.timestamp))
            records += [_record(message) for message in shown if not _repeats_one_outside(message, left_out, sites)]
            count += len(chunk)
            progress(count)
        # Read the changes last: partitions may have been added during the audit.
        moved = moved_users(actual.events, (known(stores.mongodb) or kept).changes)
        lost = lost_records(stores.mongodb)
    more = Path(settings.sources_file).read_text("utf-8") if settings.sources_file else "{}"
    expected = oracle.expected(
        records,
        channels=oracle.Channels.with_more(more),
        count_bots=settings.count_bots,
        window_days=settings.attribution_window_days,
        half_life_days=settings.attribution_half_life_days,
        touches_kept=settings.touches_kept,
        touch_repeat_seconds=settings.touch_repeat,
        sightings_kept=settings.sightings_kept,
        products_per_event=settings.products_per_event,
        lines_per_event=settings.lines_per_event,
        clients_per_order=settings.clients_per_order,
        winners={id_: _at(doc["kafka"]) for id_, doc in actual.events.items()},
        late=replayed,
        shops=oracle_shops(registry),
    )
    sides = judged(expected, actual, left_out, scope)
    found = differences(*sides)
    excused = of_order(found, moved, actual)
    excused += of_registry(_without(found, excused), *sides, changed_since(registry, first), left_out)
    return Audit(
        records=len(records),
        events=len(expected.events),
        duplicates=expected.duplicates,
        dead_letters=len(expected.dead),
        attributions=len(expected.attributions),
        not_judged=len(left_out.events),
        differences=[*odd, *_without(found, excused)],
        excused=excused,
        lost_to_retention=count_of(lost),
        lost_ranges=[str(each) for each in lost],
    )


def _without(found: Sequence[Difference], excused: Sequence[Difference]) -> list[Difference]:
    """Return the differences that are not excused. By identity: there may be tens of thousands of both."""
    known = set(map(id, excused))
    return [difference for difference in found if id(difference) not in known]


def _scope(log: EventsLog, since: int | None) -> Scope:
    partitions = log.lag()
    first = log.offsets_at(since) if since is not None else {}
    return Scope(
        {entry.partition: max(entry.low, first.get(entry.partition, 0)) for entry in partitions},
        {entry.partition: entry.committed or log.base for entry in partitions},
    )


def _repeats_one_outside(message: Message, left_out: Outside, sites: Sites) -> bool:
    """Return whether a record is a duplicate of an event that is not judged."""
    event = decode(message, sites) if left_out.events else None
    return isinstance(event, Event) and event.document_id in left_out.events


def read_actual(settings: Settings, stores: Stores, replayed: AbstractSet[tuple[int, int]]) -> Actual:
    """Return all documents of the contract in the stores, and the waiting dead letters.

    The event history is read last, so that it has the events of all other documents.
    """

    def elasticsearch(name: str, fields: list[str] | None = None) -> dict[str, dict[str, object]]:
        stores.elasticsearch.refresh()
        return {hit["_id"]: hit["_source"] for hit in stores.elasticsearch.scan(name, fields=fields)}

    def mongodb(name: str) -> dict[str, dict[str, object]]:
        return {document["_id"]: document for document in stores.mongodb.collection(name).find()}

    letters = ((dead.letter.origin, dead.error) for dead in dead_letters.read(settings.kafka()))
    dead = {(origin.partition, origin.offset): error for origin, error in letters}
    return Actual(
        dead={at: error for at, error in dead.items() if at not in replayed},
        weekly_visitors=elasticsearch("weekly-visitors"),
        product_stats=elasticsearch("product-stats-"),
        customers=mongodb(CUSTOMERS),
        attributions=elasticsearch("attributions"),
        # A document without touches belongs to a user whom only an order's notes name.
        ad_leads={id_: lead for id_, lead in mongodb(AD_LEADS).items() if lead.get("touches")},
        events=elasticsearch("events-", list(EVENT_FIELDS)),
    )


def _record(message: Message) -> oracle.Record:
    origin = message.origin
    return oracle.Record(
        topic=origin.topic,
        partition=origin.partition,
        offset=origin.offset,
        timestamp_ms=message.timestamp,
        key=message.key,
        value=message.value,
        headers=list(message.headers),
    )


def _at(kafka: dict[str, int]) -> tuple[int, int]:
    return kafka["partition"], kafka["offset"]
