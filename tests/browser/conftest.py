"""Chromium, the built pixels, and servers for this folder's tests alone: skipped where one of them is missing."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.integration.conftest import bare_settings, settings, stores
from truepixel_dagster.local.stack import ephemeral_stack
from truepixel_dagster.settings import Settings

__all__ = ["bare_settings", "settings", "stores"]

PIXEL = Path(__file__).parents[2] / "pixel"
# A browser that looks for updates, accounts or other protocols waits for hosts that a closed network does not have.
QUIET = ("--disable-background-networking", "--disable-component-update", "--disable-quic", "--disable-sync")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium: install it (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=program, args=[*QUIET, "--disable-gpu", "--no-first-run"])
        yield found
        found.close()


@pytest.fixture(scope="module")
def built() -> None:
    """The pixels, built from what is here now."""
    if shutil.which("node") is None:
        pytest.skip("no Node.js: install 20.19 or newer")
    if not (PIXEL / "node_modules").is_dir():
        pytest.skip("the pixels' packages are not installed: ./run pixels")
    subprocess.run(["node", "build.mjs"], cwd=PIXEL, check=True)


@pytest.fixture(scope="module")
def servers(browser: Browser, built: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """The genuine servers, which end with the last test of a file."""
    with ephemeral_stack(tmp_path_factory.mktemp("servers")) as settings:
        yield settings
