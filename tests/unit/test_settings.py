from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from truepixel_dagster.pipeline.memory_budget import check_memory
from truepixel_dagster.settings import MIB, Settings, SettingsError, load_settings


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_every_setting_has_a_default() -> None:
    assert load_settings().topic == "truepixel.events"


def test_the_namespace_prefixes_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUEPIXEL_NAMESPACE", "shop-eu")
    settings = load_settings()
    assert (settings.topic, settings.dead_topic) == ("shop-eu.events", "shop-eu.events.dead")
    assert settings.group.startswith("shop-eu")
    assert settings.database == "shop-eu"


def test_dot_env_is_read(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("TRUEPIXEL_LANES=3\n")
    assert load_settings().lanes == 3


def test_a_variable_precedes_dot_env_and_an_argument_precedes_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("TRUEPIXEL_LANES=3\nTRUEPIXEL_RETRIES=3\n")
    monkeypatch.setenv("TRUEPIXEL_LANES", "5")
    settings = load_settings()
    assert (settings.lanes, settings.retries, settings.pool_workers) == (5, 3, 2)
    assert Settings(lanes=7).lanes == 7


def test_paths_are_those_of_the_working_folder_wherever_a_process_works_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ca.pem").write_text("")
    for name, value in {"DATA_DIR": "data", "PRIVACY_DIR": "answers", "KAFKA_SSL_CA_LOCATION": "ca.pem"}.items():
        monkeypatch.setenv(f"TRUEPIXEL_{name}", value)
    settings = load_settings()
    assert (settings.data_dir, settings.privacy_dir) == (tmp_path / "data", tmp_path / "answers")
    assert settings.kafka_ssl_ca_location == str(tmp_path / "ca.pem")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("TRUEPIXEL_LANES", "0"),
        ("TRUEPIXEL_BATCH_BYTES", "many"),
        ("TRUEPIXEL_NAMESPACE", "Not Good"),
        ("TRUEPIXEL_NAMESPACE", "shop.events"),
        ("TRUEPIXEL_NAMESPACE", "local"),
        ("TRUEPIXEL_ATTRIBUTION_WINDOW_DAYS", "400"),
        ("TRUEPIXEL_KAFKA_SECURITY_PROTOCOL", "TLS"),
    ],
)
def test_a_bad_setting_is_named_in_one_line(variable: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert str(caught.value).startswith(f"{variable}={value!r}: ")
    assert "\n" not in str(caught.value)


def test_secrets_are_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUEPIXEL_MONGODB_URL", "mongodb://me:hunter2@h")
    monkeypatch.setenv("TRUEPIXEL_KAFKA_SASL_PASSWORD", "hunter2")
    assert "hunter2" not in repr(load_settings())


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg2"])
def test_an_address_of_postgresql_gets_the_driver_of_dagster(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUEPIXEL_POSTGRES_URL", f"{scheme}://me:hunter2@h:5/d")
    settings = load_settings()
    assert settings.postgres_url is not None
    assert settings.postgres_url.get_secret_value() == "postgresql+psycopg2://me:hunter2@h:5/d"
    assert "hunter2" not in repr(settings)


@pytest.mark.parametrize(
    "url", ["postgresql+psycopg://me:hunter2@h/d", "hunter2", "mysql://me:hunter2@h", "postgres://"]
)
def test_an_address_of_another_kind_is_refused_and_not_shown(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUEPIXEL_POSTGRES_URL", url)
    with pytest.raises(SettingsError, match=r"^TRUEPIXEL_POSTGRES_URL: must be postgresql\+psycopg2://") as caught:
        load_settings()
    assert "hunter2" not in str(caught.value)


def test_an_empty_address_of_postgresql_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUEPIXEL_POSTGRES_URL", "")
    assert load_settings().postgres_url is None


def test_budgets_that_do_not_fit_the_memory_limit_are_refused() -> None:
    with pytest.raises(SettingsError, match="TRUEPIXEL_BATCH_BYTES"):
        check_memory(Settings(batch_bytes=256 * MIB), limit=512 * MIB)


def test_the_defaults_fit_the_pod_and_no_limit_is_no_error() -> None:
    check_memory(Settings(), limit=512 * MIB)
    check_memory(Settings(batch_bytes=256 * MIB), limit=None)


HALF_SET = [
    ({"KAFKA_SECURITY_PROTOCOL": "SASL_SSL"}, "TRUEPIXEL_KAFKA_SASL_USERNAME"),
    ({"REDIS_USERNAME": "me"}, "TRUEPIXEL_REDIS_PASSWORD must be set, because TRUEPIXEL_REDIS_USERNAME is"),
    ({"MONGODB_PASSWORD": "hunter2"}, "TRUEPIXEL_MONGODB_USERNAME must be set"),
    ({"ELASTICSEARCH_URL": "https://me:hunter2@h"}, "TRUEPIXEL_ELASTICSEARCH_URL: must hold no password"),
    ({"REDIS_CA_CERTS": __file__}, "TRUEPIXEL_REDIS_URL must begin with rediss://"),
    ({"ELASTICSEARCH_CA_CERTS": __file__}, "TRUEPIXEL_ELASTICSEARCH_URL must begin with https://"),
    (
        {"KAFKA_SSL_CA_LOCATION": "/nowhere/ca.pem"},
        "TRUEPIXEL_KAFKA_SSL_CA_LOCATION='/nowhere/ca.pem': is not a readable file",
    ),
    ({"SECRETS_DIR": "/nowhere"}, "TRUEPIXEL_SECRETS_DIR='/nowhere': there is no such folder"),
]


@pytest.mark.parametrize(("set_", "said"), HALF_SET)
def test_an_incomplete_setting_is_one_line_that_names_the_variable(
    set_: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in set_.items():
        monkeypatch.setenv(f"TRUEPIXEL_{name}", value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_secrets_may_be_files_and_are_reloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUEPIXEL_SECRETS_DIR", str(tmp_path))
    for password in ("first", "second"):
        (tmp_path / "TRUEPIXEL_REDIS_PASSWORD").write_text(f"{password}\n")
        found = load_settings().redis_password
        assert found is not None
        assert found.get_secret_value() == password
    monkeypatch.setenv("TRUEPIXEL_REDIS_PASSWORD", "of the environment")
    assert load_settings().redis_password == SecretStr("of the environment")


def test_an_empty_variable_overrides_env_files(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, field in Settings.model_fields.items():
        if field.default is None:
            monkeypatch.setenv(f"TRUEPIXEL_{name.upper()}", "")
    settings = load_settings()
    assert [name for name, value in settings if value is None] == [
        name for name, field in Settings.model_fields.items() if field.default is None
    ]
