"""The peers' virtual environment: separate, because their pinned packages conflict with the project's."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from truepixel_dagster.instance.process import ROOT

LOCK = Path(__file__).with_name("requirements.lock")
HOME = ROOT / ".truepixel" / "peers-venv"
# The versions for which Bytewax has wheels and on which Quix Streams runs.
PYTHONS = {(3, 11): "python3.11", (3, 12): "python3.12"}


def interpreter(say: Callable[[str], None]) -> Path:
    """Return the environment's Python; create it at first use, and again after a change of the lock.

    Raises:
        RuntimeError: No Python that both peers run on is installed.
    """
    python, stamp = HOME / "bin" / "python", HOME / "stamp"
    wanted = hashlib.sha256(LOCK.read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    say("setting up the peers' virtual environment, once")
    shutil.rmtree(HOME, ignore_errors=True)
    subprocess.run([_base(), "-m", "venv", str(HOME)], check=True)
    install = ["install", "--quiet", "--disable-pip-version-check", "--require-hashes", "--only-binary", ":all:"]
    subprocess.run([str(python), "-m", "pip", *install, "-r", str(LOCK)], check=True)
    stamp.write_text(wanted)
    return python


def _base() -> str:
    if sys.version_info[:2] in PYTHONS:
        return sys.executable
    for name in PYTHONS.values():
        if found := shutil.which(name):
            return found
    raise RuntimeError("the peers need Python 3.11 or 3.12: Bytewax has wheels for no newer one")
