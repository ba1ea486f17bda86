"""Commands that need a server say in one line that it does not answer, although it accepts connections."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from tests.integration.test_cli import run
from truepixel_dagster.settings import Settings

SERVERS = {
    "Kafka": lambda settings, place: settings.model_copy(update={"kafka_bootstrap": place}),
    "Elasticsearch": lambda settings, place: settings.model_copy(update={"elasticsearch_url": f"http://{place}"}),
    "MongoDB": lambda settings, place: settings.model_copy(update={"mongodb_url": SecretStr(f"mongodb://{place}")}),
    "Redis": lambda settings, place: settings.model_copy(update={"redis_url": SecretStr(f"redis://{place}/0")}),
}


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("server", SERVERS)
def test_a_server_that_does_not_answer_is_one_line(settings: Settings, silent: str, server: str) -> None:
    away = SERVERS[server](settings.model_copy(update={"servers_identity": None}), silent)
    for command in ("setup", "drain", "audit"):
        done = run(away, command)
        assert done.returncode == 1
        assert done.stderr.startswith(f"Error: {server} at ")
        assert silent in done.stderr
        assert done.stderr.count("\n") == 1, done.stderr


@pytest.mark.parametrize(
    ("server", "command"),
    [
        ("Kafka", "generate --events 1"),
        ("Elasticsearch", "tables"),
        ("MongoDB", "dead-letters replay --yes"),
        ("Redis", "flush"),
    ],
)
def test_a_command_says_so_before_it_begins(settings: Settings, silent: str, server: str, command: str) -> None:
    done = run(SERVERS[server](settings.model_copy(update={"servers_identity": None}), silent), *command.split())
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"Error: {server} at ")
    assert done.stderr.count("\n") == 1, done.stderr


@pytest.mark.parametrize("command", ["report --shop 1 --json", "tables --json"])
def test_answers_need_no_redis(settings: Settings, silent: str, command: str) -> None:
    done = run(SERVERS["Redis"](settings.model_copy(update={"servers_identity": None}), silent), *command.split())
    assert "Redis" not in done.stderr
    assert done.stdout.startswith("{")


def test_a_command_that_needs_mongodb_alone_says_so_in_few_words(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        nothing = f"127.0.0.1:{server.getsockname()[1]}"
    away = SERVERS["MongoDB"](settings.model_copy(update={"servers_identity": None}), nothing)
    done = run(away, "shops", "list")
    assert done.returncode == 1
    *_, last = done.stderr.splitlines()
    refused = f"{nothing}: [Errno 111] Connection refused"
    begin = f"Error: MongoDB at {nothing}: no server answers ({refused}). `truepixel stack up`"
    assert last.startswith(begin)
    assert "Topology" not in done.stderr


@pytest.mark.parametrize("server", ["Kafka", "MongoDB", "Redis"])
def test_lag_needs_kafka_and_names_what_else_does_not_answer(settings: Settings, silent: str, server: str) -> None:
    done = run(SERVERS[server](settings.model_copy(update={"servers_identity": None}), silent), "lag")
    assert done.returncode == (1 if server == "Kafka" else 0)
    assert f"{server} at {silent}" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
