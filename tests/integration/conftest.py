"""The real servers, started once for the session on free ports; each test works in a namespace of its own."""

from __future__ import annotations

import json
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from truepixel_dagster.local.addresses import settings_at
from truepixel_dagster.local.ephemeral import ephemeral_stack
from truepixel_dagster.local.servers import Address
from truepixel_dagster.provision import provision
from truepixel_dagster.resources import Stores, open_stores
from truepixel_dagster.settings import Settings
from truepixel_dagster.stores.elasticsearch import ElasticsearchStore
from truepixel_dagster.stores.mongodb import MongoStore
from truepixel_dagster.stores.redis import RedisStore


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[Settings]:
    if running := pytestconfig.getoption("servers"):
        folder, *places = json.loads(running)
        there = settings_at(Settings(_env_file=None), *(Address(*place) for place in places))
        yield there.model_copy(update={"data_dir": Path(folder)})
        return
    with ephemeral_stack(tmp_path_factory.mktemp("servers")) as settings:
        yield settings


@pytest.fixture
def bare_settings(servers: Settings, tmp_path: Path) -> Iterator[Settings]:
    """Settings of a namespace in which nothing has been set up yet."""
    namespace = f"t{uuid.uuid4().hex[:12]}"
    # The tests' events keep their dates, whatever today is.
    kept = {"event_retention_months": 600}
    settings = servers.model_copy(
        update={"namespace": namespace, "data_dir": tmp_path, "linger": 0.05, "idle": 0.5, **kept}
    )
    yield settings
    with open_stores(settings) as stores:
        indices = stores.elasticsearch.client.indices
        if names := ",".join(indices.get(index=f"{namespace}-*", allow_no_indices=True)):
            indices.delete(index=names)
        # Each template makes the setup of all later tests slower.
        stores.elasticsearch.client.options(ignore_status=404).indices.delete_index_template(name=f"{namespace}-*")
        stores.mongodb.client.drop_database(settings.database)


@pytest.fixture
def settings(bare_settings: Settings) -> Settings:
    provision(bare_settings)
    return bare_settings


@pytest.fixture
def stores(settings: Settings) -> Iterator[Stores]:
    with open_stores(settings) as opened:
        yield opened


@pytest.fixture
def redis_store(stores: Stores) -> RedisStore:
    return stores.redis


@pytest.fixture
def elasticsearch_store(stores: Stores) -> ElasticsearchStore:
    return stores.elasticsearch


@pytest.fixture
def mongo_store(stores: Stores) -> MongoStore:
    return stores.mongodb


@pytest.fixture(scope="module")
def open_folder() -> Iterator[Path]:
    """A folder that PostgreSQL's user may enter."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)
