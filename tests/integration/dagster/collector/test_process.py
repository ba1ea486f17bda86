"""The collector's process loads neither Dagster nor other commands' modules, and none of its parts fails unnoticed."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from functools import partial
from typing import Any, cast

import pytest

from truepixel_dagster.collector.serve import _stop_if_failed

PROGRAM = """
import sys
from click.testing import CliRunner
from truepixel_dagster.cli import main
# A port that is out of range ends the command before it connects to anything.
assert CliRunner().invoke(main, ["collector", "--port", "-1"]).exit_code == 2
import truepixel_dagster.collector.serve
print(" ".join(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def test_the_process_of_the_collector_loads_no_dagster() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert {"starlette", "uvloop", "confluent_kafka"} <= loaded
    assert not loaded & {"dagster", "pandas", "numpy", "sqlalchemy", "psutil"}


@pytest.mark.parametrize(("ends", "stops"), [(ValueError("unforeseen"), True), (None, False)])
def test_a_part_beside_the_server_that_fails_stops_the_collector(ends: Exception | None, stops: bool) -> None:
    class Server:
        left = False

        def leave(self) -> None:
            self.left = True

    async def part() -> None:
        if ends:
            raise ends

    async def beside() -> tuple[bool, list[BaseException]]:
        server, failures = Server(), list[BaseException]()
        task = asyncio.create_task(part())
        task.add_done_callback(partial(_stop_if_failed, cast("Any", server), failures))
        await asyncio.wait([task])
        await asyncio.sleep(0)
        return server.left, failures

    assert asyncio.run(beside()) == (stops, [ends] if ends else [])
