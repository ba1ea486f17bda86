"""What a process of Dagster is told of the settings."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from truepixel_dagster.instance.history import HistoryUnavailable, check_history
from truepixel_dagster.jobs.drain import dagster_home, environment
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


def test_settings_without_postgresql_keep_their_processes_from_that_of_the_environment(
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
