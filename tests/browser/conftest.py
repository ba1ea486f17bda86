"""Chromium, the built pixels, and servers for this folder's tests: skipped if one of them is missing."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.browser.chromium import NoChromium, chromium
from tests.integration.conftest import bare_settings, settings, stores
from truepixel_dagster.local.ephemeral import ephemeral_stack
from truepixel_dagster.settings import Settings

__all__ = ["bare_settings", "settings", "stores"]

PIXEL = Path(__file__).parents[2] / "pixel"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    try:
        with chromium() as found:
            yield found
    except NoChromium as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def built() -> None:
    """The pixels, built from the current sources."""
    if shutil.which("node") is None:
        pytest.skip("no Node.js: install 20.19 or newer")
    if not (PIXEL / "node_modules").is_dir():
        pytest.skip("the pixels' packages are not installed: ./run pixels")
    subprocess.run(["node", "build.mjs"], cwd=PIXEL, check=True)


@pytest.fixture(scope="module")
def servers(browser: Browser, built: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """The real servers, stopped after the last test of a file."""
    with ephemeral_stack(tmp_path_factory.mktemp("servers")) as settings:
        yield settings
