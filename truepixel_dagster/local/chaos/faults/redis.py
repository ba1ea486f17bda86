"""Redis answers, but has no memory left, or no data."""

from __future__ import annotations

import time
from random import Random

from truepixel_dagster.local.chaos.faults.hit import Hit, ended
from truepixel_dagster.local.chaos.pipeline import Pipeline
from truepixel_dagster.resources import open_stores


def maxmemory(pipeline: Pipeline, rng: Random) -> Hit:
    """Redis has no memory left for writes for 3–8 s"""
    seconds = rng.uniform(3, 8)
    with open_stores(pipeline.direct) as stores:
        client = stores.redis.client
        try:
            client.config_set("maxmemory", "1")
            time.sleep(seconds)
        finally:
            client.config_set("maxmemory", "0")
    return ended(f"Redis' maxmemory reached for {seconds:.1f} s")
