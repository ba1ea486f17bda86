"""A variable that a process was started with precedes `.env`, even after Dagster has loaded the file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from truepixel_dagster.instance.process import ROOT

# Load `.env` as Dagster's command line does, and print the variables that our code then gets.
PROGRAM = """
import os, sys
from dagster._cli.utils import _inject_local_env_file
from truepixel_dagster.settings import load_settings
import logging
with _inject_local_env_file(logging.getLogger()):
    if sys.argv[1] == "instance":
        import dagster
        dagster.DagsterInstance.from_config(os.environ["HOME_OF_DAGSTER"]).dispose()
    else:
        load_settings()
    names = ("TRUEPIXEL_NAMESPACE", "TRUEPIXEL_LANES", "OTHER", "TRUEPIXEL_DAGSTER_URL")
    print(*map(os.environ.get, names))
"""


def printed(folder: Path, way: str, dotenv: str, **variables: str) -> list[str]:
    (folder / ".env").write_text(dotenv)
    (folder / "home").mkdir()
    (folder / "home" / "dagster.yaml").write_text((ROOT / "dagster.yaml").read_text())
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TRUEPIXEL_")}
    env = {**kept, "PYTHONPATH": str(ROOT), "HOME_OF_DAGSTER": str(folder / "home"), **variables}
    command = [sys.executable, "-c", PROGRAM, way]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=True)
    return done.stdout.split()


@pytest.mark.parametrize("way", ["instance", "settings"])
def test_a_variable_that_is_given_wins_and_the_others_come_from_the_file(tmp_path: Path, way: str) -> None:
    dotenv = (
        "export TRUEPIXEL_NAMESPACE='production'\nTRUEPIXEL_LANES=7\nOTHER=${HOME}/x\nTRUEPIXEL_DAGSTER_URL=http://x\n"
    )
    given = {"TRUEPIXEL_NAMESPACE": "staging", "OTHER": "mine", "TRUEPIXEL_DAGSTER_URL": ""}
    # The last variable is set, to an empty text.
    assert printed(tmp_path, way, dotenv, **given) == ["staging", "7", "mine"]


def test_without_a_file_nothing_is_changed(tmp_path: Path) -> None:
    assert printed(tmp_path, "settings", "", TRUEPIXEL_NAMESPACE="staging") == ["staging", "None", "None", "None"]
