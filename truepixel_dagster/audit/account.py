"""Account for every Kafka record from the servers alone: indexed, a duplicate of an indexed one, or a dead letter.

An indexed record with a dead letter of a later stage counts as indexed. Reprocessed dead letters do not count.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from truepixel_dagster.chunks import chunks
from truepixel_dagster.dead_letters import topic as dead_letters
from truepixel_dagster.events.decode import decode
from truepixel_dagster.events.event import Event, Message
from truepixel_dagster.events.origin import Origin
from truepixel_dagster.events.sites import Sites
from truepixel_dagster.resources import Stores, open_stores, sites_of
from truepixel_dagster.settings import Settings
from truepixel_dagster.source_log import checked
from truepixel_dagster.stores.mongodb import AD_LEADS, CUSTOMERS
from truepixel_dagster.stores.redactions import Redactions

MAX_NAMED = 100
CHUNK = 1000


class Account(msgspec.Struct, frozen=True):
    """Count what the servers hold. `lost` names up to 100 unaccounted records.

    Records of redacted shops are not counted.
    """

    produced: int
    indexed: int
    duplicates: int
    dead_letters: int
    ad_leads: int
    attributions: int
    customers: int
    product_stats: int
    weekly_visitors: int
    lag: int
    lost: list[str]


def account(settings: Settings) -> Account:
    """Read the topic and the stores, and account for every record.

    Memory grows by about 100 bytes for each record.

    Raises:
        KafkaUnavailable, Unavailable: A server does not answer.
    """
    with open_stores(settings) as stores:
        log = checked(settings.kafka(), stores)
        stores.elasticsearch.refresh()
        indexed = _indexed(stores)
        origins = set(indexed.values())
        dead = _dead(settings, stores) - origins
        produced = duplicates = 0
        lost: list[str] = []
        sites = sites_of(settings)
        redactions = Redactions(stores.mongodb, sites)
        for message in _readable(redactions, log.read_all()):
            produced += 1
            origin = str(message.origin)
            if origin in origins or origin in dead:
                continue
            if _is_duplicate(message, indexed, sites):
                duplicates += 1
            elif len(lost) < MAX_NAMED:
                lost.append(origin)
        count = stores.elasticsearch.count
        return Account(
            produced=produced,
            indexed=count("events-"),
            duplicates=duplicates,
            dead_letters=len(dead),
            ad_leads=stores.mongodb.count(AD_LEADS),
            attributions=count("attributions"),
            customers=stores.mongodb.count(CUSTOMERS),
            product_stats=count("product-stats-"),
            weekly_visitors=count("weekly-visitors"),
            lag=sum(entry.lag for entry in log.lag()),
            lost=lost,
        )


def _readable(redactions: Redactions, messages: Iterator[Message]) -> Iterator[Message]:
    for chunk in chunks(messages, CHUNK):
        yield from redactions.shown(chunk)


def _indexed(stores: Stores) -> dict[str, str]:
    """Return the origin of each document's record, by document id."""
    documents = stores.elasticsearch.scan("events-", fields=["kafka"])
    kafka = ((hit["_id"], hit["_source"]["kafka"]) for hit in documents)
    return {id_: str(msgspec.convert(origin, Origin)) for id_, origin in kafka}


def _dead(settings: Settings, stores: Stores) -> set[str]:
    """Return the origins of the records whose dead letters wait."""
    replayed = stores.redis.replayed()
    found = {dead.letter.origin for dead in dead_letters.read(settings.kafka())}
    return {str(origin) for origin in found if (origin.partition, origin.offset) not in replayed}


def _is_duplicate(message: Message, indexed: dict[str, str], sites: Sites) -> bool:
    event = decode(message, sites)
    return isinstance(event, Event) and event.document_id in indexed
