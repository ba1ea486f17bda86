"""`truepixel settings` shows sources and bounds beside values, and names variables that are no settings."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from truepixel_dagster.cli import main
from truepixel_dagster.settings import SECRETS_DIR, Settings
from truepixel_dagster.settings_described import bounds_of, source_of, unknown_variables


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_nearest_setting_of_a_mistyped_variable_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUEPIXEL_NAMESPCE", "staging")
    (tmp_path / ".env").write_text("TRUEPIXEL_LANE=3\nTRUEPIXEL_LANES=3\nTRUEPIXEL_QQQQQQ=1\n")
    found = dict(unknown_variables())
    assert (
        found.items()
        >= {
            "TRUEPIXEL_NAMESPCE": "TRUEPIXEL_NAMESPACE",
            "TRUEPIXEL_LANE": "TRUEPIXEL_LANES",
            "TRUEPIXEL_QQQQQQ": None,
        }.items()
    )
    assert "TRUEPIXEL_LANES" not in found
    done = CliRunner().invoke(main, ["settings", "--json"])
    warning = "warning: TRUEPIXEL_NAMESPCE is not a setting; did you mean TRUEPIXEL_NAMESPACE?"
    assert warning in " ".join(done.stderr.split())


def test_the_source_of_a_value_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "TRUEPIXEL_LINGER").write_text("0.1")
    (tmp_path / ".env").write_text("TRUEPIXEL_IDLE=1\nTRUEPIXEL_LANES=2\n")
    monkeypatch.setenv(SECRETS_DIR, str(secrets))
    monkeypatch.setenv("TRUEPIXEL_LANES", "3")
    monkeypatch.delenv("TRUEPIXEL_NAMESPACE", raising=False)
    sources = {name: source_of(name) for name in ("lanes", "idle", "linger", "namespace")}
    assert sources == {"lanes": "environment", "idle": ".env", "linger": "file", "namespace": "default"}


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ("lanes", "at least 1, at most 1,000"),
        ("attribution_half_life_days", "more than 0, at most 365"),
        ("collector_consent", "strip or drop"),
        ("elasticsearch_url", "^https?://"),
        ("history_start", ""),
    ],
)
def test_bounds_are_words(field: str, said: str) -> None:
    assert bounds_of(field) == said


def test_every_setting_is_shown_whole_on_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TRUEPIXEL_LANES", "3")
    done = CliRunner().invoke(main, ["settings"])
    assert done.exit_code == 0, done.output
    assert "TRUEPIXEL_LANES=3\n" in done.stdout
    assert "(from environment, default 1, at least 1, at most 1,000)" in done.stdout
    for name in Settings.model_fields:
        assert f"TRUEPIXEL_{name.upper()}=" in done.stdout
