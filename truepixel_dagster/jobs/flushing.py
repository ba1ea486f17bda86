"""A flush as an asset's body: run it, and report its figures."""

from __future__ import annotations

from collections.abc import Callable

import dagster as dg
import msgspec

from truepixel_dagster.flush import FlushRefused, FlushResult
from truepixel_dagster.jobs.tally import peak_memory
from truepixel_dagster.resources import open_stores
from truepixel_dagster.settings import load_settings
from truepixel_dagster.stores.elasticsearch import ElasticsearchStore
from truepixel_dagster.stores.errors import Unavailable
from truepixel_dagster.stores.redis import RedisStore


def flushing(flush: Callable[[RedisStore, ElasticsearchStore], FlushResult]) -> dg.MaterializeResult[None]:
    """Run a flush and report its figures.

    Raises:
        Failure: A store does not answer, or Elasticsearch refused documents; what was not written stays in Redis.
    """
    try:
        with open_stores(load_settings()) as stores:
            result = flush(stores.redis, stores.elasticsearch)
    except (Unavailable, FlushRefused) as error:
        raise dg.Failure(
            description=f"{error}. Nothing is lost: the next flush goes on", allow_retries=False
        ) from error
    figures = {name.replace("_", " "): value for name, value in msgspec.to_builtins(result).items()}
    return dg.MaterializeResult(metadata={**figures, "peak memory (MiB)": round(peak_memory() / 2**20, 1)})
