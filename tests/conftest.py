"""The options and fixtures of all tests."""

import gc
import os
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import HealthCheck, settings

from tests.examples import FULL, QUICK
from truepixel_dagster.settings import Settings

PROJECT = Path(__file__).resolve().parents[1]


class _DotEnv(os.PathLike[str]):
    """The `.env` of the working folder, except the project's own, which belongs to the developer."""

    def __fspath__(self) -> str:
        return os.devnull if Path.cwd() == PROJECT else ".env"


Settings.model_config["env_file"] = _DotEnv()  # type: ignore[typeddict-item]

# The servers that tests start run for minutes, and the code of Java's second compiler pays off only later. Without it,
# a start and a test take half the time.
os.environ.setdefault("JAVA_TOOL_OPTIONS", "-XX:TieredStopAtLevel=1")

pytest.register_assert_rewrite("tests.event_log")

# Machines are noisy: the time of an example says nothing about the code. `./run test unit` takes the profile `quick`.
for profile, number in (("full", FULL), ("quick", QUICK)):
    settings.register_profile(profile, max_examples=number, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("full")

GIB = 1024**3
GIB_OF_A_STACK = 2

# Files whose tests run Dagster's daemon, UI and lanes for minutes: dozens of processes. Two of them at a time overload
# two processors: their runs are given up before they start, then started again, and no test makes progress.
LIVE = {
    "tests/browser/test_operator.py",
    "tests/crash/test_faults.py",
    "tests/integration/test_backfill.py",
    "tests/integration/test_demo.py",
    "tests/integration/test_image.py",
    "tests/integration/test_own_servers.py",
    "tests/integration/test_red_outage.py",
    "tests/integration/test_webserver_access.py",
    "tests/integration/test_wheel.py",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let `tests/mutations.py` start the servers once for all its runs."""
    parser.addoption("--servers", help="data folder and addresses of a local stack that runs, as JSON")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return the number of processes of `-n auto`, which `./run test` uses; only whole folders get more than one.

    Tests with servers wait more than they compute, so they get one process more than there are processors; each process
    starts servers of its own, which need memory.
    """
    paths = [Path(config.invocation_params.dir, argument.partition("::")[0]) for argument in config.args]
    if config.option.collectonly or config.option.keyword or not all(path.is_dir() for path in paths):
        return 0
    processors = psutil.cpu_count() or 1
    if all(path.is_relative_to(PROJECT / "tests" / "unit") for path in paths):
        return processors
    return max(1, min(processors + 1, psutil.virtual_memory().available // (GIB_OF_A_STACK * GIB)))


@pytest.hookimpl(optionalhook=True, tryfirst=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give each file to one process, and all of `LIVE` to the same one, so that no two of them run at a time."""
    from xdist.scheduler import LoadFileScheduling

    scheduling = LoadFileScheduling(config, log)
    file_of = scheduling._split_scope
    scheduling._split_scope = lambda test: "live" if file_of(test) in LIVE else file_of(test)
    return scheduling


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Exclude imported objects from garbage collection, which would scan millions of them again and again."""
    gc.collect()
    gc.freeze()
