"""Namespaces whose names begin alike, on the same servers: none reads or changes what another holds."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.integration.driving import audited, drain, flush, send, set_environment
from truepixel_dagster.audit.account import account
from truepixel_dagster.cli import main
from truepixel_dagster.local.traffic import FIRST, traffic
from truepixel_dagster.privacy import requests as privacy
from truepixel_dagster.provision import provision
from truepixel_dagster.resources import Stores, open_stores
from truepixel_dagster.retention import drop_outdated
from truepixel_dagster.settings import Settings
from truepixel_dagster.stores import redactions
from truepixel_dagster.stream.topics import lag

# Endings that make another namespace of one; some of them are names of our own indices.
LONGER = ("-events", "-events-2026", "-attributions", "-product-stats-x", "x")


@pytest.fixture
def shorter(servers: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """The namespace with the shortest name; it is set up as the last one and is the environment's."""
    name = f"n{uuid.uuid4().hex[:8]}"
    update = {"linger": 0.05, "idle": 0.5, "event_retention_months": 600, "kafka_partitions": 1, "data_dir": tmp_path}
    own = servers.model_copy(update={**update, "namespace": name})
    set_environment(monkeypatch, own)
    for module in (privacy, redactions):
        monkeypatch.setattr(module, "KNOWN_SECONDS", 0.2)
    yield own
    with open_stores(own) as stores:
        for index in stores.elasticsearch.client.indices.get(index=f"{name}*", allow_no_indices=True):
            stores.elasticsearch.client.indices.delete(index=index)
        for database in stores.mongodb.client.list_database_names():
            if database.startswith(name):
                stores.mongodb.client.drop_database(database)


def held(settings: Settings, stores: Stores) -> dict[str, Any]:
    """Read a namespace by exact names, without the adapters: documents, mappings, keys and offsets."""
    found: dict[str, Any] = {}
    client, own = stores.elasticsearch.client, f"{settings.namespace}-"
    client.indices.refresh(index=f"{settings.namespace}*")
    months = {kind: f"{own}{kind}-20" for kind in ("events", "product-stats")}
    singles = {f"{own}{kind}" for kind in ("attributions", "weekly-visitors")}
    for index in client.indices.get(index=f"{own}*"):
        rest = [index.removeprefix(start) for start in months.values() if index.startswith(start)]
        if index in singles or any("-" not in tail for tail in rest):
            hits = client.search(index=index, size=10_000, seq_no_primary_term=True)["hits"]["hits"]
            found[index] = {hit["_id"]: (hit["_source"], hit["_seq_no"]) for hit in hits}
            found[f"mapping of {index}"] = client.indices.get_mapping(index=index)[index]
    database = stores.mongodb.client[settings.database]
    for name in database.list_collection_names():
        found[name] = {str(document["_id"]): document for document in database[name].find()}
    for key in stores.redis.client.scan_iter(f"{settings.namespace}:*"):
        found[key] = stores.redis.client.execute_command("DUMP", key, NEVER_DECODE=True)
    found["offsets"] = lag(settings.kafka())
    return found


def test_namespaces_that_begin_alike_hold_their_own_and_touch_nothing_else(
    shorter: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = [(r.key, r.value, r.headers) for r in traffic(240, seed=3, shops=2, malformed=0, profile=FIRST)]
    longer = [
        shorter.model_copy(update={"namespace": shorter.namespace + tail, "data_dir": shorter.data_dir / tail})
        for tail in LONGER
    ]
    # The namespaces that are set up later find the templates of the others.
    for number, settings in enumerate([*longer[::2], shorter, *longer[1::2]], start=1):
        assert provision(settings)
        send(settings, records[: 20 * number])
    for settings in [*longer, shorter]:
        drain(settings)
    for settings in longer:
        with open_stores(settings) as stores:
            audited(settings, stores)
            counts = account(settings)
            assert (counts.lost, counts.produced, counts.lag) == ([], counts.indexed + counts.duplicates, 0)
    with open_stores(shorter) as stores:
        flush(stores)
        before = {settings.namespace: held(settings, stores) for settings in longer}
        assert all(len(own) > 8 for own in before.values())
        audited(shorter, stores)
        own = account(shorter)
        assert own.produced == own.indexed + own.duplicates
        assert stores.elasticsearch.count("") < sum(map(len, before[longer[0].namespace].values()))
        # Everything that sets up, reports, redacts and prunes.
        shop = records[0][0].split(b":")[0].decode()
        for command in (["setup"], ["report", "--shop", shop], ["privacy", "redact", "--yes", "--shop", shop]):
            result = CliRunner().invoke(main, command)
            assert result.exit_code == 0, result.output
        assert drop_outdated(shorter.model_copy(update={"event_retention_months": 0}), stores, date(2100, 1, 1))
        assert stores.elasticsearch.indices("events-") == []
        assert {settings.namespace: held(settings, stores) for settings in longer} == before
    for settings in longer:
        with open_stores(settings) as stores:
            audited(settings, stores)
    requests = CliRunner().invoke(main, ["privacy", "requests", "--json"])
    assert [entry["state"] for entry in json.loads(requests.stdout)] == ["done"]
