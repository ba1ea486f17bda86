"""The identity of the local stack's servers: each shows and keeps it, and other servers are refused."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from tests.integration.driving import send
from truepixel_dagster.identity import new_identity
from truepixel_dagster.instance.history import HistoryUnavailable, check_history
from truepixel_dagster.instance.process import ended, execute
from truepixel_dagster.local import ephemeral
from truepixel_dagster.local.ephemeral import ephemeral_stack, identified
from truepixel_dagster.local.servers import Elasticsearch, Postgres
from truepixel_dagster.local.stack import Stack
from truepixel_dagster.local.traffic import FIRST, traffic
from truepixel_dagster.provision import provision
from truepixel_dagster.resources import open_stores
from truepixel_dagster.settings import Settings
from truepixel_dagster.stores.errors import WrongServer
from truepixel_dagster.stream.client_config import client_config
from truepixel_dagster.stream.errors import WrongCluster
from truepixel_dagster.stream.topics import lag

NOTHING_WRITTEN = "Nothing was written to it"


def of_others(settings: Settings) -> Settings:
    return settings.model_copy(update={"servers_identity": new_identity()})


def test_every_server_shows_the_identity_of_its_stack(servers: Settings) -> None:
    own = identified(servers)
    assert client_config(own.kafka())
    with open_stores(own) as stores:
        assert [store.identity() for store in stores] == [own.servers_identity] * 3


@pytest.mark.parametrize("name", ["elasticsearch", "mongodb", "redis"])
def test_a_store_of_others_is_refused_in_one_line(servers: Settings, name: str) -> None:
    with open_stores(servers) as stores, pytest.raises(WrongServer, match=NOTHING_WRITTEN) as caught:
        getattr(stores, name).prove(new_identity())
    assert str(caught.value).startswith({"elasticsearch": "Elast", "mongodb": "Mongo", "redis": "Redis"}[name])
    assert "\n" not in str(caught.value)


def test_kafka_of_others_is_refused_in_one_line(servers: Settings) -> None:
    with pytest.raises(WrongCluster, match=rf"^Kafka at {servers.kafka_bootstrap} .*{NOTHING_WRITTEN}") as caught:
        client_config(of_others(servers).kafka())
    assert "\n" not in str(caught.value)


def test_postgresql_of_others_is_refused_in_one_line(open_folder: Path) -> None:
    only = (Postgres.name,)
    with ephemeral_stack(open_folder / "identity", with_postgres=True, only=only) as settings:
        check_history(identified(settings))
        with pytest.raises(HistoryUnavailable, match=NOTHING_WRITTEN):
            check_history(of_others(settings))


def test_nothing_is_set_up_on_servers_of_others(servers: Settings) -> None:
    namespace = f"t{uuid.uuid4().hex[:12]}"
    with pytest.raises(WrongServer):
        provision(of_others(servers.model_copy(update={"namespace": namespace})))
    with open_stores(servers) as stores:
        assert not stores.elasticsearch.client.indices.exists_index_template(name=f"{namespace}-events")
        assert namespace not in stores.mongodb.client.list_database_names()


def test_a_worker_with_servers_of_others_commits_nothing_and_says_why(settings: Settings) -> None:
    send(settings, [(r.key, r.value, r.headers) for r in traffic(50, seed=3, shops=2, profile=FIRST)])
    log = settings.data_dir / "run.log"
    run = execute(of_others(settings), "process_events", {}, log)
    with ended([run]):
        assert run.wait(timeout=300) != 0
    assert NOTHING_WRITTEN in log.read_text()
    assert [entry.committed for entry in lag(settings.kafka())] == [None] * 3


def test_a_stack_whose_addresses_others_answer_is_not_used(
    servers: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if another process takes a port just before our own server does."""
    ports = [one.address.port for one in Stack(servers).servers]
    monkeypatch.setattr(ephemeral, "free_ports", lambda count: ports)
    monkeypatch.setattr(Stack, "up", lambda self, progress: None)
    with pytest.raises(WrongCluster, match=NOTHING_WRITTEN), ephemeral_stack(tmp_path):
        pytest.fail("the port of the other process was used")


def test_a_stack_of_an_earlier_version_gets_an_identity_and_keeps_its_data(tmp_path: Path) -> None:
    with ephemeral_stack(tmp_path, only=(Elasticsearch.name,)) as settings:
        one = Stack(settings, only=(Elasticsearch.name,), tied_to_parent=True)
        one.down(print)
        (tmp_path / "stack" / "identity").write_text("truepixel")  # the name that each cluster had
        one.up(print)
        with open_stores(settings) as stores:
            assert stores.elasticsearch.identity() == "truepixel"
            stores.elasticsearch.client.index(index="kept", id="1", document={"x": 1}, refresh=True)
        one.down(print)
        (tmp_path / "stack" / "identity").unlink()
        one.up(print)
        with open_stores(settings) as stores:
            assert stores.elasticsearch.identity() == one.identity != "truepixel"
            assert stores.elasticsearch.client.get(index="kept", id="1")["_source"] == {"x": 1}
