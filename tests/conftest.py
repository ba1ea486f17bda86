"""What holds for all tests."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from truepixel_dagster.settings import Settings

PROJECT = Path(__file__).resolve().parents[1]


class _DotEnv(os.PathLike[str]):
    """The `.env` of the working folder, but for the project's own: that one is of whoever works here."""

    def __fspath__(self) -> str:
        return os.devnull if Path.cwd() == PROJECT else ".env"


Settings.model_config["env_file"] = _DotEnv()  # type: ignore[typeddict-item]

pytest.register_assert_rewrite("tests.event_log")

# Machines are noisy: how long an example takes says nothing about the code.
settings.register_profile("steady", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")
