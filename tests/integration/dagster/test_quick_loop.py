"""The unit tests stay quick: collecting them imports no Dagster, which takes seconds in each process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
COLLECT = """
import sys
import pytest
assert pytest.main(["tests/unit", "--collect-only", "-qq", "-p", "no:cacheprovider"]) == 0
assert "dagster" not in sys.modules
"""


def test_collecting_the_unit_tests_imports_no_dagster() -> None:
    done = subprocess.run([sys.executable, "-c", COLLECT], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
