"""The folders beside the package and the files of a release match the package."""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path

import dagster as dg

import assets
import sensors
from truepixel_dagster.definitions import definitions

ROOT = Path(__file__).parents[3]


def test_the_folders_beside_the_package_name_everything_that_dagster_sees() -> None:
    named = [vars(assets)[name] for name in assets.__all__] + [vars(sensors)[name] for name in sensors.__all__]
    flat = [one for each in named for one in (each if isinstance(each, list) else [each])]
    parts = (definitions.assets, definitions.asset_checks, definitions.sensors, definitions.schedules)
    seen: list[object] = [one for part in parts for one in part or ()]
    assert {id(one) for one in flat} == {id(one) for one in seen}
    assert any(isinstance(one, dg.ScheduleDefinition) for one in flat)


def test_the_version_is_the_changelogs_newest() -> None:
    newest = re.search(r"^## (\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest
    assert newest[1] == version("truepixel-dagster")
    assert f"\nappVersion: {newest[1]}\n" in (ROOT / "deploy/helm/truepixel/Chart.yaml").read_text()
