"""Faults of an Elasticsearch that answers: blocks, closed indices, limits, missing templates, recovering shards."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from random import Random
from typing import Any

from elasticsearch import ApiError, Elasticsearch

from truepixel_dagster.local.chaos.faults.hit import Hit, ended
from truepixel_dagster.local.chaos.pipeline import Pipeline
from truepixel_dagster.local.chaos.visits import visits
from truepixel_dagster.local.chaos.waiting import ChaosFailed, until

UNDO_SECONDS = 60.0
OTHER, OTHER_SHARDS = "other", 150


def blocked(pipeline: Pipeline, rng: Random) -> Hit:
    """Indices refuse writes for 4–10 s, by an operator's block or that of a full disk"""
    block = pipeline.unused.choice("block", ("write", "read_only_allow_delete", "read_only"), rng)
    name = pipeline.unused.choice("blocked", ("events-*", "attributions", "*"), rng)
    seconds, setting = rng.uniform(4, 10), f"index.blocks.{block}"
    pattern = f"{pipeline.settings.namespace}-{name}"
    with _client(pipeline) as client, _undone(lambda: _set(client, pattern, setting, None)):
        _set(client, pattern, setting, True)
        time.sleep(seconds)
    return ended(f"{setting} on {pattern} for {seconds:.1f} s")


def closed(pipeline: Pipeline, rng: Random) -> Hit:
    """An index is closed for 4–10 s, and opened again"""
    name = pipeline.unused.choice("closed", ("events-*", "attributions"), rng)
    seconds, pattern = rng.uniform(4, 10), f"{pipeline.settings.namespace}-{name}"
    with _client(pipeline) as client:
        # Elasticsearch closes indices by name only, not by pattern.
        names = ",".join(client.indices.get(index=pattern))
        with _undone(lambda: client.indices.open(index=names)):
            client.indices.close(index=names)
            time.sleep(seconds)
    return ended(f"{pattern} closed for {seconds:.1f} s")


def shard_limit(pipeline: Pipeline, rng: Random) -> Hit:
    """No further index can be created (`cluster.max_shards_per_node`) when events of a new month arrive"""
    with _client(pipeline) as client:
        shards = int(client.cluster.health()["active_shards"])
        with _cluster(client, {"cluster.max_shards_per_node": shards}):
            return _new_month(pipeline, rng, f"shard limit of {shards}")


def no_auto_create(pipeline: Pipeline, rng: Random) -> Hit:
    """A write creates no index (`action.auto_create_index: false`) when events of a new month arrive"""
    with _client(pipeline) as client, _cluster(client, {"action.auto_create_index": "false"}):
        return _new_month(pipeline, rng, "action.auto_create_index=false")


def template(pipeline: Pipeline, rng: Random) -> Hit:
    """The template of events is missing when events of a new month arrive; `truepixel setup` restores it"""
    with _client(pipeline) as client:
        client.indices.delete_index_template(name=f"{pipeline.settings.namespace}-events")
        try:
            month = _new_month(pipeline, rng, "template of events removed")
        finally:
            pipeline.operate("setup")
        hit = ended(f"{month.what}, restored by `truepixel setup`")
        pipeline.wait_until_processed(pipeline.high(), UNDO_SECONDS)
        for index, found in client.indices.get_mapping(index=f"{pipeline.settings.namespace}-events-*").items():
            if found["mappings"].get("dynamic") != "strict":
                raise ChaosFailed(f"{index} was created without the template: its mapping is not the pipeline's")
    return hit


def recovering(pipeline: Pipeline, _rng: Random) -> Hit:
    """Elasticsearch is killed while it has 150 additional shards, so that it answers before all have recovered"""
    with _client(pipeline) as client:
        shards = {"number_of_shards": OTHER_SHARDS, "number_of_replicas": 0}
        client.indices.create(index=OTHER, settings=shards, wait_for_active_shards=0)
        with _undone(lambda: client.indices.delete(index=OTHER, ignore_unavailable=True)):
            pipeline.kill_server("elasticsearch")
            pipeline.start_servers()
            return ended(f"elasticsearch killed and started again with {OTHER_SHARDS} shards more")


def breaker(pipeline: Pipeline, rng: Random) -> Hit:
    """Circuit breakers answer 429 for 4–10 s"""
    name, limit = pipeline.unused.choice(
        "breaker",
        (("network.breaker.inflight_requests.limit", "16kb"), ("indices.breaker.total.limit", "1%")),
        rng,
    )
    seconds = rng.uniform(4, 10)
    with _client(pipeline) as client, _cluster(client, {name: limit}):
        time.sleep(seconds)
    return ended(f"{name}={limit} for {seconds:.1f} s")


def too_large(pipeline: Pipeline, rng: Random) -> Hit:
    """A proxy answers 413 to bodies over 64 KiB for 5–10 s, although Elasticsearch would accept them"""
    seconds, proxy = rng.uniform(5, 10), pipeline.proxies["elasticsearch"]
    try:
        proxy.limit_bodies(64 * 1024)
        time.sleep(seconds)
    finally:
        proxy.heal()
    return ended(f"bodies over 64 KiB answered with 413 for {seconds:.1f} s")


def _new_month(pipeline: Pipeline, rng: Random, what: str) -> Hit:
    """Send events of a month that has no index yet, and let them wait for a while."""
    month, seconds = pipeline.unused.month(), rng.uniform(4, 8)
    pipeline.send(visits(f"month-{rng.getrandbits(40):x}", 20, month))
    time.sleep(seconds)
    return ended(f"{what} for {seconds:.1f} s when {month:%Y-%m} came")


def _set(client: Elasticsearch, pattern: str, setting: str, value: bool | None) -> None:
    client.indices.put_settings(index=pattern, settings={setting: value})


@contextmanager
def _client(pipeline: Pipeline) -> Iterator[Elasticsearch]:
    """Connect to Elasticsearch without the proxy, as an operator does."""
    with Elasticsearch(pipeline.direct.elasticsearch_url, request_timeout=UNDO_SECONDS) as client:
        yield client


@contextmanager
def _cluster(client: Elasticsearch, settings: dict[str, Any]) -> Iterator[None]:
    """Change settings of the cluster during the block."""
    with _undone(lambda: client.cluster.put_settings(persistent=dict.fromkeys(settings))):
        client.cluster.put_settings(persistent=settings)
        yield


@contextmanager
def _undone(undo: Callable[[], Any]) -> Iterator[None]:
    """Undo the fault at the end of the block; retry while Elasticsearch refuses for lack of memory."""

    def done() -> bool:
        try:
            undo()
        except ApiError as error:
            if error.status_code not in (429, 503):
                raise
            return False
        return True

    try:
        yield
    except Exception:
        # The block's error says more than an error of the undoing.
        with suppress(Exception):
            until(done, UNDO_SECONDS, "Elasticsearch to take back a setting")
        raise
    until(done, UNDO_SECONDS, "Elasticsearch to take back a setting")
