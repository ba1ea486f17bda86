"""Open the stores that the settings name; no other module does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from truepixel_dagster.events.sites import Sites
from truepixel_dagster.events.source_additions import SourcesError
from truepixel_dagster.events.sources import load
from truepixel_dagster.settings import Settings, SettingsError
from truepixel_dagster.stores.elasticsearch import ElasticsearchStore
from truepixel_dagster.stores.epoch_keeper import EpochKeeper
from truepixel_dagster.stores.errors import Unavailable
from truepixel_dagster.stores.mongodb import MongoStore
from truepixel_dagster.stores.redis import RedisStore


class Stores(NamedTuple):
    """The three stores that stages write to."""

    elasticsearch: ElasticsearchStore
    mongodb: MongoStore
    redis: RedisStore


@contextmanager
def open_stores(settings: Settings) -> Iterator[Stores]:
    """Open the three stores; they connect at the first call, or at once to check the identity of the servers.

    Raises:
        AccessDenied, Unavailable: Any call within the block failed because of a server; the message is one line.
        WrongServer: A server does not show the expected identity.
    """
    with _opened(settings) as stores:
        if settings.servers_identity:
            for store in stores:
                store.prove(settings.servers_identity)
        yield stores


@contextmanager
def _opened(settings: Settings) -> Iterator[Stores]:
    with (
        closing(ElasticsearchStore(settings.elasticsearch())) as elasticsearch,
        closing(MongoStore(settings.mongodb())) as mongodb,
        closing(RedisStore(settings.redis())) as redis,
    ):
        stores = Stores(elasticsearch, mongodb, redis)
        redis.epochs = EpochKeeper(mongodb, redis)
        try:
            yield stores
        except Exception as error:
            for store in stores:
                if said := store.plain(error):
                    raise said from error
            raise


def sites_of(settings: Settings) -> Sites:
    """Return the tables of sites, with the operator's additions.

    Raises:
        SettingsError: The operator's additions to the tables of sources are invalid.
    """
    try:
        sources = load(Path(settings.sources_file) if settings.sources_file else None)
    except SourcesError as error:
        raise SettingsError(f"TRUEPIXEL_SOURCES_FILE: {error}") from None
    return Sites(sources, count_bots=settings.count_bots, lines=settings.lines_per_event)


def missing_servers(settings: Settings, names: Sequence[str] = Stores._fields) -> list[Unavailable]:
    """Return an error for each store that is unreachable or denies access: its address, and the setting to check.

    Arguments:
        settings: The settings.
        names: The stores to ask, by their names in `Stores`.
    """
    missing: list[Unavailable] = []
    with _opened(settings) as stores:
        for name in names:
            try:
                getattr(stores, name).ping()
            except Unavailable as error:
                missing.append(error)
    return missing
