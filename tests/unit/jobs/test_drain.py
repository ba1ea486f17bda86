"""The settings that a process of Dagster receives."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from truepixel_dagster.instance.history import HistoryUnavailable, check_history
from truepixel_dagster.instance.process import dagster_home, environment
from truepixel_dagster.local.addresses import settings_at
from truepixel_dagster.local.servers import Address
from truepixel_dagster.settings import Settings, load_settings


def test_a_process_of_dagster_reads_the_same_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(data_dir=tmp_path, slots_per_run=7, redis_url=SecretStr("redis://:secret@127.0.0.1:1/3"))
    for name, value in environment(settings).items():
        monkeypatch.setenv(name, value)
    assert load_settings() == settings


def test_the_address_of_the_history_is_in_no_file(tmp_path: Path) -> None:
    url = SecretStr("postgresql+psycopg2://me:hunter2@127.0.0.1:1/d")
    settings = Settings(data_dir=tmp_path, postgres_url=url)
    written = (dagster_home(settings) / "dagster.yaml").read_text()
    assert "hunter2" not in written
    assert written.count("{env: TRUEPIXEL_POSTGRES_URL}") == 3
    assert environment(settings)["TRUEPIXEL_POSTGRES_URL"] == url.get_secret_value()


def test_processes_of_settings_without_postgresql_ignore_the_environments_postgresql(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRUEPIXEL_POSTGRES_URL", "postgresql+psycopg2://me@127.0.0.1:1/d")
    settings = Settings().model_copy(update={"data_dir": tmp_path, "postgres_url": None})
    for name, value in environment(settings).items():
        monkeypatch.setenv(name, value)
    assert load_settings().postgres_url is None
    assert "PooledSqlite" in (dagster_home(settings) / "dagster.yaml").read_text()


@pytest.mark.parametrize("address", ["me:hunt/er2@h:5/d", "me:hunter2@h:port/d", "me:hunter2@127.0.0.1:1/d"])
def test_a_history_that_cannot_be_reached_is_one_line_without_its_password(address: str) -> None:
    with pytest.raises(HistoryUnavailable, match="TRUEPIXEL_POSTGRES_URL") as caught:
        check_history(Settings(postgres_url=SecretStr(f"postgresql://{address}")))
    assert "er2" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_variable_in_lower_case_does_not_override_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("truepixel_kafka_bootstrap", "production:9092")
    given = environment(Settings(data_dir=tmp_path, kafka_bootstrap="127.0.0.1:1"))
    assert [value for name, value in given.items() if name.upper() == "TRUEPIXEL_KAFKA_BOOTSTRAP"] == ["127.0.0.1:1"]


def test_settings_of_an_own_stack_reach_nothing_beyond_it() -> None:
    secret, away = SecretStr("hunter2"), SecretStr("http://production.example/hook")
    theirs = Settings(_env_file=None).model_copy(
        update={
            "kafka_sasl_username": "me",
            "kafka_sasl_password": secret,
            "mongodb_password": secret,
            "alert_webhook_url": away,
            "dagster_url": "http://ui.example",
            "privacy_dir": Path("/exports"),
        }
    )
    own = settings_at(theirs, *(Address("127.0.0.1", port) for port in (1, 2, 3, 4)))
    assert not {name for name, value in own if value is not None} & {
        *("kafka_sasl_username", "kafka_sasl_password", "mongodb_password", "alert_webhook_url", "dagster_url"),
        *("privacy_dir", "postgres_url"),
    }
