"""What the collector's process loads: neither Dagster nor the modules of other commands."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys
from click.testing import CliRunner
from truepixel_dagster.cli import main
# A port that is out of range ends the command before it connects to anything.
assert CliRunner().invoke(main, ["collector", "--port", "-1"]).exit_code == 2
import truepixel_dagster.collector.serve
print(" ".join(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def test_no_dagster_is_in_its_process() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert {"starlette", "uvloop", "confluent_kafka"} <= loaded
    assert not loaded & {"dagster", "pandas", "numpy", "sqlalchemy", "psutil"}
