"""Server settings that would lose acknowledged writes are named, with the command that corrects them."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from tests.integration.driving import drain, record, send
from truepixel_dagster.durability import Facts, ask, warnings
from truepixel_dagster.resources import Stores
from truepixel_dagster.settings import Settings
from truepixel_dagster.stream.topics import TopicDurability

GOOD = Facts(
    topics={"t": TopicDurability(3, 2, False)},
    redis={"appendonly": "yes", "maxmemory-policy": "noeviction"},
    journal=True,
    async_indices=[],
)


def test_what_setup_creates_on_the_real_servers_passes_the_checks(settings: Settings, stores: Stores) -> None:
    page = {"id": "e1", "name": "page_viewed", "clientId": "c", "timestamp": "2026-01-05T10:00:00Z"}
    send(settings, [record("shop:c", page)])
    drain(settings)
    facts = ask(settings.kafka(), stores)
    assert facts.topics == dict.fromkeys((settings.topic, settings.dead_topic), TopicDurability(1, 1, False))
    assert facts.journal is True
    assert warnings(facts, settings.kafka_replication) == []


@pytest.fixture
def forgetful(stores: Stores) -> Iterator[None]:
    stores.redis.client.config_set("maxmemory-policy", "allkeys-lru")
    stores.redis.client.config_set("appendonly", "no")
    yield
    stores.redis.client.config_set("appendonly", "yes")
    stores.redis.client.config_set("maxmemory-policy", "noeviction")


@pytest.mark.usefixtures("forgetful")
def test_a_forgetful_redis_is_named_with_what_to_type(settings: Settings, stores: Stores) -> None:
    found = "\n".join(warnings(ask(settings.kafka(), stores), settings.kafka_replication))
    assert "`CONFIG SET appendonly yes`" in found
    assert "`CONFIG SET maxmemory-policy noeviction`" in found


def test_an_index_whose_translog_lags_behind_is_named(settings: Settings, stores: Stores) -> None:
    index = stores.elasticsearch.index("attributions")
    stores.elasticsearch.client.indices.put_settings(index=index, settings={"index.translog.durability": "async"})
    (found,) = warnings(ask(settings.kafka(), stores), settings.kafka_replication)
    assert index in found
    assert "durability async" in found


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"topics": {"t": TopicDurability(3, 1, False)}}, "min.insync.replicas=1"),
        ({"topics": {"t": TopicDurability(3, 2, True)}}, "unclean.leader.election.enable=true"),
        ({"topics": {"t": TopicDurability(2, 1, False)}}, "has 2 replicas"),
        ({"redis": None}, "CONFIG GET is refused"),
        ({"journal": False}, "without its journal"),
    ],
)
def test_each_weakness_is_one_line_that_names_it(change: dict[str, object], said: str) -> None:
    settings = Settings(kafka_replication=3)
    assert warnings(GOOD, settings.kafka_replication) == []
    (line,) = warnings(msgspec.structs.replace(GOOD, **change), settings.kafka_replication)
    assert said in line
