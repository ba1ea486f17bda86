"""Dagster's storage in a real PostgreSQL with a password and TLS: how each wrong credential is reported."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from tests.event_log import batches
from tests.integration.locked_servers import PASSWORD, LockedPostgres, make_certificates
from tests.integration.test_cli import truepixel
from truepixel_dagster.instance.history import HistoryUnavailable, check_history
from truepixel_dagster.instance.postgres_event_log import PooledPostgresEventLogStorage
from truepixel_dagster.instance.process import dagster_home
from truepixel_dagster.jobs.drain import drain
from truepixel_dagster.local.servers import Address, free_ports
from truepixel_dagster.local.stack import Stack
from truepixel_dagster.settings import Settings

WRONG = "canary-wrong-4712"


@pytest.fixture(scope="module")
def postgres(open_folder: Path) -> Iterator[LockedPostgres]:
    stack = Stack(Settings(_env_file=None).model_copy(update={"data_dir": open_folder}), tied_to_parent=True)
    address = Address("127.0.0.1", free_ports(1)[0])
    server = LockedPostgres(address, open_folder / "stack" / "postgres", stack.jars, make_certificates(open_folder))
    stack.servers = [server]
    stack.up(lambda _: None)
    try:
        yield server
    finally:
        stack.down(lambda _: None)


@pytest.fixture(autouse=True)
def no_password_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PGPASSWORD", raising=False)
    monkeypatch.setenv("PGPASSFILE", str(tmp_path / "none"))


@pytest.fixture
def settings(postgres: LockedPostgres, tmp_path: Path) -> Settings:
    return at(Settings(_env_file=None).model_copy(update={"data_dir": tmp_path}), postgres.url)


def at(settings: Settings, url: str) -> Settings:
    return settings.model_copy(update={"postgres_url": SecretStr(url)})


def test_with_the_right_password_everything_of_dagsters_is_written_over_tls(
    settings: Settings, postgres: LockedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRUEPIXEL_POSTGRES_URL", postgres.url)
    check_history(settings)
    with dg.DagsterInstance.from_config(str(dagster_home(settings))) as instance:
        run_id = batches.execute_in_process(instance=instance).run_id
        run = instance.get_run_by_id(run_id)
        assert run is not None
        assert run.is_success
        storage = instance.event_log_storage
        assert isinstance(storage, PooledPostgresEventLogStorage)
        with storage._engine.connect() as connection:
            assert connection.scalar(sa.text("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")) is True
    assert "canary" not in truepixel(settings, "migrate")
    files = [path for path in settings.data_dir.rglob("*") if path.is_file()]
    assert [path for path in files if b"canary" in path.read_bytes()] == []


def test_the_password_may_stand_in_the_environment_or_in_a_file(
    settings: Settings, postgres: LockedPostgres, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    without = at(settings, postgres.url.replace(f":{PASSWORD}", ""))
    with monkeypatch.context() as only_here:
        only_here.setenv("PGPASSWORD", PASSWORD)
        check_history(without)
    own = tmp_path / "passwords"
    own.write_text(f"{postgres.address}:{postgres.OWNER}:{postgres.OWNER}:{PASSWORD}\n")
    own.chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(own))
    check_history(without)


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        (f":{PASSWORD}@", f":{WRONG}@", "authentication failed: .*password authentication failed"),
        (f":{PASSWORD}@", "@", "authentication failed: .*no password supplied"),
        ("/truepixel?", "/postgres?", r"permission denied: .*no pg_hba\.conf entry"),
        ("sslmode=verify-full", "sslmode=disable", r"permission denied: .*no encryption\. Check .*sslmode"),
        ("ca.pem", "other-ca.pem", r"its certificate is not trusted: .*certificate verify failed\. Check sslrootcert"),
        ("ca.pem", "no-ca.pem", r"its certificate is not trusted: .*root certificate file .*\. Check sslrootcert"),
    ],
    ids=["wrong password", "no password", "another database", "no TLS", "another authority", "no such authority"],
)
def test_a_command_says_in_one_line_what_is_refused(
    settings: Settings, postgres: LockedPostgres, right: str, wrong: str, message: str
) -> None:
    locked_out = at(settings, postgres.url.replace(right, wrong))
    with pytest.raises(HistoryUnavailable, match=message) as caught:
        drain(locked_out, lambda _: None)
    said = truepixel(locked_out, "migrate", code=1)
    assert said == f"Error: {caught.value}\n"
    assert said.startswith(f"Error: PostgreSQL at {postgres.address}: ")
    assert said.count("\n") == 1
    assert "TRUEPIXEL_POSTGRES_URL" in said
    assert "canary" not in said
    assert "stack up" not in said
    program = ["start", sys.executable, "-c", "print('started')"]
    assert truepixel(locked_out, *program, code=1) == said
    assert truepixel(settings, *program) == "started\n"
