"""Starts the machine's Chromium without the features that look for updates, accounts or other hosts."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

# On a closed network, a browser that looks for updates, accounts or other protocols waits for hosts in vain.
QUIET = ("--disable-background-networking", "--disable-component-update", "--disable-quic", "--disable-sync")


class NoChromium(Exception):
    """The machine has no Chromium; the message says how to install it."""


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run a browser until the block ends.

    Raises:
        NoChromium: There is none.
    """
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        raise NoChromium("no Chromium: install it (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=program, args=[*QUIET, "--disable-gpu", "--no-first-run"])
        yield found
        found.close()
