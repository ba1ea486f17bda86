"""Faults of a Redis that answers: it has no memory left, or has lost its data."""

from __future__ import annotations

import time
from random import Random

from truepixel_dagster.local.chaos.faults.hit import Hit, ended
from truepixel_dagster.local.chaos.pipeline import Pipeline
from truepixel_dagster.resources import open_stores


def flushed(pipeline: Pipeline, rng: Random) -> Hit:
    """Redis is emptied (FLUSHALL); lanes stop until `truepixel restore-redis` has rebuilt it"""
    with open_stores(pipeline.direct) as stores:
        stores.redis.client.flushall()
    time.sleep(rng.uniform(2, 6))
    pipeline.operate("restore-redis")
    return ended("Redis emptied, and rebuilt by `truepixel restore-redis`")


def append_only_file(pipeline: Pipeline, rng: Random) -> Hit:
    """Redis is killed and its append-only file cut off by up to 200 KiB; `truepixel restore-redis` rebuilds it"""
    pipeline.kill_server("redis")
    (file,) = (pipeline.settings.data_dir / "stack" / "redis" / "data" / "appendonlydir").glob("*.incr.aof")
    size, cut = file.stat().st_size, rng.randint(1, 200 * 1024)
    with file.open("r+b") as aof:
        aof.truncate(max(0, size - cut))
    pipeline.start_servers()
    time.sleep(rng.uniform(2, 6))
    pipeline.operate("restore-redis")
    return ended(f"{min(cut, size):,} bytes cut off Redis' append-only file, and rebuilt by `truepixel restore-redis`")


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
