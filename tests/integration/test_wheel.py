"""The package as a wheel: in an empty environment and an empty folder, on servers that settings name.

No network is needed. The wheel is built with the setuptools of this environment and installed without dependencies; a
path file lets the new environment find these in this environment's packages, after its own.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import time
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from truepixel_dagster.instance.process import environment
from truepixel_dagster.local.programs import end_tree
from truepixel_dagster.settings import Settings
from truepixel_dagster.stream.topics import lag

PROJECT = Path(__file__).parents[2]
SAMPLES = PROJECT / "tests" / "samples"
# The sources of a wheel. They are copied, because setuptools leaves a folder `build` where it works.
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "truepixel_dagster")
SECONDS = 300


def done(*command: str, cwd: Path, env: dict[str, str] | None = None) -> str:
    result = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert result.returncode == 0, (result.stdout + result.stderr)[-6000:]
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, from a copy of the sources."""
    for needed in ("pip", "setuptools"):
        if importlib.util.find_spec(needed) is None:
            pytest.skip(f"{needed} is not installed here, and nothing else builds a wheel without a network")
    sources, built = tmp_path_factory.mktemp("sources"), tmp_path_factory.mktemp("built")
    for name in SOURCES:
        origin, copy = PROJECT / name, sources / name
        if origin.is_dir():
            shutil.copytree(origin, copy, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(origin, copy)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--no-index")
    done(*pip, "--no-deps", "--no-build-isolation", "--wheel-dir", str(built), ".", cwd=sources)
    (found,) = built.glob("*.whl")
    return found


@dataclass(frozen=True)
class Installed:
    """An environment that has the wheel, and an empty folder to work in."""

    programs: Path
    folder: Path
    variables: dict[str, str]

    def run(self, program: str, *arguments: str, **variables: str) -> str:
        env = {**self.variables, **variables}
        return done(str(self.programs / program), *arguments, cwd=self.folder, env=env)


@pytest.fixture(scope="module")
def programs(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of an environment that has the wheel."""
    if os.name != "posix":
        pytest.skip("the environment's layout is that of POSIX systems")
    home = tmp_path_factory.mktemp("environment")
    venv.create(home, symlinks=True)
    python = str(home / "bin" / "python")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python, "install", "--no-index")
    done(*pip, "--no-deps", str(wheel), cwd=home)
    purelib = done(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=home).strip()
    (Path(purelib) / "needed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return home / "bin"


@pytest.fixture
def installed(programs: Path, bare_settings: Settings, tmp_path: Path) -> Installed:
    folder = tmp_path / "empty"
    folder.mkdir()
    # The environment as a shell has it: nothing in it leads to the checkout.
    foreign = ("PYTHONPATH", "DAGSTER_HOME", "VIRTUAL_ENV")
    variables = {name: value for name, value in environment(bare_settings).items() if name not in foreign}
    return Installed(programs, folder, {**variables, "TRUEPIXEL_IDLE": "0.5"})


def test_the_wheel_holds_one_package_and_everything_that_it_reads(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    folders = {name.partition("/")[0] for name in names}
    assert {folder for folder in folders if not folder.endswith(".dist-info")} == {"truepixel_dagster"}
    package = PROJECT / "truepixel_dagster"
    files = {path for path in package.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    assert {str(path.relative_to(PROJECT)) for path in files} <= set(names)
    assert any(name.endswith("/licenses/LICENSE") for name in names)


def test_the_program_runs_from_the_wheel_alone(installed: Installed, wheel: Path) -> None:
    where = installed.run("python", "-c", "import truepixel_dagster; print(truepixel_dagster.__file__)")
    assert Path(where).is_relative_to(installed.programs.parent)
    assert "setup" in installed.run("truepixel", "--help")
    assert installed.run("truepixel", "--version") == f"truepixel, version {wheel.name.split('-')[1]}\n"


def test_the_wheel_works_from_setup_to_a_report(installed: Installed) -> None:
    sample = SAMPLES / "shopify_webhooks.jsonl"
    records = [json.loads(line) for line in sample.read_text().splitlines() if line.strip()]
    assert "Kafka topic" in installed.run("truepixel", "setup")
    installed.run("truepixel", "produce", str(sample))
    assert json.loads(installed.run("truepixel", "drain", "--json"))["messages"] == len(records)
    installed.run("truepixel", "flush")
    assert json.loads(installed.run("truepixel", "audit", "--json"))["differences"] == []
    shop = records[0]["key"].partition(":")[0]
    assert json.loads(installed.run("truepixel", "report", "--shop", shop, "--json"))["test_orders"] > 0


def test_dagster_dev_drains_the_topic(installed: Installed, bare_settings: Settings) -> None:
    installed.run("truepixel", "setup")
    installed.run("truepixel", "produce", str(SAMPLES / "shopify_pixel.jsonl"))
    log = installed.folder / "dev.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [installed.programs / "python", "-m", "dagster", "dev", "-m", "truepixel_dagster.definitions", "-p", "0"],
            cwd=installed.folder,
            env=installed.variables,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        end = time.monotonic() + SECONDS
        while any(entry.lag for entry in lag(bare_settings.kafka())):
            assert process.poll() is None, log.read_text()[-6000:]
            assert time.monotonic() < end, log.read_text()[-6000:]
            time.sleep(1)
    finally:
        end_tree(process)


def test_a_shell_completes_commands(installed: Installed) -> None:
    assert "_TRUEPIXEL_COMPLETE=bash_complete" in installed.run("truepixel", _TRUEPIXEL_COMPLETE="bash_source")
    asked = {"_TRUEPIXEL_COMPLETE": "bash_complete", "COMP_WORDS": "truepixel se", "COMP_CWORD": "1"}
    assert installed.run("truepixel", **asked).split() == ["plain,settings", "plain,setup"]
