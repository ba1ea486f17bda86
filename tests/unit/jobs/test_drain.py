"""What a process of Dagster is told of the settings."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from truepixel_dagster.jobs.drain import environment
from truepixel_dagster.settings import Settings, load_settings


def test_a_process_of_dagster_reads_the_same_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(data_dir=tmp_path, slots_per_run=7, redis_url=SecretStr("redis://:secret@127.0.0.1:1/3"))
    for name, value in environment(settings).items():
        monkeypatch.setenv(name, value)
    assert load_settings() == settings
