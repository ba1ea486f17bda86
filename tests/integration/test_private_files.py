"""Runs, servers and commands leave only private files on disk, even with a umask that hides nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.dagster.test_private_files import open_to_others
from truepixel_dagster.instance.process import ended, execute, make_history
from truepixel_dagster.settings import Settings


@pytest.fixture(autouse=True)
def _open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def test_a_run_leaves_nothing_that_others_could_read(settings: Settings) -> None:
    home = settings.data_dir / "dagster"
    (home / "storage" / "before" / "compute_logs").mkdir(parents=True)
    (home / "storage" / "before" / "compute_logs" / "x.out").write_text("from before")
    make_history(settings)
    log = settings.data_dir / "logs" / "flush.log"
    run = execute(settings, "flush", {}, log)
    with ended([run]):
        assert run.wait() == 0, log.read_text()
    assert list(home.rglob("compute_logs/*.err")), "the run's own output was kept"
    assert open_to_others(home) == []
    assert open_to_others(log.parent) == []


def test_the_local_servers_data_are_the_owners_only(servers: Settings) -> None:
    stack: Path = servers.data_dir / "stack"
    folders = sorted(folder for folder in stack.iterdir() if folder.is_dir())
    assert len(folders) >= 4
    for folder in folders:
        assert list(folder.iterdir())
        assert open_to_others(folder) == []
