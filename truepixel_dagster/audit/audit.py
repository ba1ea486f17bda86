"""Is what the stores hold what the topic says they should? Read the topic, ask the oracle, compare."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from truepixel_dagster.audit import oracle
from truepixel_dagster.audit.compare import Actual, Difference, differences
from truepixel_dagster.events.event import Message
from truepixel_dagster.resources import Stores, open_stores
from truepixel_dagster.settings import Settings
from truepixel_dagster.stores.mongodb import AD_LEADS, CUSTOMERS
from truepixel_dagster.stream import dead_letters, topics

# What of an event document is compared; the raw payload is what the oracle reads from the topic itself.
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
    "product_ids",
    "order_id",
    "value",
    "kafka",
)


class Audit(msgspec.Struct, frozen=True):
    """What an audit looked at and every difference that it found."""

    records: int
    events: int
    duplicates: int
    dead_letters: int
    attributions: int
    differences: list[Difference]


def audit(settings: Settings, progress: Callable[[int], None] = lambda _: None) -> Audit:
    """Compare the stores with what the independent oracle expects of the topic, read from its beginning.

    Flush first: the oracle knows no buffer. Memory grows with the number of records, about 5 KiB each.

    Arguments:
        settings: The pipeline's settings.
        progress: Told the number of records read, every 1,000.

    Raises:
        KafkaUnavailable, Unavailable: A server does not answer.
    """
    with open_stores(settings) as stores:
        stores.elasticsearch.refresh()
        replayed = stores.redis.replayed()
        actual = read_actual(settings, stores)
    records = []
    for count, message in enumerate(topics.read_all(settings), start=1):
        records.append(_record(message))
        if count % 1000 == 0:
            progress(count)
    expected = oracle.expected(
        records,
        window_days=settings.attribution_window_days,
        half_life_days=settings.attribution_half_life_days,
        touches_kept=settings.touches_kept,
        touch_repeat_seconds=settings.touch_repeat,
        winners={id_: _at(doc["kafka"]) for id_, doc in actual.events.items()},
        firsts={id_: _at(doc["sightings"][0]["kafka"]) for id_, doc in actual.attributions.items()},
        late=replayed,
    )
    found = differences(expected, actual)
    return Audit(
        records=len(records),
        events=len(expected.events),
        duplicates=expected.duplicates,
        dead_letters=len(expected.dead),
        attributions=len(expected.attributions),
        differences=found,
    )


def read_actual(settings: Settings, stores: Stores) -> Actual:
    """Everything that the stores hold of the contract's documents, and the dead letters that have not come back."""

    def elasticsearch(name: str, fields: list[str] | None = None) -> dict[str, dict[str, object]]:
        return {hit["_id"]: hit["_source"] for hit in stores.elasticsearch.scan(name, fields=fields)}

    def mongodb(name: str) -> dict[str, dict[str, object]]:
        return {document["_id"]: document for document in stores.mongodb.collection(name).find()}

    replayed = stores.redis.replayed()
    letters = ((dead.letter.origin, dead.error) for dead in dead_letters.read(settings))
    dead = {(origin.partition, origin.offset): error for origin, error in letters}
    return Actual(
        events=elasticsearch("events-", list(EVENT_FIELDS)),
        dead={at: error for at, error in dead.items() if at not in replayed},
        ad_leads=mongodb(AD_LEADS),
        attributions=elasticsearch("attributions"),
        customers=mongodb(CUSTOMERS),
        product_stats=elasticsearch("product-stats-"),
        weekly_visitors=elasticsearch("weekly-visitors"),
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
